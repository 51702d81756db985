"""What stands before every attempt of one set of credentials at one host.

The order of the gates is written once, in `closed_seconds` and `permit_seconds`; the lane asks them
in one synchronous call, so nothing changes between a check and a send. Jobs and calls of the
client pass the same gate.
"""

import math
from collections.abc import Callable
from typing import Final

from permutive_worker.control.breaker import Breaker
from permutive_worker.control.halt import Halt
from permutive_worker.control.pace import Pace
from permutive_worker.control.places import Places
from permutive_worker.model import Action, Verdict
from permutive_worker.ports import Limiter

NEEDS_LEASE: Final = -1.0  # an answer of `permit_seconds`: no time to wait, a lease to fetch


class Gate:
    """Halt, breaker, pause, place, permit.

    The permit has two sides: the user's ceiling (the limiter) and what the API was found to allow
    (the pace). With a ceiling the pace stays out of the way until the API objects: two rates in a
    row would bunch requests.
    """

    def __init__(self, max_in_flight: int, limiter: Limiter | None = None, pace: Pace | None = None) -> None:
        """No limiter: no ceiling. The pace is one that finds the limit unless another is given."""
        self.halt = Halt()
        self.breaker = Breaker()
        self.paused_until = -math.inf  # monotonic seconds
        self.places = Places(max_in_flight)
        self.in_flight = 0
        self.limiter = limiter
        self.on_pause: Callable[[float], None] | None = None  # who else pauses, where a limit is shared
        self.pace = pace or Pace()

    def __repr__(self) -> str:
        return f"<Gate in_flight={self.in_flight}/{self.places.limit} {self.halt!r} {self.breaker!r}>"

    def closed_seconds(self, now: float) -> float:
        """0.0 if an attempt may start but for its permit, else the seconds to wait; inf: until woken."""
        if self.halt.since is not None and (seconds := self.halt.closed_seconds(now)):
            return seconds  # a refused key: nothing else matters
        if self.breaker.is_open and (seconds := self.breaker.closed_seconds(now)):
            return seconds  # the API is down: a pause or a place would not help
        if self.paused_until > now:
            return self.paused_until - now  # the API said when
        if self.in_flight >= self.places.limit:
            return math.inf  # somebody lands and wakes us
        return 0.0

    def permit_seconds(self, now: float) -> float:
        """Spend a permit and return 0.0, or say what to wait for. Last, because it cannot be given back."""
        pace = self.pace
        if pace.engaged and (seconds := pace.closed_seconds(now)):
            return seconds
        if self.limiter is not None and not self.limiter.try_take(now):
            return NEEDS_LEASE
        if pace.engaged:
            pace.take(now)
        return 0.0

    def enter(self) -> None:
        """An attempt starts."""
        self.in_flight += 1
        if self.halt.since is not None:
            self.halt.started()
        if self.breaker.is_open:
            self.breaker.started()

    def leave(self) -> None:
        """The attempt was cut short and says nothing of the API."""
        self.in_flight -= 1
        self.halt.gave_up()
        self.breaker.gave_up()

    def delivered(self, sent_at: float, now: float) -> None:
        """The attempt that was sent at `sent_at` was taken: the API is up and the key is good."""
        self.in_flight -= 1
        if self.halt.since is not None:
            self.halt.accepted(sent_at)
        self._answered(sent_at, now)

    def heard(self, verdict: Verdict, sent_at: float, now: float) -> None:
        """The attempt that was sent at `sent_at` did not deliver: what its answer says of the API."""
        self.in_flight -= 1
        if verdict.action is Action.HALT:
            self.halt.refused(now, sent_at, verdict.why)
        elif verdict.status:
            self.halt.accepted(sent_at)
        else:
            self.halt.gave_up()
        if verdict.action is Action.THROTTLED:
            self._throttled(verdict.retry_after_seconds, sent_at, now)
        elif 0 < verdict.status < 500:
            self._answered(sent_at, now)
        else:
            self.breaker.failed(now)

    def _answered(self, sent_at: float, now: float) -> None:
        if self.breaker.is_open:
            self.pace.restart(now)
        self.breaker.succeeded()
        if self.pace.engaged:
            self.pace.delivered(sent_at, now)

    def _throttled(self, retry_after_seconds: float | None, sent_at: float, now: float) -> None:
        self.breaker.succeeded()  # it is there, and says so
        self.pace.throttled(sent_at, now, retry_after_seconds)
        if retry_after_seconds is not None:
            self.pause(now + retry_after_seconds)

    def pause(self, until: float) -> None:
        """Nothing new starts before `until`; a shorter pause never cuts a longer one."""
        self.paused_until = max(self.paused_until, until)
        if self.limiter is not None:
            self.limiter.drop()
        if self.on_pause is not None:
            self.on_pause(self.paused_until)

    @property
    def is_moving(self) -> bool:
        """Whether waiting jobs will leave soon: neither halted nor broken. (A pause is looked at by time.)"""
        return not self.halt.halted and not self.breaker.is_open
