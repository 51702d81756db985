"""Deliveries from a queue, whichever broker it is at.

    broker ──fetch──▶ prefetch ──receive──▶ …  ──settle──▶ acks, returns ──in groups──▶ broker

The broker's own file knows how to talk; what all queues have in common is here, once: messages are
fetched ahead within bounds, settled in groups in any order, kept alive while they are in hand, and a
link that breaks is made again while everything in hand stays in hand.
"""

import asyncio
import math
import random
from collections.abc import Callable, Coroutine, Hashable, Sequence
from itertools import islice
from typing import Any, Final

from permutive_worker.errors import LinkError, WorkerError
from permutive_worker.model import Delivery, Settlement
from permutive_worker.sources.broker import Broker
from permutive_worker.sources.formats import HEAD_BYTES
from permutive_worker.sources.link import Link
from permutive_worker.sources.prefetch import Prefetch
from permutive_worker.telemetry.logs import logger

Work = Callable[[], Coroutine[Any, Any, None]]

GROUP_COUNT: Final = 1000  # settled in one call
LAG_SECONDS: Final = 5.0
CANCEL_SECONDS: Final = 0.2
CANCELS: Final = 3  # who has not ended then waits for somebody who is gone
CLOSE_SECONDS: Final = 1.0
FLUSH_SECONDS: Final = (
    3.5  # with drain_seconds before it, and CLOSE_SECONDS after it, a stop stays below 25 s
)


