"""Makes outcomes durable in groups, and only then settles their deliveries.

answered ──put──▶ group of ≤ 20 ms or 1,000 ──write, fsync──▶ source.settle ──▶ counted, bytes freed

A place is free at the verdict; the bytes are free when the outcome is durable. Were they one
moment, every place would idle for the time of a flush.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from permutive_worker.control.guard import Guard
from permutive_worker.delivery.stop import Stop
from permutive_worker.errors import OutputError
from permutive_worker.model import End, Entry, Reason, Settlement
from permutive_worker.ports import Clock, OutcomeWriter, Source
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.last_letters import LastLetters
from permutive_worker.telemetry.logs import logger

GATHER_SECONDS: Final = 0.02
GATHER_COUNT: Final = 1000


class Settler:
    """One task. A line whose outcome cannot be written is returned, never acknowledged."""

    def __init__(
        self,
        source: Source,
        writers: Mapping[End, OutcomeWriter],
        counts: Counts,
        guard: Guard,
        stop: Stop,
        clock: Clock,
        on_settled: Callable[[], None],
    ) -> None:
        """`writers` has one for each end that must be written down; the others settle at once."""
        self._source = source
        self._writers = writers
        self._counts = counts
        self._guard = guard
        self._stop = stop
        self._clock = clock
        self._on_settled = on_settled
        self.letters = LastLetters()
        self._gathered: list[Entry] = []
        self._writing = 0
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def settling(self) -> int:
        """Lines that have ended and are not settled."""
        return len(self._gathered) + self._writing

    def put(self, entry: Entry) -> None:
        """Take over an entry that has ended."""
        gathered = self._gathered
        gathered.append(entry)
        if len(gathered) == 1:
            self._timer = self._loop.call_later(GATHER_SECONDS, self._due.set)
        elif len(gathered) >= GATHER_COUNT:
            self._due.set()

    async def run(self) -> None:
        """Settle until cancelled; cancel it only when nothing is settling."""
        while True:
            await self._due.wait()
            self._due.clear()
            if self._timer is not None:
                self._timer.cancel()
            group, self._gathered = self._gathered, []
            self._writing = len(group)
            await self._settle_group(group)
            self._on_settled()

    async def _settle_group(self, entries: Sequence[Entry]) -> None:
        """Write each kind of outcome, then settle the lines that have it."""
        left = len(entries)
        for end in End:  # delivered first, and mostly that is all
            if not left:
                break
            ended = [entry for entry in entries if entry.end is end]
            if ended:
                left -= len(ended)
                await self._settle_ended(end, ended)

    async def _settle_ended(self, end: End, entries: list[Entry]) -> None:
        writer = self._writers.get(end)
        if writer is not None:
            try:
                await writer.write(entries)
            except BrokenPipeError:
                self._stop.request()  # nobody reads our results any more: they were delivered all the same
            except OutputError as error:
                self._stop.request(error=error)
                await self._give_back(end, entries)
                return
            except Exception as bug:  # noqa: BLE001  (told by the stop, ends the run with 1)
                logger().error("outcomes.failed_inside", error=type(bug).__name__)
                self._stop.request(error=bug)
                await self._give_back(end, entries)
                return
        self._settle(end, entries)

    async def _give_back(self, end: End, entries: list[Entry]) -> None:
        """What could not be written is returned; if even that cannot be written, it is only told the source."""
        if end is End.RETURNED:
            self._settle(end, entries)
        else:
            await self._settle_ended(End.RETURNED, entries)

    def _settle(self, end: End, entries: list[Entry]) -> None:
        settlement = Settlement.RETRY if end is End.RETURNED else Settlement.ACK
        if end is End.RETURNED:
            for entry in entries:
                entry.delivery.delivered_parts = entry.part
        elif end is End.DEAD_LETTERED:
            self.letters.add(entries, self._clock.utc_now())
        self._source.settle([(entry.delivery, settlement) for entry in entries])
        self._release(entries)
        self._writing -= len(entries)
        self._count(end, entries)

    def _release(self, entries: list[Entry]) -> None:
        freed_bytes = dict.fromkeys([entry.budget for entry in entries], 0)
        for entry in entries:
            freed_bytes[entry.budget] += entry.charge_bytes
        for budget, size_bytes in freed_bytes.items():
            assert budget is not None  # noqa: S101  (intake charged it)
            budget.release(size_bytes)

    def _count(self, end: End, entries: list[Entry]) -> None:
        counts = self._counts
        match end:
            case End.DELIVERED:
                self._count_delivered(entries)
            case End.DEAD_LETTERED:
                self._count_dead(entries)
            case End.SKIPPED:
                for entry in entries:
                    counts.skipped["filtered" if entry.delivery.filtered else "blank"] += 1
            case End.RETURNED:
                for entry in entries:
                    counts.returned[entry.returned_why or self._stop.why or "stop"] += 1

    def _count_delivered(self, entries: list[Entry]) -> None:
        counts, now = self._counts, self._clock.monotonic()
        counts.job_latency.observe_all(
            [now - entry.read_at - entry.delivery.age_seconds for entry in entries]
        )
        for kind, number in Counter([entry.kind for entry in entries]).items():
            counts.kinds[kind].delivered += number
        counts.last_delivery_at = self._clock.utc_now()
        self._guard.delivered(len(entries))

    def _count_dead(self, entries: list[Entry]) -> None:
        for entry in entries:
            self._counts.dead_lettered[entry.reason or Reason.INTERNAL] += 1
            if entry.reason is not Reason.EXPIRED:  # that is what was asked for
                self._guard.failed()
        if self._guard.tripped is not None:
            self._stop.request("guard")
