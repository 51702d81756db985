"""A lane: one set of credentials at one host, with the jobs that wait for it.

All job kinds of a workspace share it, so that one user's order holds across kinds.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Final

from permutive_worker.control.backlog import Backlog
from permutive_worker.control.budget import Budget
from permutive_worker.control.halt import Halt
from permutive_worker.http.gate import NEEDS_LEASE, Gate
from permutive_worker.model import Entry
from permutive_worker.telemetry.counts import Counts

# A full backlog costs cache misses: measured, 20,000 waiting jobs make each one 15 % dearer than 2,000.
HIGH_WATER: Final = 2000
LOW_WATER: Final = HIGH_WATER - 256  # a refill then never holds the loop for more than 1 ms
SOON_SECONDS: Final = 1.0  # a pause shorter than this does not make the lane stand still


class Lane:
    """Answers one question, `next(now)`, and is the one place where senders wait."""

    def __init__(
        self,
        workspace: str,
        gate: Gate,
        budget: Budget,
        user_limit_bytes: int,
        counts: Counts,
        now: Callable[[], float],
    ) -> None:
        """`budget` is this lane's share; one user may hold `user_limit_bytes` of waiting jobs."""
        self.workspace = workspace
        self.gate = gate
        self.budget = budget
        self.backlog: Backlog[Entry] = Backlog()
        self.closed = False
        self.has_delivered = False  # whether any job of it was, ever
        self.on_room: Callable[[], None] = _nobody
        self.is_holding = False  # some kind, or all of them: what may leave depends on the job
        self._user_limit_bytes = user_limit_bytes
        self._counts = counts
        self._now = now
        self._line = asyncio.Lock()  # FIFO: who waits longest is the leader
        self._alarm: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Lane {self.workspace} {self.backlog!r} {self.gate!r}>"

    def next(self, now: float) -> Entry | float:
        """The next job to send, taken; or the seconds to wait; or NEEDS_LEASE.

        Synchronous on purpose: halt, breaker, pause, place, ready job and permit are looked at in
        one go, so nothing changes between a check and a send, and a waiting sender holds no job.
        """
        if self.closed:
            return math.inf
        if seconds := self.gate.closed_seconds(now):
            return seconds
        if self.is_holding:
            return self._next_while_holding(now)
        if seconds := self.backlog.seconds_until_ready(now):
            return seconds
        if seconds := self.gate.enter(now):
            return seconds
        if len(self.backlog.ready) == LOW_WATER:
            self.on_room()
        return self.backlog.take()

    def _next_while_holding(self, now: float) -> Entry | float:
        """As `next`, where only probes and the jobs of kinds that are not held may leave."""
        halt, kind, seconds = self._choose(now)
        if seconds := seconds or self.gate.enter(now):
            return seconds
        if kind is None:
            if len(self.backlog.ready) == LOW_WATER:
                self.on_room()
            entry = self.backlog.take()
        else:
            entry = self.backlog.take_parked(kind)
        self.gate.trickle.started(entry.kind, now)
        entry.probe = halt
        if halt is not None:
            halt.started()
        return entry

    def _choose(self, now: float) -> tuple[Halt | None, str | None, float]:
        """The halt to probe (None: no probe), the kind to take a parked job of (None: a ready one), the wait."""
        backlog, halts = self.backlog, self.gate.halts
        until_ready = backlog.seconds_until_ready(now)
        parked = [kind for kind in backlog.parked_kinds if backlog.has_parked(kind)]
        if halts.lane.halted:
            if until_ready == 0.0 or not parked:
                return halts.lane, None, max(halts.lane.closed_seconds(now), until_ready)
            return halts.lane, parked[0], halts.lane.closed_seconds(now)
        others_ready = until_ready == 0.0
        for kind in halts.kinds:  # first, for they are rare: a kind that fails would leave no turn to them
            seconds = halts.kinds[kind].closed_seconds(now) if kind in parked else math.inf
            if seconds == 0.0:
                return halts.kinds[kind], kind, 0.0
            until_ready = min(until_ready, seconds)
        for kind in self.gate.trickle.kinds:
            if kind not in parked or kind in halts.kinds:
                continue
            if self.gate.trickle.may_start(kind, others_ready=others_ready):
                return None, kind, 0.0
        return None, None, until_ready

    def look_at_holds(self) -> None:
        """A halt or a trickle began or ended: jobs of a kind that is held are parked, and no others."""
        backlog, gate = self.backlog, self.gate
        held = {*gate.halts.kinds, *gate.trickle.kinds}
        for kind in backlog.parked_kinds:
            if kind not in held:
                backlog.unpark(kind)
        for kind in held.difference(backlog.parked_kinds):
            backlog.park(kind)
            self.on_room()  # what is parked leaves room for other kinds
        self.is_holding = gate.halts.standing or bool(held)
        self.wake()

    def key_changed(self) -> None:
        """There is a new key: what is halted is tried at once."""
        self.gate.halts.ask_now(self._now())
        self.wake()

    @property
    def is_stuck(self) -> bool:
        """Whether nothing of it moves but probes: it is halted, or all that waits is."""
        gate, backlog = self.gate, self.backlog
        if gate.jobs_in_flight > gate.halts.probes:
            return False
        if gate.halts.lane.halted:
            return True
        refused = gate.halts.kinds
        trickling = any(backlog.has_parked(kind) for kind in gate.trickle.kinds if kind not in refused)
        return bool(refused) and not (backlog.ready or backlog.asleep or trickling)

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing to do."""
        return not self.gate.jobs_in_flight and not len(self.backlog)

    async def turn(self) -> Entry:
        """Wait in line for the next job. Cancellation: safe, nothing is held while waiting."""
        async with self._line:
            while True:
                answer = self.next(self._now())
                if not isinstance(answer, float):
                    return answer
                await self._wait(answer)

    async def _wait(self, seconds: float) -> None:
        limiter = self.gate.limiter
        if seconds == NEEDS_LEASE and limiter is not None:
            began = self._now()
            await limiter.lease()
            self._counts.rate_limit_wait_seconds += self._now() - began
        else:
            await self._sleep(seconds)

    async def _sleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._alarm = alarm = loop.create_future()
        timer = loop.call_later(seconds, self.wake) if seconds < math.inf else None
        try:
            await alarm
        finally:
            self._alarm = None
            if timer is not None:
                timer.cancel()

    def loop_was_late(self, lag_seconds: float, busy: float = 0.0) -> None:
        """Hear how late and how busy the loop is: that is one of what decides how many places there are."""
        if self.gate.look(lag_seconds, busy):
            self.wake()

    def wake(self) -> None:
        """Something that changes the answer of `next` has happened."""
        alarm = self._alarm
        if alarm is not None:
            self._alarm = None  # once is enough: every job that lands asks
            if not alarm.done():
                alarm.set_result(None)

    def has_room(self, entry: Entry) -> bool:
        """Whether intake may add this job, or must wait."""
        if not self.budget.has_room:
            return False
        if len(self.backlog.ready) >= HIGH_WATER and self._is_moving():
            return False
        waiting = self.backlog.blocked_bytes(entry.user)
        return waiting == 0 or waiting + entry.charge_bytes <= self._user_limit_bytes

    @property
    def is_full(self) -> bool:
        """Enough is ready, and leaves soon."""
        return len(self.backlog.ready) >= HIGH_WATER and self._is_moving()

    def _is_moving(self) -> bool:
        return self.gate.is_moving and self.gate.paused_until <= self._now() + SOON_SECONDS

    def add(self, entry: Entry) -> None:
        self.backlog.add(entry)
        if self._alarm is not None:  # every job passes here and at the next one: calls are saved
            self.wake()

    def again(self, entry: Entry, due: float | None) -> None:
        """The attempt is over and the job is not: it waits until `due`, or is first in line."""
        self.backlog.put_back(entry, due)
        self.wake()

    def again_last(self, entry: Entry) -> None:
        """It was refused on this job: the next probe shall be another one, if there is one."""
        self.backlog.put_last(entry)
        self.wake()

    def landed(self, entry: Entry) -> None:
        """The job has its last verdict: its user is free."""
        self.backlog.landed(entry)
        if self._alarm is not None:
            self.wake()

    def expire(self, read_before: float) -> list[Entry]:
        """Give up what waits and was read before this moment."""
        expired = self.backlog.expire(read_before)
        if expired:
            self.wake()
            self.on_room()
        return expired

    def close(self) -> list[Entry]:
        """Start nothing new, and give up what waits; what is in flight stays with its senders."""
        self.closed = True
        return self.backlog.drain()


def _nobody() -> None:
    """Before intake has said how it wants to be told."""
