"""`deliver` and `stream`: the worker for jobs that are at hand, inside another program."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sized
from typing import Any

from permutive_worker.config import Guard, Settings
from permutive_worker.credentials import Keyring
from permutive_worker.errors import WorkerError
from permutive_worker.model import End, Outcome, Progress
from permutive_worker.outcomes.memory import MemoryWriter
from permutive_worker.outcomes.stream import QueueWriter
from permutive_worker.ports import OutcomeWriter, Wire
from permutive_worker.sources.memory import MemorySource
from permutive_worker.worker import Worker

Jobs = Iterable[Any] | AsyncIterable[Any]


async def deliver(
    jobs: Jobs,
    settings: Settings | None = None,
    *,
    keyring: Keyring | None = None,
    wire: Wire | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[Outcome]:
    """Deliver jobs and return what became of each, in input order; failures are values.

    Args:
        jobs: lines as dict, str or bytes; an async iterable is fine.
        settings: without them no guard stops the run: you get every failure.
        keyring: `Keyring.of_key(key)`; the environment's if not given.
        wire: instead of HTTP, for tests.
        on_progress: as for Worker.

    Raises:
        WorkerError: nothing was sent.
    """
    outcomes: list[Outcome] = []
    writer = MemoryWriter(outcomes.append)
    total = len(jobs) if isinstance(jobs, Sized) else None
    worker = _embedded(
        jobs, settings, writer, keyring=keyring, wire=wire, on_progress=on_progress, total=total
    )
    await worker.run()
    _raise_what_is_no_outcome(worker)
    return sorted(outcomes, key=lambda outcome: outcome.index)


async def stream(
    jobs: Jobs,
    settings: Settings | None = None,
    *,
    keyring: Keyring | None = None,
    wire: Wire | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> AsyncIterator[Outcome]:
    """Deliver jobs and yield what became of each, in order of completion; nothing is collected.

    Reading waits while you do not take outcomes. Arguments and errors as for `deliver`. Leave it
    early with `aclose()` (or `contextlib.aclosing`): what is in flight is finished, the rest returned.
    """
    writer = QueueWriter()
    worker = _embedded(jobs, settings, writer, keyring=keyring, wire=wire, on_progress=on_progress)
    running = asyncio.create_task(worker.run())
    running.add_done_callback(lambda _: writer.end())
    try:
        async for outcome in writer:
            yield outcome
        await running
        _raise_what_is_no_outcome(worker)
    finally:
        worker.hurry()
        writer.abandon()
        await asyncio.wait([running])


def _raise_what_is_no_outcome(worker: Worker) -> None:
    """An iterable of jobs that raised, or a bug: half an input must not look like a whole one."""
    for error in worker.errors():
        if not isinstance(error, WorkerError):
            raise error


def _embedded(jobs: Jobs, settings: Settings | None, writer: OutcomeWriter, **given: Any) -> Worker:
    settings = settings or Settings(guard=Guard(max_failure_ratio=1))
    writers = dict.fromkeys((End.DELIVERED, End.DEAD_LETTERED, End.RETURNED), writer)
    return Worker(settings, source=MemorySource(jobs), writers=writers, **given)
