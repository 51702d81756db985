"""Where the calls of a client wait for their turn at a gate, which a worker's lane may share."""

import asyncio
import math
from collections.abc import Callable

from permutive_worker.http.gate import NEEDS_LEASE, Gate
from permutive_worker.model import Verdict


class Closed(Exception):  # noqa: N818  (it is no fault, it is what the gate says)
    """The gate stays closed for longer than a call may wait; nothing was sent.

    Attributes:
        why: "paused" (the API asks to wait), "down" (it does not answer), or what the halt says:
            "key_refused" …
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
        self._down_since = math.inf  # monotonic seconds: when the breaker was first seen open
        gate.watchers.append(self._wake)

    def close(self) -> None:
        """Hear no more of the gate."""
        self._gate.watchers.remove(self._wake)

    async def enter(self, longest_wait_seconds: float) -> None:
        """Return when an attempt may start; it has entered the gate. Cancellation: safe.

        Raises:
            Closed: the key was refused, or the API asked to wait, or did not answer, for longer than that.
        """
        async with self._line:
            try:
                seconds = self._closed_seconds(longest_wait_seconds)
                while seconds:
                    await self._wait(seconds)
                    if seconds := self._closed_seconds(longest_wait_seconds):
                        self._claim(True)
                self._gate.enter()
                self._gate.guests += 1
            finally:
                self._claim(False)

    def key_changed(self) -> None:
        """There is a new key: a halt for the old one is over."""
        self._gate.halt.accepted(math.inf)
        self._gate.tell()

    def delivered(self, sent_at: float, now: float) -> None:
        """As `Gate.delivered`, for an attempt that entered here."""
        self._gate.guests -= 1
        self._gate.delivered(sent_at, now)

    def heard(self, verdict: Verdict, sent_at: float, now: float) -> None:
        """As `Gate.heard`, for an attempt that entered here."""
        self._gate.guests -= 1
        self._gate.heard(verdict, sent_at, now)

    def leave(self) -> None:
        """As `Gate.leave`, for an attempt that entered here."""
        self._gate.guests -= 1
        self._gate.leave()

    def _claim(self, wanted: bool) -> None:
        gate = self._gate
        if wanted and not gate.claimed:
            gate.claimed = self._claims = True
        elif self._claims and not wanted:
            gate.claimed = self._claims = False
            gate.tell()

    def _closed_seconds(self, longest_wait_seconds: float) -> float:
        now, gate = self._now(), self._gate
        if 0 < (refused := gate.halt.closed_seconds(now)) < math.inf:
            raise Closed(gate.halt.why, refused)
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
        seconds = gate.closed_seconds(now) or gate.permit_seconds(now)
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
