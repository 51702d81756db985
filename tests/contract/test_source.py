"""What every source promises (`ports.Source`), asked of each of them."""

import asyncio
import gzip
import os
import threading
from pathlib import Path

import pytest

from permutive_worker.model import Settlement
from permutive_worker.sources.files import FileSource
from permutive_worker.sources.memory import MemorySource
from permutive_worker.sources.stdin import StdinSource
from permutive_worker.sources.tracked import CheckpointStore

LINES = [b'{"user_id":"%d"}' % number + b" " * (number % 40) for number in range(4_000)]
MAX_LINE_BYTES = 1_000


class Pipe:
    """A pipe that a thread writes to, as another program would."""

    def __init__(self, text):
        self.fd, write_fd = os.pipe()
        self._thread = threading.Thread(target=self._write, args=(write_fd, text))
        self._thread.start()

    def _write(self, fd, text):
        with os.fdopen(fd, "wb") as pipe:
            try:
                pipe.write(text)
            except BrokenPipeError:
                pipe.raw.close()  # the test has seen enough

    def close(self):
        os.close(self.fd)
        self._thread.join()


@pytest.fixture(
    params=[
        "memory",
        "async memory",
        "file",
        "two files",
        "gzip file",
        "remembered file",
        "stdin",
        "gzip stdin",
    ]
)
def make(request, tmp_path):
    """Makes a source of the given lines."""
    pipes = []

    def make_file(name, lines, pack=bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(pack(b"".join(line + b"\n" for line in lines)))
        return path

    def make_stdin(lines, pack=bytes):
        pipes.append(Pipe(pack(b"\n".join(lines))))
        return StdinSource(MAX_LINE_BYTES, fd=pipes[-1].fd)

    async def async_jobs(lines):
        for number, line in enumerate(lines):
            if number % 100 == 50:
                await asyncio.sleep(0)
            yield line

    def make_source(lines=LINES):
        match request.param:
            case "memory":
                return MemorySource(lines)
            case "async memory":
                return MemorySource(async_jobs(lines))
            case "file":
                return FileSource([make_file("a", lines)], MAX_LINE_BYTES)
            case "two files":
                half = len(lines) // 2
                paths = [make_file("a", lines[:half]), make_file("b", lines[half:])]
                return FileSource(paths, MAX_LINE_BYTES)
            case "gzip file":
                return FileSource([make_file("a.gz", lines, gzip.compress)], MAX_LINE_BYTES)
            case "remembered file":
                store = CheckpointStore(tmp_path / "state", "https://api default", restart=True)
                return FileSource([make_file("a", lines)], MAX_LINE_BYTES, store)
            case "stdin":
                return make_stdin(lines)
            case "gzip stdin":
                return make_stdin(lines, gzip.compress)

    yield make_source
    for pipe in pipes:
        pipe.close()


async def receive_all(source, max_bytes=10_000):
    received = []
    while deliveries := await source.receive(max_bytes):
        received += deliveries
    return received


def raws(deliveries):
    return [delivery.raw for delivery in deliveries]


async def test_gives_every_line_once_and_in_order(make):
    source = make()
    await source.open()

    received = await receive_all(source)

    assert raws(received) == LINES
    assert len({delivery.position for delivery in received}) == len(LINES)
    await source.close()


async def test_is_exhausted_for_ever(make):
    source = make(LINES[:3])
    await source.open()

    await receive_all(source)

    assert [len(await source.receive(1_000)) for _ in range(3)] == [0, 0, 0]
    await source.close()


async def test_no_lines_are_the_end(make):
    source = make([])
    await source.open()

    assert len(await source.receive(1_000)) == 0
    await source.close()


async def test_gives_about_as_much_as_asked_for_and_one_line_at_least(make):
    source = make()
    await source.open()

    assert raws(await source.receive(1)) == LINES[:1]
    total = 1
    while deliveries := await source.receive(500):
        total += len(deliveries)
        assert sum(map(len, raws(deliveries[:-1]))) < 500
    assert total == len(LINES)
    await source.close()


async def test_interrupt_ends_it_after_what_is_in_hand(make):
    source = make()
    await source.open()
    received = list(await source.receive(1_000))

    source.interrupt()
    source.interrupt()
    received += await receive_all(source)

    assert raws(received)[:-1] == LINES[: len(received) - 1]
    assert LINES[len(received) - 1].startswith(received[-1].raw)  # of a pipe the last one may be a fragment
    assert len(await source.receive(1_000)) == 0
    await source.close()


async def test_interrupt_before_the_first_receive_reads_nothing(make):
    source = make()
    await source.open()

    source.interrupt()

    assert len(await source.receive(1_000)) == 0
    assert source.bytes_read() == 0
    await source.close()


async def test_cancelled_receives_lose_nothing(make):
    source = make()
    await source.open()
    received, cancelled, steps = [], 0, 0

    while True:
        receiving = asyncio.create_task(source.receive(2_000))
        for _ in range(steps % 4):
            await asyncio.sleep(0)
        receiving.cancel()
        steps += 1
        try:
            deliveries = await receiving
        except asyncio.CancelledError:
            cancelled += 1
            continue
        if not deliveries:
            break
        received += deliveries

    assert raws(received) == LINES
    assert cancelled
    await source.close()


async def test_settle_takes_any_order_and_never_raises(make):
    source = make()
    await source.open()
    received = await receive_all(source)

    both = [Settlement.ACK, Settlement.RETRY]
    source.settle([(delivery, both[at % 2]) for at, delivery in enumerate(reversed(received))])
    source.settle([])
    await source.flush()
    await source.close()

    assert len(received) == len(LINES)


async def test_bytes_read_only_grow_and_reach_the_total(make):
    source = make()
    await source.open()
    seen = [source.bytes_read()]

    while await source.receive(5_000):
        seen.append(source.bytes_read())

    assert seen[0] == 0
    assert seen == sorted(seen)
    assert source.bytes_total() in (None, source.bytes_read())
    await source.close()


async def test_can_be_closed_at_any_time(make):
    for receives in (0, 1):
        source = make()
        await source.open()
        for _ in range(receives):
            await source.receive(1_000)

        await source.close()
        await source.close()
        source.interrupt()

        assert source.finite


async def test_says_what_it_is(make):
    source = make()

    assert source.kind in ("memory", "file", "stdin")
    assert source.rereadable == (source.kind != "stdin")
    await source.close()