class QueueSource:
    """A `ports.Source` and its `ports.Queue`, of one queue at one broker.

    Nothing is fetched before the first `receive`; then one task fetches ahead. Messages that the broker
    gives again while they are in hand are not passed on again.
    """

    finite = False
    rereadable = True

    def __init__(
        self, broker: Broker, max_line_bytes: int, dice: Callable[[], float] = random.random
    ) -> None:
        self.kind = broker.kind
        self.unconfirmed = 0
        self._broker = broker
        self._max_line_bytes = max_line_bytes
        self._link = Link(broker.connect, broker.where, dice)
        self._prefetch = Prefetch()
        self._held: dict[Hashable, None] = {}  # fetched, and the broker does not know of an end
        self._acks: dict[Hashable, None] = {}  # settled, not told yet
        self._returns: dict[Hashable, Delivery] = {}
        self._due = asyncio.Event()  # there is something to tell
        self._told = asyncio.Event()  # a group was told
        self._going = asyncio.Event()  # cleared: on hold
        self._going.set()
        self._stopped = asyncio.Event()
        self._fetching: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._flush_until = math.inf  # there is one such time for the whole stop
        self._given_up = False
        self._number = 0
        self._read_bytes = 0
        self._lag: int | None = None

    @property
    def queue(self) -> "QueueSource":
        return self

    @property
    def is_away(self) -> bool:
        return self._link.is_away

    @property
    def redeliveries(self) -> int:
        return self._broker.redeliveries

    def lag(self) -> int | None:
        return None if self.is_away else self._lag

    async def open(self) -> None:
        """Connect, unless interrupted before. Raises UnreachableError, ConfigurationError."""
        try:
            await self._connect()
        except WorkerError:
            await self._close_broker()
            raise
        if self._link.is_away:
            return
        self._start(self._link.run, self._tell, self._watch_lag)
        if self._broker.keep_seconds < math.inf:
            self._start(self._keep)

    async def _connect(self) -> None:
        """Return once it is connected, or a stop does not want it any more."""
        loop = asyncio.get_running_loop()
        opening, stopping = loop.create_task(self._link.open()), loop.create_task(self._stopped.wait())
        try:
            await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                opening.result()
        finally:
            opening.cancel()
            stopping.cancel()
            await asyncio.wait((opening, stopping), timeout=CANCEL_SECONDS)

    async def receive(self, max_bytes: int) -> Sequence[Delivery]:
        if self._fetching is None and not self._stopped.is_set():
            [self._fetching] = self._start(self._fetch)
        deliveries = await self._prefetch.take(max_bytes)
        for delivery in deliveries:
            self._read_bytes += delivery.oversize_bytes or len(delivery.raw)
        return deliveries

    def interrupt(self) -> None:
        """Take nothing more; what nobody has received is given back."""
        self._stopped.set()
        self._going.set()
        self._return(self._prefetch.drain())
        self._prefetch.close()

    def hold(self) -> None:
        if not self._stopped.is_set():
            self._going.clear()
        self._return(self._prefetch.drain())

    def resume(self) -> None:
        self._going.set()

    def settle(self, settled: Sequence[tuple[Delivery, Settlement]]) -> None:
        for delivery, settlement in settled:
            if settlement is Settlement.ACK:
                self._acks[delivery.place] = None
            else:
                self._held.pop(delivery.place, None)
                self._returns[delivery.place] = delivery
        self._due.set()

    async def flush(self) -> None:
        """Wait until the broker has heard of everything; what it does not hear in time will come again."""
        until = asyncio.get_running_loop().time() + FLUSH_SECONDS
        if self._stopped.is_set():
            until = self._flush_until = min(until, self._flush_until)
        try:
            async with asyncio.timeout_at(until):
                await self._all_told()
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            self._flush_until = 0.0
            raise
        finally:
            self._give_up()

    async def _all_told(self) -> None:
        if self._stopped.is_set():
            await self._end_fetching()
        while self._acks or self._returns:
            self._told.clear()
            self._due.set()
            await self._told.wait()

    def _give_up(self) -> None:
        if left := len(self._acks) + len(self._returns):
            self._given_up = True
            self.unconfirmed += left
            self._acks.clear()
            self._returns.clear()
        if self.unconfirmed:
            logger().warning("source.unconfirmed", broker=self._broker.where, messages=self.unconfirmed)

    async def close(self) -> None:
        """Give back what is in hand and leave."""
        self.interrupt()
        if self._tasks and not self._given_up and (self._returns or not self._is_still()):
            await self.flush()
        await self._cancel_tasks()
        await self._close_broker()

    async def _cancel_tasks(self) -> None:
        """Again and again: libraries that use asyncio.wait_for swallow a cancellation (Python before 3.12)."""
        for _ in range(CANCELS):
            if not self._tasks:
                return
            for task in self._tasks:
                task.cancel()
            _, left = await asyncio.wait(self._tasks, timeout=CANCEL_SECONDS)
            self._tasks = list(left)

    async def _close_broker(self) -> None:
        """One that neither answers nor refuses must not hold up the end; what it does not hear it finds out."""
        closing = asyncio.get_running_loop().create_task(self._broker.close())
        await asyncio.wait((closing,), timeout=CLOSE_SECONDS)

    def bytes_read(self) -> int:
        return self._read_bytes

    def bytes_total(self) -> int | None:
        return None

    def _is_still(self) -> bool:
        return self._fetching is None or self._fetching.done()

    def _start(self, *work: Work) -> list[asyncio.Task[None]]:
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._guarded(one)) for one in work]
        self._tasks += tasks
        return tasks

    async def _guarded(self, work: Work) -> None:
        """A bug in one of the tasks is raised by `receive`, so that the run ends instead of hanging."""
        try:
            await work()
        except Exception as bug:  # noqa: BLE001  (raised by receive)
            logger().error("source.failed_inside", broker=self._broker.where, error=type(bug).__name__)
            self._prefetch.close(bug)

    async def _fetch(self) -> None:
        """Fetch ahead until the stop. A fetch is never cancelled: what it got would be nobody's."""
        while not self._stopped.is_set():
            room = await self._prefetch.room()
            await self._going.wait()
            generation = await self._link.up()
            if self._stopped.is_set():
                return
            try:
                fetched = await self._broker.fetch(room)
            except LinkError as error:
                self._link.lost(generation, error)
                continue
            fresh = self._fresh(fetched)
            if self._stopped.is_set() or not self._going.is_set():
                self._return(fresh)
            elif fresh:
                self._prefetch.put(fresh)

    async def _end_fetching(self) -> None:
        """Wait for the fetch under way; while the link is away there is none, only the wait for the link."""
        if self._fetching is None:
            return
        if self._link.is_away:
            self._fetching.cancel()
        await asyncio.wait((self._fetching,))

    def _fresh(self, fetched: Sequence[Delivery]) -> list[Delivery]:
        """Those that are not in hand already, made ready to travel."""
        fresh = []
        for delivery in fetched:
            place = delivery.place
            if place in self._held:
                continue
            self._held[place] = None
            self._returns.pop(place, None)  # it came back before the broker was told: no need to
            self._number += 1
            delivery.number = self._number
            if len(delivery.raw) > self._max_line_bytes:
                delivery.oversize_bytes = len(delivery.raw)
                delivery.raw = delivery.raw[:HEAD_BYTES]
            fresh.append(delivery)
        return fresh

    def _return(self, deliveries: Sequence[Delivery]) -> None:
        """Give back what nobody has received."""
        if deliveries:
            self.settle([(delivery, Settlement.RETRY) for delivery in deliveries])

    async def _tell(self) -> None:
        """Tell the broker what was settled, in groups."""
        while True:
            await self._due.wait()
            self._due.clear()
            while self._acks or self._returns:
                generation = await self._link.up()
                try:
                    await self._tell_acks()
                    await self._tell_returns()
                except LinkError as error:
                    self._link.lost(generation, error)
            self._told.set()

    async def _tell_acks(self) -> None:
        if group := list(islice(self._acks, GROUP_COUNT)):
            self.unconfirmed += await self._broker.acknowledge(group)
            for place in group:
                self._acks.pop(place, None)
                self._held.pop(place, None)

    async def _tell_returns(self) -> None:
        if group := list(islice(self._returns.items(), GROUP_COUNT)):
            await self._broker.give_back([place for place, _ in group])
            for place, delivery in group:
                # It may have come again meanwhile, and be returned again: that is not told yet.
                if self._returns.get(place) is delivery:
                    del self._returns[place]

    async def _keep(self) -> None:
        """Keep what is in hand ours, from open to close."""
        while True:
            await asyncio.sleep(self._broker.keep_seconds)
            generation = await self._link.up()
            try:
                await self._broker.keep(list(self._held))
            except LinkError as error:
                self._link.lost(generation, error)

    async def _watch_lag(self) -> None:
        while True:
            generation = await self._link.up()
            try:
                self._lag = await self._broker.lag()
            except LinkError as error:
                self._link.lost(generation, error)
            await asyncio.sleep(LAG_SECONDS)
