"""Where the calls of a client wait for their turn at a gate, which a worker's lane may share."""

import asyncio
import math
from collections.abc import Callable

from permutive_worker.control.halt import Halt
from permutive_worker.http.gate import NEEDS_LEASE, Gate
from permutive_worker.model import Verdict


class Closed(Exception):  # noqa: N818  (it is no fault, it is what the gate says)
    """The gate stays closed for longer than a call may wait; nothing was sent.

    Attributes:
        why: "paused" (the API asks to wait), "down" (it does not answer), "refused" (the key), "closed" (the client).
        seconds: until it is worth asking again.
    """

    def __init__(self, why: str, seconds: float) -> None:
        super().__init__(why)
        self.why = why
        self.seconds = seconds


class Turnstile:
    """One line for all the calls at one gate, first come, first served.

    A lane that shares the gate would take every place and permit the moment it is free: its senders ask at
    once. So a call that waited in vain claims the next turn; then the lane has one, and so on.
    """

    def __init__(self, gate: Gate, now: Callable[[], float]) -> None:
        self._gate = gate
        self._now = now
        self._line = asyncio.Lock()  # FIFO: who waits longest is the leader
        self._alarm: asyncio.Future[None] | None = None
        self._claims = False  # whether the claim on the gate is ours
        self._closed = False
        self._down_since = math.inf  # monotonic seconds: when the breaker was first seen open
        gate.watchers.append(self._wake)

    def close(self) -> None:
        """Hear no more of the gate; who waits here leaves."""
        self._closed = True
        self._gate.watchers.remove(self._wake)
        self._wake()

    async def enter(self, longest_wait_seconds: float) -> Halt | None:
        """Return when an attempt may start; it has entered the gate. Cancellation: safe.

        Returns:
            The halt that the attempt probes, to be given back with what came of it.

        Raises:
            Closed: the key was refused, or the API asked to wait, or did not answer, for longer than that;
                or `close` was called.
        """
        async with self._line:
            try:
                seconds = self._closed_seconds(longest_wait_seconds)
                while seconds:
                    await self._wait(seconds)
                    if seconds := self._closed_seconds(longest_wait_seconds):
                        self._claim(True)
                return self._entered()
            finally:
                self._claim(False)

    def _entered(self) -> Halt | None:
        gate = self._gate
        gate.guests += 1
        halt = gate.halts.lane
        if not halt.halted:
            return None
        halt.started()
        return halt

    def key_changed(self) -> None:
        """There is a new key: what was refused is tried at once."""
        self._gate.halts.ask_now(self._now())
        self._gate.tell()

    def delivered(self, sent_at: float, now: float, probe: Halt | None) -> None:
        """As `Gate.delivered`, for an attempt that entered here."""
        self._gate.guests -= 1
        self._gate.delivered(sent_at, now, probe=probe)
        self._look()

    def heard(self, verdict: Verdict, sent_at: float, now: float, probe: Halt | None) -> None:
        """As `Gate.heard`, for an attempt that entered here."""
        self._gate.guests -= 1
        self._gate.heard(verdict, sent_at, now, probe=probe)
        self._look()

    def _look(self) -> None:
        """Without a worker nobody else sees to the places; how late the loop runs is not the client's business."""
        if self._gate.look(0.0):
            self._gate.tell()

    def leave(self, sent_at: float, now: float, probe: Halt | None) -> None:
        """As `Gate.leave`, for an attempt that entered here."""
        self._gate.guests -= 1
        self._gate.leave(sent_at, now, probe=probe)

    def _claim(self, wanted: bool) -> None:
        gate = self._gate
        if wanted and not gate.claimed:
            gate.claimed = self._claims = True
        elif self._claims and not wanted:
            gate.claimed = self._claims = False
            gate.tell()

    def _closed_seconds(self, longest_wait_seconds: float) -> float:
        now, gate = self._now(), self._gate
        if self._closed:
            raise Closed("closed", 0.0)
        refused = gate.halts.lane.closed_seconds(now)
        if 0 < refused < math.inf:
            raise Closed("refused", refused)
        if (pause := gate.paused_until - now) > longest_wait_seconds:
            raise Closed("paused", pause)
        if not gate.breaker.is_open:
            self._down_since = math.inf
        elif until_probe := gate.breaker.closed_seconds(now):
            self._down_since = min(self._down_since, now)
            if now - self._down_since > longest_wait_seconds:
                raise Closed("down", until_probe)
        if self._claims:
            gate.claimed = False  # only for the question
        seconds = refused or gate.closed_seconds(now) or gate.enter(now)
        gate.claimed = gate.claimed or self._claims
        return seconds

    async def _wait(self, seconds: float) -> None:
        limiter = self._gate.limiter
        if seconds == NEEDS_LEASE and limiter is not None:
            await limiter.lease()
            return
        loop = asyncio.get_running_loop()
        self._alarm = loop.create_future()
        timer = loop.call_later(seconds, self._wake) if seconds < math.inf else None
        try:
            await self._alarm
        finally:
            self._alarm = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)
