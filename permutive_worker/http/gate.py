"""What stands before every attempt of one set of credentials at one host.

The order of the gates is written once, in `closed_seconds` and `enter`; the lane asks them
in one synchronous call, so nothing changes between a check and a send. Halts are asked between the two,
and only while one stands: what may leave depends on the job. Jobs and calls of the client pass the same gate.
"""

import math
from collections.abc import Callable
from typing import Final

from permutive_worker.control.breaker import Breaker
from permutive_worker.control.halt import Halt
from permutive_worker.control.halts import Halts
from permutive_worker.control.pace import Pace
from permutive_worker.control.places import Places
from permutive_worker.control.storm import Storm
from permutive_worker.control.trickle import Trickle
from permutive_worker.model import Action, Verdict
from permutive_worker.ports import Limiter

NEEDS_LEASE: Final = -1.0  # an answer of `enter`: no time to wait, a lease to fetch


class Gate:
    """Breaker, pause, place, halt, permit.

    The permit has two sides: the user's ceiling (the limiter) and what the API was found to allow
    (the pace). With a ceiling the pace stays out of the way until the API objects: two rates in a
    row would bunch requests.
    """

    def __init__(self, max_in_flight: int, limiter: Limiter | None = None, pace: Pace | None = None) -> None:
        """No limiter: no ceiling. The pace is one that finds the limit unless another is given."""
        self.halts = Halts()
        self.trickle = Trickle()
        self.breaker = Breaker()
        self.paused_until = -math.inf  # monotonic seconds
        self.places = Places(max_in_flight)
        self.in_flight = 0
        self.limiter = limiter
        self.on_pause: Callable[[float], None] | None = None  # who else pauses, where a limit is shared
        self.pace = pace or Pace()
        self.storm = Storm()
        # Where a client's calls pass the gate of a lane as well:
        self.watchers: list[Callable[[], None]] = []  # who waits here hears of what the others change
        self.claimed = False  # by a call that waited in vain; the next turn is its own
        self.guests = 0  # calls in flight

    def __repr__(self) -> str:
        return f"<Gate in_flight={self.in_flight}/{self.places.limit} {self.halts!r} {self.breaker!r}>"

    def change(
        self, limiter: Limiter | None, ceiling_per_second: float, max_in_flight: int, now: float
    ) -> None:
        """Obey other limits from now on; what was found out about the API stays.

        `limiter` enforces the ceiling: None and infinity go together.
        """
        self.limiter = limiter
        self.pace.set_ceiling(ceiling_per_second, now)
        self.places.set_most(max_in_flight)
        self.tell()

    def closed_seconds(self, now: float) -> float:
        """0.0 if an attempt may start but for its permit, else the seconds to wait; inf: until woken."""
        if self.breaker.is_open and (seconds := self.breaker.closed_seconds(now)):
            return seconds  # the API is down: a pause or a place would not help
        if self.paused_until > now:
            return self.paused_until - now  # the API said when
        if self.in_flight >= self.places.limit or self.claimed:
            return math.inf  # somebody lands, or takes the turn, and wakes us
        return 0.0

    def enter(self, now: float) -> float:
        """Spend a permit, let an attempt start and return 0.0, or say what to wait for.

        Asked last, because the permit cannot be given back.
        """
        pace = self.pace
        if pace.engaged and (seconds := pace.closed_seconds(now)):
            return seconds
        if self.limiter is not None and not self.limiter.try_take(now):
            return NEEDS_LEASE
        if pace.engaged:
            pace.take(now)
        if self.breaker.is_open:
            self.breaker.started()
        self.in_flight += 1
        return 0.0

    def leave(self, sent_at: float, now: float, kind: str = "", probe: Halt | None = None) -> None:
        """The attempt was cut short and says nothing of the API; `probe` is the halt it was to open."""
        self.in_flight -= 1
        self.trickle.cut(kind, sent_at)
        if probe is not None:
            probe.gave_up(now)
        self.breaker.gave_up()
        self.tell()

    def delivered(self, sent_at: float, now: float, kind: str = "", probe: Halt | None = None) -> None:
        """The attempt that was sent at `sent_at` was taken: the API is up and the key is good."""
        self.in_flight -= 1
        if self.halts.watched:
            self.halts.taken(kind, sent_at)
        if self.trickle.watching:
            self.trickle.answered(kind)
        if probe is not None:
            self.halts.accepted(now, kind, probe)
        self._answered(sent_at, now)
        if self.watchers:
            self.tell()

    def heard(
        self, verdict: Verdict, sent_at: float, now: float, kind: str = "", probe: Halt | None = None
    ) -> None:
        """The attempt that was sent at `sent_at` did not deliver: what its answer says of the API."""
        self.in_flight -= 1
        if verdict.action is Action.HALT:
            self.halts.refused(now, sent_at, kind if verdict.of_kind else None, verdict.status, probe)
        elif probe is not None:
            if judges_the_job(verdict):
                self.halts.accepted(now, kind, probe)
            else:
                probe.gave_up(now, verdict.retry_after_seconds or 0.0)
        if verdict.action is Action.THROTTLED:
            self._throttled(verdict.retry_after_seconds, sent_at, now)
        elif 0 < verdict.status < 500:
            self._answered(sent_at, now)
        else:
            self._failed(verdict, sent_at, now)
            if kind:  # a call of a client has none
                self.trickle.failed(kind, sent_at)
            self.tell()
            return
        if self.trickle.watching:
            self.trickle.answered(kind)
        self.tell()

    def refused_job(self, sent_at: float, now: float, kind: str) -> None:
        """The attempt was refused for the job itself: the API is up, and the key is good."""
        self.in_flight -= 1
        if self.trickle.watching:
            self.trickle.answered(kind)
        self._answered(sent_at, now)
        self.tell()

    def tell(self) -> None:
        """Wake all who wait at this gate."""
        for wake in self.watchers:
            wake()

    def _answered(self, sent_at: float, now: float) -> None:
        if self.breaker.succeeded(sent_at):
            self.pace.restart(now)
        self.places.heard = True
        if self.places.troubled:
            self.places.answered()
        if self.storm.brews:
            self.storm.answered()
        self.pace.delivered(sent_at, now)

    def _throttled(self, retry_after_seconds: float | None, sent_at: float, now: float) -> None:
        if self.breaker.succeeded(sent_at):  # it is there, and says so
            self.pace.restart(now)
        self.places.heard = True
        if self.places.troubled:
            self.places.answered()
        futile = self.pace.throttled(sent_at, now, retry_after_seconds)
        if retry_after_seconds is not None:
            self.pause(now + retry_after_seconds)
        elif futile or sent_at < self.pace.cut_at:
            return
        elif seconds := self.storm.throttled(sent_at, now):
            self.pace.storm(now + seconds)
            self.pause(now + seconds)

    def _failed(self, verdict: Verdict, sent_at: float, now: float) -> None:
        self.breaker.failed(sent_at, now)
        if verdict.status:
            self.places.heard = True
            self.places.answered()
        elif verdict.why == "timeout":
            self.places.timed_out(sent_at, now)

    def look(self, lag_seconds: float, busy: float = 0.0) -> bool:
        """Hear how late and how busy the loop is, some twenty times a second; True if there are more places now."""
        pace = self.pace
        return self.places.look(lag_seconds, self.in_flight, pace.per_second, pace.round_trip_seconds, busy)

    def pause(self, until: float) -> None:
        """Nothing new starts before `until`; a shorter pause never cuts a longer one."""
        self.paused_until = max(self.paused_until, until)
        self.pace.pause(self.paused_until)
        if self.limiter is not None:
            self.limiter.drop()
        if self.on_pause is not None:
            self.on_pause(self.paused_until)

    @property
    def jobs_in_flight(self) -> int:
        """Attempts of the lane, without those of a client that shares the gate."""
        return self.in_flight - self.guests

    @property
    def is_moving(self) -> bool:
        """Whether waiting jobs will leave soon: neither halted nor broken. (A pause is looked at by time.)"""
        return not self.halts.lane.halted and not self.breaker.is_open


def judges_the_job(verdict: Verdict) -> bool:
    """Whether the API looked past the key and at the job, and refuses that."""
    return verdict.action is Action.REJECT and 400 <= verdict.status < 500
