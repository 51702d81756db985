"""What every writer of outcomes promises: whole lines on the disk when `write` returns, or an error.

Run as a program, this file is a writer to be killed: it writes groups for ever and says when each is written.
"""

import asyncio
import json
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest
from support.entries import entry_of

from permutive_worker.errors import ConfigurationError, OutputError
from permutive_worker.model import Delivery, End, Entry, Reason, Response
from permutive_worker.outcomes.dead_letters import DeadLetterWriter
from permutive_worker.outcomes.memory import MemoryWriter
from permutive_worker.outcomes.results import ResultWriter
from permutive_worker.outcomes.returned import ReturnedWriter
from permutive_worker.ports import OutcomeWriter, SystemClock

WRITERS = ("dead letters", "results", "returned")
DISK_BYTES = 64 * 1024


class Lines:
    def position(self, delivery: Delivery) -> str:
        return f"jobs.ndjson:{delivery.number}"


def build_writer(name: str, directory: Path) -> tuple[OutcomeWriter, Path]:
    path = directory / "out.ndjson"
    match name:
        case "dead letters":
            return (
                DeadLetterWriter(
                    path,
                    run_id="run-1",
                    worker="host:7",
                    source="file",
                    scrub=lambda lines: lines,
                    clock=SystemClock(),
                    on_error=lambda: None,
                ),
                path,
            )
        case "results":
            return ResultWriter(str(path), lambda lines: lines, SystemClock()), path
        case _:
            returned = ReturnedWriter(path)
            return returned, returned.path


def build_group(count: int, padding_bytes: int = 100) -> list[Entry]:
    """Entries fit for every writer."""
    entries = []
    for number in range(1, count + 1):
        job = {"type": "identify", "user_id": f"{number}-" + "u" * padding_bytes, "aliases": []}
        raw = json.dumps(job).encode()
        entry = entry_of(Delivery(raw, Lines(), number - 1, number))
        entry.end, entry.reason, entry.attempts = End.DELIVERED, Reason.REJECTED, 1
        entry.response = Response(200, {}, b'{"said":"' + b"r" * padding_bytes + b'"}')
        entries.append(entry)
    return entries


@pytest.fixture(params=WRITERS)
def name(request) -> str:
    return request.param


async def test_a_written_group_can_be_read_by_others_at_once(name, tmp_path):
    writer, path = build_writer(name, tmp_path)
    await writer.open()
    assert list(tmp_path.iterdir()) == []

    await writer.write(build_group(3))
    await writer.write(build_group(2))

    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert len(lines) == 5
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    await writer.close()


async def test_groups_written_together_do_not_mix(name, tmp_path):
    writer, path = build_writer(name, tmp_path)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(writer.write(build_group(50)))
    await writer.close()

    assert [json.loads(line) for line in path.read_bytes().splitlines()]
    assert path.read_bytes().count(b"\n") == 200


async def test_a_cancelled_group_is_whole_or_absent_when_close_returns(name, tmp_path):
    writer, path = build_writer(name, tmp_path)
    writing = asyncio.create_task(writer.write(build_group(500)))
    await asyncio.sleep(0)

    writing.cancel()
    await asyncio.wait((writing,))
    await writer.close()

    assert (path.read_bytes().count(b"\n") if path.exists() else 0) in (0, 500)


async def test_a_missing_directory_is_found_at_the_start(name, tmp_path):
    writer, path = build_writer(name, tmp_path / "new")

    with pytest.raises(ConfigurationError, match=rf"{path.name}: .*; make its directory"):
        await writer.open()

    assert not (tmp_path / "new").exists()


async def test_a_directory_that_vanished_is_an_error(name, tmp_path):
    (tmp_path / "new").mkdir()
    writer, path = build_writer(name, tmp_path / "new")
    await writer.open()

    (tmp_path / "new").rmdir()
    with pytest.raises(OutputError, match=path.name):
        await writer.write(build_group(1))


async def test_a_path_that_is_a_directory_is_found_at_the_start(name, tmp_path):
    writer, path = build_writer(name, tmp_path)
    path.mkdir()

    with pytest.raises(ConfigurationError, match=path.name):
        await writer.open()


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", directory]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield directory
    subprocess.run(["umount", "--lazy", directory], check=True)


@pytest.fixture(params=["disk", "limit"])
def small(request, tmp_path) -> tuple[Path, AbstractContextManager[None]]:
    """A directory, and a context in which a file in it cannot have more than 64 KiB."""
    if request.param == "disk":
        return request.getfixturevalue("disk"), nullcontext()
    return tmp_path, small_files()


@contextmanager
def small_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (DISK_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_is_an_error_and_leaves_only_whole_groups(name, small):
    directory, limit = small
    writer, path = build_writer(name, directory)
    written = 0

    with (
        limit,
        pytest.raises(OutputError, match=r"(No space left|File too large).*; .* and (run|send them) again"),
    ):
        while True:
            await writer.write(build_group(7, padding_bytes=1000))
            written += 1

    lines = path.read_bytes()
    assert written > 1
    assert lines.endswith(b"\n")
    assert len([json.loads(line) for line in lines.splitlines()]) == 7 * written
    await writer.close()


async def test_a_disk_that_is_full_before_the_run_is_found_at_the_start(name, disk):
    with (disk / "ballast").open("wb", buffering=0) as ballast, pytest.raises(OSError, match="No space"):
        while True:
            ballast.write(bytes(4096))
    writer, _ = build_writer(name, disk)

    with pytest.raises(ConfigurationError, match="No space left"):
        await writer.open()


def test_a_killed_writer_leaves_what_it_acknowledged_and_at_most_a_torn_line(name, tmp_path):
    group = 2000
    writer, path = build_writer(name, tmp_path)
    process = subprocess.Popen(
        [sys.executable, __file__, name, tmp_path, str(group)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    length_bytes = path.stat().st_size
    while path.stat().st_size == length_bytes:  # in the middle of a write, most likely
        pass
    process.kill()
    acknowledged = 3 + len(process.stdout.read().splitlines())
    process.wait()
    process.stdout.close()

    lines = path.read_bytes().split(b"\n")
    tail = lines.pop()
    assert len(lines) >= acknowledged * group
    assert all(json.loads(line) for line in lines)

    with path.open("ab") as file:
        file.write(b'{"torn')  # also if the kill came too late to tear a line
    asyncio.run(writer.write(build_group(1)))

    torn = path.with_name(path.name + ".torn").read_bytes()
    again = path.read_bytes().split(b"\n")
    assert torn == tail + b'{"torn\n'
    assert again[:-2] == lines
    assert json.loads(again[-2])
    assert again[-1] == b""


async def test_in_memory_the_sink_has_the_outcomes_when_write_returns():
    outcomes = []
    writer: OutcomeWriter = MemoryWriter(outcomes.append)
    await writer.open()

    await writer.write(build_group(3))
    await writer.close()

    assert [outcome.index for outcome in outcomes] == [0, 1, 2]


async def _write_for_ever(name: str, directory: Path, count: int) -> None:
    writer, _ = build_writer(name, directory)
    await writer.open()
    group = build_group(count)
    while True:
        await writer.write(group)
        print("written", flush=True)


if __name__ == "__main__":
    asyncio.run(_write_for_ever(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
