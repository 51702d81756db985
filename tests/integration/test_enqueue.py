"""`permutive-worker enqueue` with a real broker."""

import gzip

import pytest
from support.brokers import Redis
from support.program import program

from permutive_worker.model import Settlement

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
