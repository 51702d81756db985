"""Durable first, settled after; what cannot be written is returned."""

import asyncio

import pytest
from support.worker import KEY, identify

from permutive_worker.config import Delivery, Guard, Settings
from permutive_worker.credentials import Keyring
from permutive_worker.destinations.memory import MemoryWire
from permutive_worker.errors import OutputError
from permutive_worker.model import End, Response, Settlement
from permutive_worker.sources.memory import MemorySource
from permutive_worker.worker import Worker


class Recorder:
    """A writer that remembers what it wrote, or fails."""

    def __init__(self, error=None):
        self.error = error
        self.written = []
        self.groups = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def open(self):
        pass

    async def write(self, entries):
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.groups += 1
        self.written.extend(entry.delivery.place for entry in entries)

    async def close(self):
        pass


def worker_with(jobs, writers, answer, **given):
    source = MemorySource(jobs, record=True)
    settings = Settings(guard=Guard(max_failure_ratio=1), delivery=Delivery(**given))
    wire = MemoryWire(answer)
    return Worker(settings, source=source, writers=writers, keyring=Keyring.of_key(KEY), wire=wire), source


def status(code):
    return lambda request: Response(code, {}, b"{}")


async def test_a_line_is_settled_after_its_dead_letter_is_written():
    dead = Recorder()
    dead.gate.clear()
    worker, source = worker_with(map(identify, range(3)), {End.DEAD_LETTERED: dead}, status(400))
    running = asyncio.create_task(worker.run())
    while worker.look().settling < 3:
        await asyncio.sleep(0)
    assert source.settled == []
    assert worker.counts.dead == 0

    dead.gate.set()
    summary = await running

    assert (dead.written, summary.dead_lettered) == ([0, 1, 2], 3)
    assert {settlement for _, settlement in source.settled} == {Settlement.ACK}


async def test_outcomes_are_written_in_groups():
    dead = Recorder()
    worker, _ = worker_with(map(identify, range(2000)), {End.DEAD_LETTERED: dead}, status(400))
    await worker.run()
    assert len(dead.written) == 2000
    assert dead.groups < 200


@pytest.mark.parametrize("end", [End.DELIVERED, End.DEAD_LETTERED])
async def test_what_cannot_be_written_is_returned_and_the_run_ends_with_74(end):
    failing = Recorder(OutputError("the disk is full"))
    answer = status(200 if end is End.DELIVERED else 400)
    worker, source = worker_with(map(identify, range(5000)), {end: failing}, answer)

    summary = await worker.run()

    assert summary.exit_code == 74
    assert summary.delivered == summary.dead_lettered == 0
    assert summary.read == summary.returned == len(source.settled)
    assert {settlement for _, settlement in source.settled} == {Settlement.RETRY}


async def test_a_reader_of_results_that_went_away_stops_quietly():
    gone = Recorder(BrokenPipeError())
    worker, _ = worker_with(map(identify, range(5000)), {End.DELIVERED: gone}, status(200))

    summary = await worker.run()

    assert summary.exit_code == 75
    assert worker.errors() == []
    assert summary.delivered > 0
    assert summary.read == summary.delivered + summary.returned


async def test_a_bug_in_a_writer_ends_the_run_with_1_and_acknowledges_nothing():
    bug = Recorder(KeyError("bug"))
    worker, source = worker_with(map(identify, range(5)), {End.DELIVERED: bug}, status(200))
    async with asyncio.timeout(10):
        summary = await worker.run()
    assert (summary.exit_code, summary.delivered, summary.returned) == (1, 0, 5)
    assert {settlement for _, settlement in source.settled} == {Settlement.RETRY}
