"""Runs intake, senders and settler to the end of the input, or to a stop, and leaves nothing behind.

The end is an ordered list, with the reasons:

    1. the source is interrupted        nothing new comes in; what was read and not looked at is returned
    2. the lanes are closed             nothing new goes out; everything that waits is returned
    3. what is in flight is awaited     at most `drain_seconds`: its answers are worth more than a retry
    4. the senders are cancelled        whatever is still in flight is returned, counted as ambiguous
    5. the settler empties              every outcome is durable before its line is settled; a pipe that
                                        nobody reads is waited for no longer than what is in flight
    6. the source is flushed            acknowledgements reach it last, when everything else is safe; at a
                                        second signal a broker that is away is waited for no longer

A run that reaches the end of its input passes the same list with nothing to return.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from permutive_worker.delivery.intake import Intake
from permutive_worker.delivery.lane import Lane
from permutive_worker.delivery.sender import Sender
from permutive_worker.delivery.settler import Settler
from permutive_worker.delivery.stop import Stop
from permutive_worker.model import End
from permutive_worker.ports import Source
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.logs import logger

HURRIED_FLUSH_SECONDS: Final = (
    0.5  # a broker that is there hears of 10,000 messages in that; else they come again
)


class Pipeline:
    """Everything it runs is given to it; it makes tasks and ends them."""

    def __init__(
        self,
        source: Source,
        intake: Intake,
        senders: Sequence[tuple[Lane, Sender]],
        settler: Settler,
        stop: Stop,
        counts: Counts,
        *,
        max_in_flight: int,
        drain_seconds: float,
    ) -> None:
        """Each lane gets `max_in_flight` senders."""
        self._source = source
        self._intake = intake
        self._senders = senders
        self._lanes = [lane for lane, _ in senders]
        self._settler = settler
        self._stop = stop
        self._counts = counts
        self._max_in_flight = max_in_flight
        self._group: asyncio.TaskGroup | None = None  # while it runs
        self._sending: list[asyncio.Task[None]] = []
        self._drain_seconds = drain_seconds
        self._changed = asyncio.Event()
        self.draining = False

    async def run(self) -> None:
        """Return when every line that was read has ended and is settled.

        Cancellation: as a stop that does not wait for what is in flight.
        """
        self._stop.on_request = self._stop_sending
        for lane in self._lanes:
            lane.on_room = self._intake.wake
        async with asyncio.TaskGroup() as group:
            settling = group.create_task(self._settler.run())
            reading = group.create_task(self._guarded(self._read()))
            self._group = group
            self._start_senders(self._max_in_flight)
            settling.add_done_callback(lambda _: self.look())
            try:
                await self._until(lambda: self._stop.requested or self._is_done())
            except asyncio.CancelledError:
                self._stop.hurry()
                raise
            finally:
                await self._undisturbed(self._end(reading, settling))

    def raise_max_in_flight(self, max_in_flight: int) -> None:
        """Let each lane have so many senders; fewer than there are is the gates' business."""
        more = max_in_flight - self._max_in_flight
        if more > 0:
            self._max_in_flight = max_in_flight
            self._start_senders(more)

    def _start_senders(self, of_each_lane: int) -> None:
        if self._group is None or self.draining:
            return
        self._sending += [
            self._group.create_task(self._guarded(sender.run()))
            for _, sender in self._senders
            for _ in range(of_each_lane)
        ]

    async def _end(self, reading: asyncio.Task[None], settling: asyncio.Task[None]) -> None:
        drained_at = asyncio.get_running_loop().time() + self._drain_seconds
        await self._drain(reading, drained_at)
        await self._finish(settling, drained_at)
        await self._flush()

    async def _undisturbed(self, work: Coroutine[Any, Any, None]) -> None:
        """Await all of `work`; a cancellation meanwhile only hurries it, and is raised when it is done."""
        ending = asyncio.create_task(work)
        cancelled: asyncio.CancelledError | None = None
        while not ending.done():
            try:
                await asyncio.wait((ending,))
            except asyncio.CancelledError as error:
                cancelled = error
                self._stop.hurry()
        ending.result()
        if cancelled is not None:
            raise cancelled

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """A bug outside a job ends the run, but only after what is done is settled."""
        try:
            await work
        except Exception as bug:  # noqa: BLE001  (told by the stop, ends the run with 1)
            logger().error("run.failed_inside", error=type(bug).__name__, exc_info=True)
            self._stop.request(error=bug)

    async def _read(self) -> None:
        try:
            await self._intake.run()
        finally:
            self.look()

    async def _drain(self, reading: asyncio.Task[None], drained_at: float) -> None:
        self.draining = True
        self._source.interrupt()
        for lane in self._lanes:
            for entry in lane.close():
                entry.end = End.RETURNED
                self._settler.put(entry)
        self._intake.wake()
        await self._until(lambda: self._stop.hurried or reading.done())
        if not reading.done():
            self._source.interrupt()  # once more: nor is the end of a line waited for
            await reading
        try:
            async with asyncio.timeout_at(drained_at):
                await self._until(self._nothing_in_flight)
        except TimeoutError:
            logger().warning("drain.timed_out", drain_seconds=self._drain_seconds)

    async def _finish(self, settling: asyncio.Task[None], drained_at: float) -> None:
        for task in self._sending:
            task.cancel()
        await asyncio.wait(self._sending)
        # Writers that wait for the reader of a pipe give up then; a disk that hangs is waited for.
        overdue = asyncio.get_running_loop().call_at(drained_at, self._stop.give_up)
        await self._until(lambda: self._settler.settling == 0 or settling.done())
        overdue.cancel()
        settling.cancel()

    async def _flush(self) -> None:
        flushing = asyncio.create_task(self._source.flush())
        flushing.add_done_callback(lambda _: self.look())
        await self._until(lambda: self._stop.hurried or flushing.done())
        await asyncio.wait((flushing,), timeout=HURRIED_FLUSH_SECONDS)
        if not flushing.done():
            flushing.cancel()
            await asyncio.wait((flushing,))
        if not flushing.cancelled():
            flushing.result()

    def _stop_sending(self) -> None:
        """At once, in the call that asks for the stop: answers that come meanwhile start nothing new."""
        for lane in self._lanes:
            lane.closed = True
        self.look()

    def look(self) -> None:
        """Something changed that `run` may wait for: a group settled, a stop, an attempt that landed."""
        self._intake.wake()
        self._changed.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _is_done(self) -> bool:
        return self._intake.ended and self._counts.read == self._counts.ended

    def _nothing_in_flight(self) -> bool:
        return self._stop.hurried or all(lane.gate.jobs_in_flight == 0 for lane in self._lanes)
