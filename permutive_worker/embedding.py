"""`deliver` and `stream`: the worker for jobs that are at hand, inside another program."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sized
from typing import Any, NamedTuple

from msgspec.structs import replace

from permutive_worker.config import Guard, Settings
from permutive_worker.credentials import Keyring
from permutive_worker.errors import ConfigurationError, WorkerError
from permutive_worker.http.gate import Gate
from permutive_worker.model import End, Outcome, Progress
from permutive_worker.outcomes.memory import MemoryWriter
from permutive_worker.outcomes.stream import QueueWriter
from permutive_worker.permutive.client import PermutiveClient
from permutive_worker.ports import OutcomeWriter, Wire
from permutive_worker.sources.memory import MemorySource
from permutive_worker.worker import Worker

Jobs = Iterable[Any] | AsyncIterable[Any]


async def deliver(
    jobs: Jobs,
    settings: Settings | PermutiveClient | None = None,
    *,
    client: PermutiveClient | None = None,
    keyring: Keyring | None = None,
    wire: Wire | None = None,
    max_in_flight: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[Outcome]:
    """Deliver jobs and return what became of each, in input order; failures are values.

    Args:
        jobs: lines as dict, str or bytes; an async iterable is fine.
        settings: without them no guard stops the run: you get every failure. A client is taken here too.
        client: whose keys, connections and gates are used: its calls and these jobs do not flood together.
        keyring: `Keyring.of_key(key)`; the environment's if not given.
        wire: instead of HTTP, for tests.
        max_in_flight: requests under way at most, for each workspace; instead of that of the settings.
        on_progress: as for Worker.

    Raises:
        WorkerError: nothing was sent.
    """
    outcomes: list[Outcome] = []
    writer = MemoryWriter(outcomes.append)
    total = len(jobs) if isinstance(jobs, Sized) else None
    worker = _embedded(
        jobs,
        _connection(settings, client, keyring, wire, max_in_flight),
        writer,
        on_progress=on_progress,
        total=total,
    )
    await worker.run()
    _raise_what_is_no_outcome(worker)
    return sorted(outcomes, key=lambda outcome: outcome.index)


async def stream(
    jobs: Jobs,
    settings: Settings | PermutiveClient | None = None,
    *,
    client: PermutiveClient | None = None,
    keyring: Keyring | None = None,
    wire: Wire | None = None,
    max_in_flight: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> AsyncIterator[Outcome]:
    """Deliver jobs and yield what became of each, in order of completion; nothing is collected.

    Reading waits while you do not take outcomes. Arguments and errors as for `deliver`. Leave it
    early with `aclose()` (or `contextlib.aclosing`): what is in flight is finished, the rest returned.
    """
    writer = QueueWriter()
    connection = _connection(settings, client, keyring, wire, max_in_flight)
    worker = _embedded(jobs, connection, writer, on_progress=on_progress)
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


class _Connection(NamedTuple):
    """What a worker needs to know of the way to the API."""

    settings: Settings
    keyring: Keyring | None
    wire: Wire | Mapping[str, Wire] | None
    gates: Mapping[str, Gate] | None


def _connection(
    settings: Settings | PermutiveClient | None,
    client: PermutiveClient | None,
    keyring: Keyring | None,
    wire: Wire | None,
    max_in_flight: int | None,
) -> _Connection:
    """Sort out who says what: the client says whose key, which connections and which gates."""
    if isinstance(settings, PermutiveClient):
        settings, client = None, client or settings
    settings = settings or Settings(guard=Guard(max_failure_ratio=1))
    if max_in_flight is not None:
        settings = replace(settings, delivery=replace(settings.delivery, max_in_flight=max_in_flight))
    if client is None:
        return _Connection(settings, keyring, wire, None)
    if keyring is not None or wire is not None:
        raise ConfigurationError("Give a client, or a keyring and a wire, not both")
    if settings.input.workspace is None:
        settings = replace(settings, input=replace(settings.input, workspace=client.workspace.name))
    return _Connection(settings, client.keyring, client.wires(), client.gates)


def _embedded(jobs: Jobs, connection: _Connection, writer: OutcomeWriter, **given: Any) -> Worker:
    settings, keyring, wire, gates = connection
    writers = dict.fromkeys((End.DELIVERED, End.DEAD_LETTERED, End.RETURNED), writer)
    return Worker(
        settings,
        source=MemorySource(jobs),
        writers=writers,
        keyring=keyring,
        wire=wire,
        gates=gates,
        **given,
    )
