"""A queue that cannot be used at the start, as the program tells of it."""

import asyncio
import signal

import pytest
from support.program import KEY, program, start

from permutive_worker.sources.link import CONNECT_SECONDS

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
