"""A queue that cannot be used at the start, as the program tells of it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support.program import KEY, program, start

from permutive_worker.errors import UnreachableError
from permutive_worker.sources import rabbit_link
from permutive_worker.sources.link import CONNECT_SECONDS
from permutive_worker.worker.queues import open_publisher

pytestmark = pytest.mark.process

VARIABLE = "PERMUTIVE_WORKER_SOURCE__PASSWORD"
PASSWORD = "marker-password-31c0"


@pytest.mark.parametrize("url", ["redis://{}/0?stream=jobs", "nats://{}/JOBS/workers", "amqp://{}/jobs"])
async def test_a_stop_does_not_wait_for_a_broker_that_says_nothing(tmp_path, url):
    came, writers = asyncio.Event(), []

    def on_connect(_reader, writer):
        writers.append(writer)
        came.set()

    silent = await asyncio.start_server(on_connect, "127.0.0.1", 0)
    address = "{}:{}".format(*silent.sockets[0].getsockname())
    process = await start("run", url.format(address), cwd=tmp_path)
    await came.wait()
    began = asyncio.get_running_loop().time()

    process.send_signal(signal.SIGTERM)
    _, told = await process.communicate()

    took_seconds = asyncio.get_running_loop().time() - began
    silent.close()
    for writer in writers:
        writer.close()
    await asyncio.sleep(0)
    assert process.returncode == 0, told.decode()
    assert took_seconds < CONNECT_SECONDS / 2


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("nats://ann@127.0.0.1:1/JOBS/workers", 69, "cannot be reached"),
        ("amqp://ann@127.0.0.1:1/jobs", 69, "cannot be reached"),
        ("redis://ann@127.0.0.1:1/0?stream=jobs", 69, "cannot be reached"),
        ("redis://ann@127.0.0.1:1/jobs?stream=jobs", 78, "must be the number of a database"),
        ("redis://ann@127.0.0.1:1/0", 78, "needs a stream"),
        ("nats://ann@127.0.0.1:1/JOBS/workers?ack_wait=soon", 78, "ack_wait must be a number"),
        ("amqp://ann@127.0.0.1:1/jobs?queue=jobs", 78, "has no parameter 'queue'"),
        ("rabbit://ann@127.0.0.1:1/jobs", 78, "is no kind of queue"),
        (
            "rediss://ann@127.0.0.1:1/0?stream=jobs&ca=absent.pem",
            78,
            "the file of ca, absent.pem, cannot be used",
        ),
    ],
)
async def test_what_is_wrong_is_one_sentence(tmp_path, url, code, said):
    ended = await program(
        *("run", "--log-level", "debug", url),
        cwd=tmp_path,
        env={"PERMUTIVE_API_KEY": KEY, VARIABLE: PASSWORD},
    )

    assert (ended.code, said in ended.text) == (code, True), ended.text
    assert sum(line.startswith("permutive-worker:") for line in ended.text.splitlines()) == 1
    assert PASSWORD not in ended.text
    assert "ann@" not in ended.text
    assert "Traceback" not in ended.text


@pytest.fixture
async def silent():
    """HOST:PORT of a server that takes connections and says nothing."""
    writers = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    yield "{}:{}".format(*server.sockets[0].getsockname())
    server.close()
    for writer in writers:
        writer.close()
    await asyncio.sleep(0)


async def test_a_publisher_does_not_wait_for_ever_for_a_broker_that_says_nothing(silent, monkeypatch):
    monkeypatch.setattr(rabbit_link, "ANSWER_SECONDS", 0.2)  # of all libraries this one waits without a bound
    publisher = open_publisher(f"amqp://{silent}/jobs", create=False)

    with pytest.raises(UnreachableError, match="TimeoutError"):
        await publisher.open()

    await publisher.close()


@pytest.fixture
def without_names(tmp_path):
    """What starts a program for which the resolver never answers: a nameserver that reads nothing."""
    deaf = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own = (
        "unshare",
        "--mount",
        "sh",
        "-c",
        f'mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && exec "$@"',
        "sh",
    )
    try:
        deaf.bind(("127.0.53.53", 53))
        (tmp_path / "resolv.conf").write_text("nameserver 127.0.53.53\noptions timeout:30 attempts:5\n")
        subprocess.run([*own, "true"], check=True)
    except (OSError, subprocess.CalledProcessError):
        deaf.close()
        pytest.skip("only root may have a resolver of its own")
    yield own
    deaf.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis://broker.example.com/0?stream=jobs",
        "nats://broker.example.com/JOBS/workers",
        "amqp://broker.example.com/jobs",
        "kafka://broker.example.com/jobs",
        "sqs://jobs?region=eu-west-1&endpoint=http://broker.example.com",
    ],
    ids=lambda url: url.partition(":")[0],
)
async def test_a_stop_does_not_wait_for_a_name_that_is_looked_up(tmp_path, without_names, url):
    process = await asyncio.create_subprocess_exec(
        *(*without_names, sys.executable, "-m", "permutive_worker", "run", "--log-format", "json", url),
        cwd=tmp_path,
        env=os.environ | {"PERMUTIVE_API_KEY": KEY, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "a"},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(15):
            while not catches_sigterm(process.pid):
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)  # the connect begins
            process.send_signal(signal.SIGTERM)
            told = await process.stderr.read()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        code = await process.wait()

    assert code == 0, told.decode()
    assert told.splitlines()[-1].startswith(b'{"run_id"')


def catches_sigterm(pid) -> bool:
    """Then it is the program, and it runs."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)
