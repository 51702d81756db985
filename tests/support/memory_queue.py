"""A broker in memory: the fake that passes the contract of the real ones."""

import asyncio
from collections import deque
from collections.abc import Sequence

from permutive_worker.errors import ConfigurationError, LinkError, UnreachableError
from permutive_worker.model import Delivery
from permutive_worker.sources.broker import FETCH_SECONDS, QueueOrigin
from permutive_worker.sources.queue import QueueSource


class MemoryQueue:
    """The server: it outlives the links to it. Messages are numbered from 0."""

    lease_seconds = 1.0
    has_lag = True
    survives = True
    keeps_acks = True
    takes_empty = True
    hands_over = True

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.waiting: deque[int] = deque()
        self.leases: dict[int, tuple[object, float]] = {}  # holder, until when
        self.given: set[int] = set()
        self.up = False
        self.came = asyncio.Event()

    async def start(self) -> None:
        self.up = True

    async def kill(self) -> None:
        self.up = False

    stop = kill

    def source(self, max_line_bytes: int = 100_000) -> QueueSource:
        return QueueSource(MemoryBroker(self), max_line_bytes)

    async def publish(self, lines: Sequence[bytes]) -> None:
        self.waiting.extend(range(len(self.lines), len(self.lines) + len(lines)))
        self.lines.extend(lines)
        self.came.set()

    async def orphan(self, count: int) -> None:
        broker = MemoryBroker(self)
        await broker.connect()
        assert len(await broker.fetch(count)) == count

    def check(self) -> None:
        if not self.up:
            raise LinkError("memory: it is down")

    def expire(self, now: float) -> None:
        for number, (_, until) in list(self.leases.items()):
            if until <= now:
                del self.leases[number]
                self.waiting.appendleft(number)


class MemoryBroker:
    """One link to a `MemoryQueue`."""

    kind = "memory"
    where = "memory://queue"

    def __init__(self, queue: MemoryQueue, *, refuse: str = "") -> None:
        self.queue = queue
        self.refuse = refuse
        self.redeliveries = 0
        self.keep_seconds = queue.lease_seconds / 3
        self.calls: list[tuple[str, int]] = []  # what was told, and of how many
        self._origin = QueueOrigin("memory:queue")

    async def connect(self) -> None:
        if self.refuse:
            raise ConfigurationError(self.refuse)
        if not self.queue.up:
            raise UnreachableError("memory://queue cannot be reached: it is down")

    async def fetch(self, max_count: int) -> Sequence[Delivery]:
        queue = self.queue
        queue.check()
        queue.expire(self._now())
        if not queue.waiting:
            queue.came.clear()
            try:
                async with asyncio.timeout(FETCH_SECONDS / 10):
                    await queue.came.wait()
            except TimeoutError:
                return ()
        queue.check()
        numbers = [queue.waiting.popleft() for _ in range(min(max_count, len(queue.waiting)))]
        self._lease(numbers)
        self.redeliveries += len(queue.given.intersection(numbers))
        queue.given.update(numbers)
        return [Delivery(queue.lines[number], self._origin, number) for number in numbers]

    async def acknowledge(self, places: Sequence) -> int:
        self.queue.check()
        self.calls.append(("acknowledge", len(places)))
        for number in places:
            self.queue.leases.pop(number, None)
        return 0

    async def give_back(self, places: Sequence) -> None:
        self.queue.check()
        self.calls.append(("give_back", len(places)))
        for number in places:
            if self.queue.leases.get(number, (None,))[0] is self:
                del self.queue.leases[number]
                self.queue.waiting.append(number)
        self.queue.came.set()

    async def keep(self, places: Sequence) -> None:
        self.queue.check()
        self._lease([number for number in places if self.queue.leases.get(number, (None,))[0] is self])

    async def lag(self) -> int | None:
        self.queue.check()
        return len(self.queue.waiting)

    async def close(self) -> None:
        pass

    def _lease(self, numbers: Sequence[int]) -> None:
        until = self._now() + self.queue.lease_seconds
        self.queue.leases.update(dict.fromkeys(numbers, (self, until)))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
