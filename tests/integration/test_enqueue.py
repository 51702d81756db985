"""`permutive-worker enqueue` with a real broker."""

import asyncio
import gzip
import os
import pty
import re
from contextlib import suppress

import pytest
from redis.asyncio import Redis as Client
from support.brokers import Redis
from support.program import program, start

from permutive_worker.model import Settlement
from permutive_worker.worker.queues import open_publisher

pytestmark = pytest.mark.process


@pytest.fixture
async def redis(tmp_path):
    (tmp_path / "broker").mkdir()
    started = Redis(tmp_path / "broker")
    await started.start()
    yield started
    await started.stop()


async def test_files_go_into_the_queue_in_order_and_are_confirmed(tmp_path, redis):
    lines = [b'{"n":%d}' % number for number in range(5000)]
    (tmp_path / "a.ndjson").write_bytes(b"\n".join(lines[:2000]) + b"\n\n  \n")
    (tmp_path / "b.ndjson.gz").write_bytes(gzip.compress(b"\n".join(lines[2000:])))

    ended = await program("enqueue", "--create", "a.ndjson", "b.ndjson.gz", redis.url, cwd=tmp_path, env={})

    assert (ended.code, ended.stdout) == (0, b"")
    assert "5,000 lines confirmed" in ended.text
    source = redis.source()
    await source.open()
    received = []
    while len(received) < 5000:
        received += await source.receive(100_000)
    assert [delivery.raw for delivery in received] == lines
    source.settle([(delivery, Settlement.ACK) for delivery in received])
    await source.close()


async def test_stdin_goes_into_the_queue(tmp_path, redis):
    ended = await program("enqueue", "--create", "-", redis.url, cwd=tmp_path, env={}, stdin=b"{}\n{}")

    assert (ended.code, "2 lines confirmed" in ended.text) == (0, True)


async def test_lines_that_the_broker_does_not_confirm_are_told_and_the_exit_is_no_success(tmp_path, redis):
    (tmp_path / "a.ndjson").write_bytes(b"{}\n" * 3)
    async with Client(port=redis.port, protocol=2) as client:
        await client.xadd("jobs", {"job": "{}"})
        await client.config_set("maxmemory", "1")
        await client.config_set("maxmemory-policy", "noeviction")

    ended = await program("enqueue", "a.ndjson", redis.url, cwd=tmp_path, env={})

    assert ended.code == 69
    assert "did not confirm every line" in ended.text
    assert "0 lines are confirmed; of the lines from a.ndjson:1 on some may be in the queue" in ended.text


async def test_a_terminal_sees_count_and_rate_in_place(tmp_path, redis):
    (tmp_path / "a.ndjson").write_bytes(b"{}\n" * 50_000)
    screen, terminal = pty.openpty()
    process = await start("enqueue", "--create", "a.ndjson", redis.url, cwd=tmp_path, env={}, stderr=terminal)
    os.close(terminal)
    shown = b""
    with suppress(OSError):  # the other side is gone
        while part := await asyncio.to_thread(os.read, screen, 65536):
            shown += part
    os.close(screen)

    assert await process.wait() == 0
    *_, last = shown.strip().split(b"\r")
    assert re.fullmatch(rb"50,000 lines confirmed in [\d.]+ s, [\d,]+/s", last), shown


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("redis://127.0.0.1:1/0?stream=jobs", 69, "cannot be reached"),
        ("redis://127.0.0.1:1/0", 78, "needs a stream"),
        ("redis://127.0.0.1:1/0?steam=jobs", 78, "did you mean stream?"),
        ("redis://127.0.0.1:1/zero?stream=jobs", 78, "number of a database"),
        ("reddis://127.0.0.1/0?stream=jobs", 78, "did you mean redis://?"),
        ("kafka://127.0.0.1:1/jobs", 69, "cannot be reached"),
        ("kafka://127.0.0.1:1/jobs?sesion=9", 78, "did you mean session?"),
        ("kafka://127.0.0.1:1", 78, "the name of a topic"),
        ("sqs://jobs?region=eu-west-1&endpoint=http://127.0.0.1:1", 69, "cannot be reached"),
        ("sqs://jobs?regoin=eu-west-1", 78, "did you mean region?"),
        ("jobs.ndjson", 64, "URL of the queue last"),
    ],
)
async def test_what_cannot_be_meant_is_one_sentence(tmp_path, url, code, said):
    (tmp_path / "a.ndjson").write_bytes(b"{}\n")

    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    ended = await program("enqueue", "a.ndjson", url, cwd=tmp_path, env=keys)

    assert (ended.code, ended.stdout) == (code, b"")
    assert said in ended.text
    assert "Traceback" not in ended.text


async def test_a_stream_that_is_not_there_is_made_only_when_asked(tmp_path, redis):
    (tmp_path / "a.ndjson").write_bytes(b"{}\n")

    ended = await program("enqueue", "a.ndjson", redis.url, cwd=tmp_path, env={})

    assert (ended.code, "--create" in ended.text) == (78, True)


async def test_the_help_shows_a_url_that_is_sound_for_each_broker(tmp_path):
    ended = await program("enqueue", "--help", cwd=tmp_path, env={})

    urls = set(re.findall(r"\w+://[^\s']+", ended.stdout.decode()))
    assert {url.partition(":")[0] for url in urls} == {"redis", "nats", "kafka", "amqp", "sqs"}
    for url in urls:
        open_publisher(url, create=False)
