"""Jobs of a program that embeds the worker: any iterable, plain or async."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from permutive_worker.model import Delivery, Settlement

MAX_JOBS: Final = 256  # pulled for one receive
UNENCODABLE: Final = b'"unencodable job"'  # JSON, but no object, so it becomes a dead letter


class JobsOrigin:
    """A place in the iterable: `jobs[17]`, counted from 0."""

    __slots__ = ()

    def position(self, delivery: Delivery) -> str:
        return f"jobs[{delivery.place}]"


class MemorySource:
    """A `ports.Source` of Python objects.

    A job is bytes or str (the JSON of one line), or what msgspec can encode: a dict, a Struct, a
    dataclass. Jobs are pulled only while `receive` waits for them. If the iterable raises, `receive`
    raises the same, once, after all that was pulled before.

    Args:
        jobs: a plain iterable is pulled in the event loop, so it should not block.
        kind: a metric label.
        record: keep what is settled, with all its lines.

    Attributes:
        settled: in the order it was settled, if `record`; `delivery.place` is the index of the job.
    """

    finite = True
    rereadable = True
    queue = None

    def __init__(
        self, jobs: Iterable[object] | AsyncIterable[object], kind: str = "memory", *, record: bool = False
    ) -> None:
        if isinstance(jobs, str | bytes | bytearray | Mapping):
            raise TypeError("jobs is a single job, not an iterable of jobs: put it into a list")
        self.kind = kind
        self.settled: list[tuple[Delivery, Settlement]] = []
        self._record = record
        self._jobs = aiter(jobs) if isinstance(jobs, AsyncIterable) else iter(jobs)
        self._origin = JobsOrigin()
        self._pulled: list[Delivery] = []  # not returned yet
        self._room_bytes = 0  # left of what the last receive may return
        self._count = 0
        self._read_bytes = 0
        self._ended = False
        self._error: Exception | None = None
        self._pump: asyncio.Task[None] | None = None  # pulls from an async iterator
        self._wanted = asyncio.Event()
        self._landed = asyncio.Event()

    async def open(self) -> None:
        if isinstance(self._jobs, AsyncIterator):
            self._pump = asyncio.get_running_loop().create_task(self._pull_async(self._jobs))

    async def receive(self, max_bytes: int) -> Sequence[Delivery]:
        self._room_bytes = max_bytes
        if not self._pulled and not self._ended:
            if isinstance(self._jobs, AsyncIterator):
                await self._wait_for_pump()
            else:
                self._pull(self._jobs)
        if self._pulled:
            pulled, self._pulled = self._pulled, []
            return pulled
        if self._error:
            error, self._error = self._error, None
            raise error
        return ()

    def interrupt(self) -> None:
        self._ended = True
        self._landed.set()

    def settle(self, settled: Sequence[tuple[Delivery, Settlement]]) -> None:
        if self._record:
            self.settled.extend(settled)

    async def flush(self) -> None:
        pass

    async def close(self) -> None:
        """Stop pulling and close an async generator, so that its `finally` runs now."""
        self.interrupt()
        if self._pump:
            self._pump.cancel()
            await asyncio.wait((self._pump,))
        if isinstance(self._jobs, AsyncGenerator):
            await self._jobs.aclose()

    def bytes_read(self) -> int:
        return self._read_bytes

    def bytes_total(self) -> int | None:
        return None

    def _pull(self, jobs: Iterable[object]) -> None:
        try:
            for job in jobs:
                if self._add(job):
                    return
        except Exception as error:  # noqa: BLE001  (the caller's iterable may raise anything)
            self._error = error
        self._ended = True

    async def _wait_for_pump(self) -> None:
        self._landed.clear()
        self._wanted.set()
        try:
            await self._landed.wait()
        finally:
            self._wanted.clear()

    async def _pull_async(self, jobs: AsyncIterator[object]) -> None:
        """Pull while a receive waits.

        A task for the whole run: were `anext` awaited in `receive`, cancelling that would end the
        iterator and lose its value. It also shows what is there at once, without a task per job.
        """
        try:
            while await self._wanted.wait():
                job = await anext(jobs)
                if self._ended:
                    return
                if self._add(job):
                    self._wanted.clear()
                self._landed.set()
        except StopAsyncIteration:
            pass
        except Exception as error:  # noqa: BLE001  (the caller's iterable may raise anything)
            self._error = error
        self._ended = True
        self._landed.set()

    def _add(self, job: object) -> bool:
        """Make it a delivery; True once there is enough for one receive."""
        raw = _encode(job)
        self._pulled.append(Delivery(raw, self._origin, self._count, self._count + 1))
        self._count += 1
        self._read_bytes += len(raw)
        self._room_bytes -= len(raw)
        return self._room_bytes <= 0 or len(self._pulled) >= MAX_JOBS


def _encode(job: object) -> bytes:
    try:
        match job:
            case bytes() | bytearray():
                return bytes(job).rstrip(b"\r\n")
            case str():
                return job.encode().rstrip(b"\r\n")
            case _:
                return msgspec.json.encode(job)
    except Exception:  # noqa: BLE001  (one bad job is an outcome, whatever its own code raises)
        return UNENCODABLE
