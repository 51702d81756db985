import asyncio
import contextlib
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator

import aiohttp
import orjson
import pytest
from click.testing import CliRunner

from permutive_worker.cli.sandbox import sandbox as command
from permutive_worker.sandbox.app import Sandbox
from permutive_worker.sandbox.options import SandboxOptions

IDENTIFY = {"user_id": "u1", "aliases": []}
KEY = {"X-API-Key": "key"}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers=KEY) as session:
        yield session


async def identify(session, sandbox, user_id: str = "u1") -> int:
    async with session.post(f"{sandbox.url}/v2.0/identify", json=IDENTIFY | {"user_id": user_id}) as response:
        await response.read()
        return response.status


async def test_a_request_and_its_entry(session) -> None:
    async with Sandbox() as sandbox:
        async with session.post(f"{sandbox.url}/v2.0/identify", json=IDENTIFY) as response:
            assert (response.status, await response.json()) == (200, {"user_id": "u1"})
            assert response.headers["Content-Type"] == "application/json"

        async with session.get(f"{sandbox.url}/_sandbox/ledger") as response:
            assert (await response.json())["taken"] == 1


async def test_many_at_once_over_connections_that_stay(session) -> None:
    async with Sandbox() as sandbox:
        statuses = await asyncio.gather(*(identify(session, sandbox, f"u{n}") for n in range(300)))

        assert set(statuses) == {200}
        assert sandbox.summary()["unique"] == 300


async def test_a_body_in_chunks_and_one_that_is_large(session) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"user_id":"u1",'
        yield b'"aliases":[]}'

    event = {"name": "a", "user_id": "u1", "properties": {"a": "x" * 900_000}}
    async with Sandbox() as sandbox:
        async with session.post(f"{sandbox.url}/v2.0/identify", data=chunks()) as response:
            assert response.status == 200
        async with session.post(f"{sandbox.url}/v2.0/events", json=event, expect100=True) as response:
            assert response.status == 201
            assert (await response.json())["properties"] == event["properties"]


async def test_requests_sent_together_are_answered_in_order() -> None:
    request = b"POST /v2.0/identify?k=key HTTP/1.1\r\nContent-Length: 29\r\n\r\n" + orjson.dumps(IDENTIFY)
    end = b"DELETE /nowhere?k=key HTTP/1.1\r\nConnection: close\r\n\r\n"
    async with Sandbox(SandboxOptions(latency_seconds=0.001)) as sandbox:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(sandbox.url.rsplit(":", 1)[1]))
        writer.write(request * 2 + end)
        answers = await reader.read()
        writer.close()
        await writer.wait_closed()

    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"200", b"404"]


async def test_what_is_no_http_is_refused() -> None:
    async with Sandbox() as sandbox:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(sandbox.url.rsplit(":", 1)[1]))
        writer.write(b"hello\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")


async def test_a_reset_looks_like_one(session) -> None:
    async with Sandbox(SandboxOptions(faults="reset=1")) as sandbox:
        for number in range(20):
            with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
                await identify(session, sandbox, f"u{number}")

        summary = sandbox.summary()
        assert summary["by_status"] == {"0": 20}
        assert 0 < summary["taken"] < 20


async def test_a_truncated_answer_ends_too_early(session) -> None:
    async with Sandbox(SandboxOptions(faults="truncate=1")) as sandbox:
        with pytest.raises(aiohttp.ClientPayloadError):
            await identify(session, sandbox)

        assert sandbox.summary()["taken"] == 1


async def test_a_hang_lasts_until_the_client_goes() -> None:
    async with Sandbox(SandboxOptions(faults="hang=1")) as sandbox:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(sandbox.url.rsplit(":", 1)[1]))
        writer.write(b"POST /v2.0/users?k=key HTTP/1.1\r\n\r\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read()
        writer.close()
        await writer.wait_closed()

        assert sandbox.summary()["faults"] == {"hang": 1}


async def test_closing_lets_go_of_those_who_hang(session) -> None:
    arrived = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        async with Sandbox(
            SandboxOptions(faults="hang=1"), log=lambda _: arrived.set(), log_requests=True
        ) as sandbox:
            waiting = group.create_task(_cut_off(identify(session, sandbox)))
            await arrived.wait()
        await waiting


async def _cut_off(request) -> None:
    with pytest.raises(aiohttp.ClientError):
        await request


async def test_a_hint_is_a_header(session) -> None:
    options = SandboxOptions(rate_limit_per_second=0.001, burst=1, retry_after_seconds=2)
    async with Sandbox(options) as sandbox:
        await identify(session, sandbox)
        async with session.post(f"{sandbox.url}/v2.0/identify", json=IDENTIFY) as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "2")


async def test_it_tells_what_happens_each_second(session) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    async with Sandbox(log=told.put_nowait, log_requests=True) as sandbox:
        await identify(session, sandbox)
        lines = [await told.get(), await told.get()]

    assert lines[0].endswith("  identify  200  taken")
    assert lines[1].endswith("       1 req/s  200: 1  taken 1  duplicates 0")


async def test_a_port_in_use_is_an_error_and_leaves_nothing_behind() -> None:
    async with Sandbox() as first:
        second = Sandbox()
        with pytest.raises(OSError, match="in use"):
            await second.start(port=int(first.url.rsplit(":", 1)[1]))
        await second.close()


@contextlib.asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    start = "from permutive_worker.cli.sandbox import sandbox; sandbox()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", start, *arguments, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_program_runs_until_a_signal_and_sums_up(session, number) -> None:
    async with program("--port", "0", "--api-key", "key", "--latency", "1ms") as process:
        assert process.stderr
        first = (await process.stderr.readline()).decode()
        hint = (await process.stderr.readline()).decode()
        url = first.split(" at ")[1].split(";")[0]
        async with session.post(f"{url}/v2.0/identify", json=IDENTIFY) as response:
            assert response.status == 200
        process.send_signal(number)
        _, errors = await process.communicate()

    assert f"permutive-worker run --base-url {url} jobs.ndjson" in hint
    assert process.returncode == 0
    assert orjson.loads(errors.splitlines()[-1])["taken"] == 1


def test_a_port_in_use_is_one_sentence_and_69() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = CliRunner().invoke(command, ["--port", str(taken.getsockname()[1])])

    assert result.exit_code == 69
    assert "Cannot listen on 127.0.0.1:" in result.output
    assert len(result.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--faults", "odd"], "known are none, storm, flaky, resets, truncated, hangs, revoked, lossy"),
        (["--latency", "soon"], "0.05 and 50ms are"),
        (["--rate-limit", "-1"], "rate limit"),
        (["--burst", "0"], "burst"),
    ],
)
def test_flags_that_cannot_be_meant(arguments, says) -> None:
    result = CliRunner().invoke(command, arguments)

    assert result.exit_code == 2  # click's own; the group of commands makes it the house's
    assert says in " ".join(result.output.split())


def test_the_help_has_an_example() -> None:
    result = CliRunner().invoke(command, ["--help"])

    assert result.exit_code == 0
    assert "permutive-worker sandbox --rate-limit 500 --faults lossy --seed 7" in result.output
