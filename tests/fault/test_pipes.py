"""What becomes of a pipe at a stop: nobody can read it twice, so every line must be somewhere."""

import asyncio
import gzip
import json
import os
import signal

import pytest
from support.faults import assert_conserved, ended, identify, lines, running, said, stopped
from support.program import program
from support.raw_server import hang, raw_server

from permutive_worker.sandbox.app import Sandbox
from permutive_worker.sandbox.options import SandboxOptions

pytestmark = pytest.mark.process
LATE_500 = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def pipe():
    """The end the program reads, which stays open here too, and the end a test writes."""
    read_fd, write_fd = os.pipe()
    yield read_fd, write_fd
    os.close(read_fd)
    os.close(write_fd)


def returned(tmp_path):
    return (tmp_path / "dead-letters.returned.ndjson").read_bytes()


async def reading(tmp_path, url, read_fd, server, *arguments):
    """A program that has read what is in the pipe, for its first line is being sent."""
    process = await running("--base-url", url, *arguments, cwd=tmp_path, stdin=read_fd)
    await server.asked.wait()
    return process


async def test_the_line_that_is_being_written_is_finished_and_the_next_stays_in_the_pipe(tmp_path, pipe):
    read_fd, write_fd = pipe
    whole, cut, later = lines(identify(1)), lines(identify(2)), lines(identify(3))
    os.write(write_fd, whole + cut[:20])
    async with raw_server(hang) as server:
        process = await reading(tmp_path, server.url, read_fd, server, "--set", "delivery.drain_seconds=0")
        process.send_signal(signal.SIGTERM)
        await said(process, "run.stopping")
        os.write(write_fd, cut[20:] + later)
        told = await ended(process)

    os.set_blocking(write_fd, False)
    os.write(write_fd, b"end")
    left = os.read(read_fd, 1000).removesuffix(b"end")
    kept = returned(tmp_path)
    assert told.code == 75, told.text
    # The log says so a moment before the reader hears it; if that was late, the next line was read too.
    assert left in (later, b"")
    assert kept + left == whole + cut + later
    assert told.summary["read"] == told.summary["returned"] == kept.count(b"\n")


async def test_a_fragment_that_nobody_finishes_is_the_last_line_of_the_returned_file(tmp_path, pipe):
    read_fd, write_fd = pipe
    whole, fragment = lines(*map(identify, range(3))), b'{"type":"identify","user_'
    os.write(write_fd, whole + fragment)
    async with raw_server(hang) as server:
        process = await reading(tmp_path, server.url, read_fd, server, "--set", "delivery.drain_seconds=0")
        told = await stopped(process)

    assert told.code == 75, told.text
    assert returned(tmp_path) == whole + fragment + b"\n"
    assert told.summary["read"] == told.summary["returned"] == 4
    assert told.summary["ambiguous"] == 3


async def test_a_gzip_that_is_cut_by_the_stop_ends_with_its_fragment(tmp_path, pipe):
    read_fd, write_fd = pipe
    packed = gzip.compress(lines(*map(identify, range(2000))))
    os.write(write_fd, packed[: len(packed) // 2])
    async with raw_server(hang) as server:
        process = await reading(tmp_path, server.url, read_fd, server, "--set", "delivery.drain_seconds=0")
        told = await stopped(process)

    kept = returned(tmp_path).splitlines()
    assert told.code == 75, told.text
    assert len(kept) == told.summary["returned"] == told.summary["read"]
    assert lines(*map(identify, range(2000))).startswith(b"\n".join(kept))


async def test_what_is_returned_is_in_input_order_though_some_of_it_was_in_flight(tmp_path, pipe):
    read_fd, write_fd = pipe
    # Every third line follows another of its user; those in flight come back after the rest was written.
    jobs = [identify(number, user_id=f"user-{number % 40}") for number in range(120)]
    os.write(write_fd, lines(*jobs))
    answer = asyncio.Event()

    async def late(writer):
        await answer.wait()
        writer.write(LATE_500)
        await writer.drain()

    async with raw_server(late) as server:
        process = await reading(tmp_path, server.url, read_fd, server, "--max-in-flight", "8")
        process.send_signal(signal.SIGTERM)
        path = tmp_path / "dead-letters.returned.ndjson"
        while not path.exists() or path.read_bytes().count(b"\n") < 112:
            await asyncio.sleep(0.01)  # on the disk while requests are still in flight
        answer.set()
        told = await ended(process)

    assert told.code == 75, told.text
    assert returned(tmp_path) == lines(*jobs)
    assert (path.stat().st_mode & 0o777, os.listdir(tmp_path)) == (0o600, [path.name])


async def test_what_was_returned_runs_again_and_nothing_is_missing_or_twice(tmp_path):
    jobs = lines(*map(identify, range(3000)))
    async with Sandbox(SandboxOptions()) as sandbox:
        process = await running(
            "--base-url", sandbox.url, "--rate", "1500", cwd=tmp_path, stdin=asyncio.subprocess.PIPE
        )
        feeding = asyncio.create_task(ended(process, jobs))
        while sandbox.summary()["unique"] < 500:
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        first = await feeding
        again = returned(tmp_path)
        (tmp_path / "dead-letters.returned.ndjson").unlink()
        second = await program("run", "--base-url", sandbox.url, cwd=tmp_path, stdin=again)
        ledger = sandbox.summary()

    assert (first.code, second.code) == (75, 0), first.text + second.text
    assert_conserved(first.summary)
    # What the program did not read is still with its writer, which is told so by a broken pipe.
    assert ledger["unique"] == first.summary["read"]
    assert ledger["duplicates"] == 0


async def test_the_returned_file_may_be_named_as_an_input(tmp_path):
    (tmp_path / "dead-letters.returned.ndjson").write_bytes(lines(identify(1)))
    async with Sandbox(SandboxOptions()) as sandbox:
        told = await program("run", "--base-url", sandbox.url, "./dead-letters.returned.ndjson", cwd=tmp_path)
    assert (told.code, told.summary["delivered"]) == (0, 1), told.text


async def test_lines_that_cannot_be_returned_are_counted_as_lost_and_end_with_74(tmp_path, pipe, small_disk):
    read_fd, write_fd = pipe
    os.write(write_fd, lines(*(identify(number, job_id="x" * 100) for number in range(100))))
    async with raw_server(hang) as server:
        process = await reading(
            tmp_path,
            server.url,
            read_fd,
            server,
            "--set",
            "delivery.drain_seconds=0",
            "--dead-letters",
            small_disk / "dead.ndjson",
            "--summary",
            "summary.json",
        )
        told = await stopped(process)

    summary = told.summary
    assert told.code == summary["exit_code"] == 74, told.text
    assert summary["read"] == summary["returned"] == summary["lost"] == 100
    assert json.loads((tmp_path / "summary.json").read_bytes()) == summary
    assert "100 lines" in told.text
    assert "dead.returned.ndjson" in told.text


async def test_a_returned_file_that_cannot_be_written_is_found_at_the_start(tmp_path):
    (tmp_path / "dead-letters.returned.ndjson").mkdir()
    told = await program("run", "--base-url", "http://127.0.0.1:9", cwd=tmp_path, stdin=lines(identify(1)))
    assert told.code == 78, told.text
    assert "dead-letters.returned.ndjson" in told.text
