"""Reads deliveries, makes them jobs or dead letters, and puts the jobs into the backlog of their lane.

When there is no room it waits and does not read: that is all the back-pressure there is.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from permutive_worker.control.budget import Budget
from permutive_worker.delivery.lane import Lane
from permutive_worker.delivery.standstills import why_standing
from permutive_worker.delivery.stop import Stop
from permutive_worker.errors import InputError
from permutive_worker.jobs.decode import Decoder, Fault
from permutive_worker.model import Delivery, End, Entry, ErrorDetail, Reason
from permutive_worker.ports import Source
from permutive_worker.telemetry.counts import Counts

BLOCK_BYTES: Final = 64 * 1024  # lines in hand that are not counted as read yet
BEFORE_YIELD: Final = 128  # lines decoded in one go: about 0.3 ms of the loop
RETURN_SECONDS: Final = 0.01  # a queue may give the line again at once: not in a tight circle
OVERHEAD_BYTES: Final = 1024  # what a pending line takes beside its bytes: entry, job, queue slots
NO_WORKSPACE: Final = Fault(Reason.INVALID, "workspace: no credentials have this name or workspace_id")


class Intake:
    """The only caller of `Source.receive`."""

    def __init__(
        self,
        source: Source,
        decoder: Decoder,
        lane_of: Callable[[str | None], Lane | None],
        budget: Budget,
        counts: Counts,
        stop: Stop,
        on_end: Callable[[Entry], None],
        now: Callable[[], float],
    ) -> None:
        """`lane_of` finds the lane of a line's `workspace`; None: no credentials have that name."""
        self._source = source
        self._decoder = decoder
        self._lane_of = lane_of
        self._budget = budget
        self._counts = counts
        self._stop = stop
        self._on_end = on_end
        self._now = now
        self._room = asyncio.Event()
        self.held = 0  # 1 while a line that was read waits for room
        self.ended = False
        self.cut_short = False  # by a stop, before the source said that it was at its end
        self.error: InputError | None = None

    async def run(self) -> None:
        """Read to the end of the input, or until the stop has interrupted the source."""
        try:
            while deliveries := await self._source.receive(BLOCK_BYTES):
                await self._take_in(deliveries)
        except InputError as error:
            self.error = error
        self.cut_short = self._stop.requested
        self.ended = True

    async def _take_in(self, deliveries: Sequence[Delivery]) -> None:
        for count, delivery in enumerate(deliveries, 1):
            entry = self._read(delivery)
            lane = self._find_lane(entry)
            if not self._has_room(lane, entry):
                await self._wait_for_room(lane, entry)
            self._place(lane, entry)
            if count % BEFORE_YIELD == 0:
                await asyncio.sleep(0)

    def _read(self, delivery: Delivery) -> Entry:
        """Count the line as read and say what it is: a job, a dead letter, blank."""
        self._counts.read += 1
        raw = delivery.raw
        charge_bytes = len(raw) + OVERHEAD_BYTES
        if delivery.filtered or delivery.oversize_bytes:
            return self._unread(delivery, charge_bytes)
        job = self._decoder.decode(raw)
        if not isinstance(job, Fault):
            read_at = self._now() - delivery.age_seconds
            entry = Entry(delivery, job, job.kind, job.user(), read_at, charge_bytes)
            if delivery.delivered_parts:
                entry.part = min(delivery.delivered_parts, job.request_count() - 1)
            return entry
        entry = Entry(delivery, None, "", None, self._now(), charge_bytes)
        if raw.strip():
            return _dead(entry, job)
        entry.end = End.SKIPPED
        return entry

    def _unread(self, delivery: Delivery, charge_bytes: int) -> Entry:
        """A line that is settled without a look inside."""
        entry = Entry(delivery, None, "", None, self._now(), charge_bytes)
        if delivery.filtered:
            entry.end = End.SKIPPED
            return entry
        return _dead(entry, too_large(delivery))

    def _find_lane(self, entry: Entry) -> Lane | None:
        if entry.job is None:
            return None
        lane = self._lane_of(entry.job.workspace)
        if lane is None:
            _dead(entry, NO_WORKSPACE)
        else:
            entry.workspace = lane.workspace
        return lane

    def _has_room(self, lane: Lane | None, entry: Entry) -> bool:
        return self._budget.has_room if lane is None else lane.has_room(entry)

    async def _wait_for_room(self, lane: Lane | None, entry: Entry) -> None:
        if lane is not None and self._source.queue is not None and self._would_block_others(lane):
            entry.end = End.RETURNED
            entry.returned_why = why_standing(lane, self._now()) or "pause"
            self.held = 1
            await asyncio.sleep(RETURN_SECONDS)
            self.held = 0
            return
        self.held = 1
        while not self._stop.requested and not self._has_room(lane, entry):
            self._room.clear()
            await self._room.wait()
        self.held = 0

    def _would_block_others(self, lane: Lane) -> bool:
        """One user, or one lane of several, has all it may have: the others shall not wait for it."""
        return self._budget.has_room and not lane.is_full

    def wake(self) -> None:
        """There may be room again, or the stop was requested."""
        self._room.set()

    def _place(self, lane: Lane | None, entry: Entry) -> None:
        if self._stop.requested and not entry.delivery.oversize_bytes:
            # Dead letters and blank lines too: nobody has acted on them. But of a line that is too
            # large only its beginning is left, so its dead letter is all that can be kept.
            entry.end = End.RETURNED
        budget = self._budget if lane is None else lane.budget
        entry.budget = budget
        budget.charge(entry.charge_bytes)
        if entry.end is None and lane is not None:
            lane.add(entry)
        else:
            self._on_end(entry)


def too_large(delivery: Delivery) -> Fault:
    """The fault of a line that is longer than `input.max_line_bytes`."""
    text = f"the line has {delivery.oversize_bytes} bytes, more than input.max_line_bytes"
    return Fault(Reason.TOO_LARGE, text)


def _dead(entry: Entry, fault: Fault) -> Entry:
    entry.end = End.DEAD_LETTERED
    entry.kind = fault.kind or entry.kind
    entry.reason = fault.reason
    entry.error = ErrorDetail(fault.reason.value, fault.message)
    return entry
