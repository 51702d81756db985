"""A whole worker in memory: real intake, lanes, senders and settler; scripted answers; time that jumps."""

import asyncio
from datetime import UTC, datetime, timedelta

from permutive_worker.config import Guard, Settings
from permutive_worker.credentials import Keyring
from permutive_worker.model import End
from permutive_worker.outcomes.memory import MemoryWriter
from permutive_worker.sources.memory import MemorySource
from permutive_worker.worker import Worker

KEY = "f9975143-2d88-46dc-9247-1fb6c790e1cc"


class LoopClock:
    """The running loop's time, as the worker's two clocks."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def monotonic(self) -> float:
        return self._loop.time()

    def utc_now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.monotonic())


def identify(number, user=None, **more):
    return {"type": "identify", "user_id": user or f"user-{number}", "aliases": [], "job_id": number, **more}


def memory_worker(jobs, wire, *, settings=None, keyring=None, source=None, clock=None, **given):
    """The worker and the list its outcomes go to."""
    outcomes = []
    writer = MemoryWriter(outcomes.append)
    worker = Worker(
        settings or Settings(guard=Guard(max_failure_ratio=1)),
        source=source or MemorySource(jobs, record=True),
        writers=dict.fromkeys((End.DELIVERED, End.DEAD_LETTERED, End.RETURNED), writer),
        wire=wire,
        keyring=keyring or Keyring.of_key(KEY),
        clock=clock or LoopClock(),
        **given,
    )
    return worker, outcomes


def assert_conserved(worker):
    """The law, at this moment."""
    counts, pending = worker.counts, worker.look().pending
    assert counts.read == counts.ended + sum(pending.values()), (counts.read, counts.ended, pending)
