"""Finds the rate an API allows and stays just below it.

Theory of operation. The API has a limit it does not tell; a request beyond it is answered 429. So
every probe above the limit costs throttled requests, and every moment below it costs throughput.

    target     the limit as it is believed, requests a second
    growth     how fast the belief rises, per second: doubles while nothing objects
    wall       the target at which the API last objected
    dip        a share of the target to send while a cut has not helped yet (0 … 1)
    noise      throttles that say nothing of the rate, few (`control.noise`) or many (`control.futility`)

    throttled  one cut for everything that was sent before it: deep if growth was fast, 2 to 5 % in the
               steady state (1 - 0.3 √growth), or to what the bucket was just seen to fill at. If cuts
               follow one another, only the dip deepens: the belief was right, the bucket is empty.
    hint       with a Retry-After each objection costs the whole lane a pause and a ramp, some 1.5 s. So it
               has to tell more: the ramp is a search, what was under way tells the limit
               (`control.stragglers`), and the next probe waits for `patience` times the hint: 100, but 8
               at first after the limit has fallen, for it may come back.
    pause      nothing leaves; then the pace rises in a straight line within a second, half of it on average
    afterwards the gap up to the wall closes within seconds, then the target waits (`hold`, in requests and
               not in seconds: the price of a probe is one request in so many), then grows again.
    new regime 6 % above the wall untouched, growth is at least 12 % a second.

What it comes to, simulated: `tests/bench/pace.py`.
Source: AIMD and CUBIC (RFC 9438) for the shape; numbers by simulation.
"""

import math
from typing import Final

from permutive_worker.control.futility import Futility
from permutive_worker.control.noise import Noise
from permutive_worker.control.stragglers import Stragglers

START_PER_SECOND: Final = 500.0
LEAST_PER_SECOND: Final = 0.2  # one in five seconds: below it nothing would be learned
DOUBLING_SECONDS: Final = 0.25  # of the slow start; or two round trips, if those take longer
STARTING_GROWTH: Final = math.log(2) / DOUBLING_SECONDS
# A busy loop asks this late; what was missed meanwhile is caught up, no more. Before the first objection
# more is at stake than a few requests in a bunch: a pace that loses permits never finds out.
SLACK_SECONDS: Final = 0.005
STARTING_SLACK_SECONDS: Final = 0.025
TICK_SECONDS: Final = 0.1
# Limits are mostly counted by the second: one is filled slowly, then all is as before.
RAMP_SECONDS: Final = 1.0
# A cut is climbed back from in this time: an objection within it says more.
CUTS_IN_A_ROW_SECONDS: Final = 3.0
CUTS_BELOW_WALL: Final = 3  # a limit that stays is touched above the wall as often as below it

# By simulation, for buckets of 5 to 4,000 requests a second: the least growth and the hold set the price of
# probing, 0.1 % of requests throttled; the least of a new regime and the most set how fast a change is followed.
LEAST_GROWTH: Final = 0.004  # a second, as all growth
MOST_GROWTH: Final = 1.0
NEW_REGIME_GROWTH: Final = 0.12
HOLD_SECONDS: Final = 0.5
HOLD_REQUESTS: Final = 100
HOLD_GROWTH: Final = 0.0005  # a hold of 100 s ends 5 % higher: a wall believed too low is not kept for long

# With a hint; in hints. A probe costs 1.5 of them: 100 keep the loss at 2 %, 8 after a fall at 15 % for a while.
PATIENCE: Final = 100.0
LEAST_PATIENCE: Final = 8.0
MORE_PATIENCE: Final = 1.3
SETTLED_GROWTH: Final = 0.07  # an objection to slower growth than this was close to the limit
IMPATIENT_GROWTH: Final = 0.03


class Pace:
    """Pure: time is an argument. A gate asks `closed_seconds` and then `take`."""

    __slots__ = (
        "_accepted",
        "_after_ramp",
        "_below_wall",
        "_ceiling",
        "_cut_at",
        "_dip",
        "_dip_at",
        "_faster_at",
        "_futility",
        "_growth",
        "_held",
        "_hold_until",
        "_next_at",
        "_noise",
        "_patience",
        "_ramp_until",
        "_seen",
        "_sent",
        "_starting",
        "_stragglers",
        "_tick_at",
        "_tried",
        "_wall",
        "_worked",
        "cut_at",
        "engaged",
        "round_trip_seconds",
        "target",
    )

    def __init__(self, ceiling_per_second: float = math.inf) -> None:
        """With a ceiling the pace starts at it, else at 500/s and doubles four times a second."""
        known = ceiling_per_second < math.inf
        self.engaged = not known  # else whoever enforces the ceiling is enough, until the API objects
        self.target = ceiling_per_second if known else START_PER_SECOND
        self.round_trip_seconds = 0.0  # smoothed; 0 before the first answer
        self._ceiling = ceiling_per_second
        self._growth = MOST_GROWTH if known else STARTING_GROWTH
        self._starting = not known
        self._wall = math.inf
        self._below_wall = 0  # cuts in a row that came before the target had reached the wall again
        self._dip = 1.0
        self._dip_at = -math.inf
        self._cut_at = -math.inf  # or dipped
        self.cut_at = -math.inf
        self._worked = True  # whether something sent since the last cut was delivered
        self._hold_until = -math.inf
        self._faster_at = -math.inf
        self._next_at = -math.inf
        self._ramp_until = -math.inf
        self._after_ramp = 0  # delivered since then
        self._patience = PATIENCE  # hints to wait before the next probe
        self._noise = Noise()
        self._futility = Futility()
        self._tried = (
            0.0  # the target that is tried again after a trial of a quarter of it; 0: none is under way
        )
        self._stragglers = Stragglers()
        self._accepted = 0  # delivered, and not told to the noise yet
        self._sent = 0  # since the last tick
        self._held = False  # whether the pace kept something from leaving since then
        self._seen = self.target  # requests a second that really left, smoothed
        self._tick_at = -math.inf

    def __repr__(self) -> str:
        return f"<Pace {self.per_second:.1f}/s growth={self._growth:.3f} {self._noise!r}>"

    def set_ceiling(self, ceiling_per_second: float, now: float) -> None:
        """Obey another ceiling from now on, infinity for none; what was found out about the API stays."""
        unopposed = self._wall == math.inf
        if ceiling_per_second < math.inf:
            at_ceiling = unopposed or self.target >= self._ceiling
            self.target = ceiling_per_second if at_ceiling else min(self.target, ceiling_per_second)
        elif unopposed:
            self._starting, self._growth = True, STARTING_GROWTH
            self.target = max(self.target, START_PER_SECOND)
        self._ceiling = ceiling_per_second
        self.engaged = self.target < ceiling_per_second or self._dip < 1.0 or now < self._ramp_until

    @property
    def per_second(self) -> float:
        """Requests a second that may leave now, but for a ramp."""
        return max(LEAST_PER_SECOND, self.target * self._dip)

    def closed_seconds(self, now: float) -> float:
        """0.0 if a request may leave now, else the seconds to wait. Source: GCRA (ITU-T I.371).

        Ask only if one would leave but for the pace: that it was held back is what lets the pace grow.
        """
        seconds = self._next_at - self._slack_seconds - now
        if seconds <= 0:
            return 0.0
        self._held = True
        return seconds

    @property
    def _slack_seconds(self) -> float:
        return STARTING_SLACK_SECONDS if self._starting else SLACK_SECONDS

    def take(self, now: float) -> None:
        """A request leaves."""
        at = max(self._next_at, now - self._slack_seconds)
        if at < self._ramp_until:
            self._next_at = self._next_in_ramp(at)
        else:
            self._next_at = at + 1.0 / self.per_second
        self._sent += 1
        if now >= self._tick_at + TICK_SECONDS:
            self._tick(now)

    def _next_in_ramp(self, at: float) -> float:
        """When the area under a rate that rises from 0 in a straight line has grown by one request."""
        begin = self._ramp_until - RAMP_SECONDS
        gone = max(0.0, at - begin)
        return begin + math.sqrt(gone * gone + 2 * RAMP_SECONDS / self.per_second)

    def delivered(self, sent_at: float, now: float) -> None:
        """An answer that is no throttle came to a request sent at `sent_at`."""
        self.round_trip_seconds += 0.1 * (now - sent_at - self.round_trip_seconds)
        if sent_at < self._cut_at:
            self._stragglers.taken(sent_at)
            return
        self._accepted += 1
        self._worked = True
        if self._dip < 1.0 and now >= self._dip_at + TICK_SECONDS:
            self._dip = min(1.0, self._dip * 2)
            self._dip_at = now

    def throttled(self, sent_at: float, now: float, retry_after_seconds: float | None = None) -> bool:
        """The API objected to a request sent at `sent_at`. Return whether it would have at any pace."""
        if sent_at < self._cut_at:
            self._stragglers.refused(sent_at)
            return False  # one cut for all that was under way
        self.engaged = True
        self._tell_noise(now)
        hinted = retry_after_seconds is not None
        if not hinted:
            if self._futility.throttled(self.per_second, now):
                self._noise.assume(self._futility.share, self._futility.pace)
                self._dip = 1.0
                self._void(now)
            if self._tried:
                return True
        speaks = self._noise.speaks_of_the_rate(self._steady_pace, now, self.round_trip_seconds, dear=hinted)
        if self._noise.is_new:
            self._void(now)
        if speaks:
            self._slow_down(sent_at, now, retry_after_seconds)
        elif hinted:
            self._cut_at = now  # the pause makes stragglers of all that is under way
        return self._futility.share > 0.0 and not speaks

    def _try_futility(self, now: float) -> None:
        """A quarter of the pace shows whether throttles come at any: a limit brings none there."""
        if self._tried:
            futile = self._futility.end_trial(now)
            if futile is None:
                return
            self._wall, self._tried = self._tried, 0.0
            self._noise.assume(self._futility.share)
            if futile:
                self.target = min(self._ceiling, self._wall)
        elif self._futility.is_due(now):
            self._tried, self.target = self.target, max(LEAST_PER_SECOND, min(self.target, self._seen) / 4)
            self._cut_at = now  # answers to what was sent faster do not count
            self._futility.begin_trial()

    @property
    def _steady_pace(self) -> float:
        """What really leaves, for a late loop sends less; infinite in a dip: that is no evidence of anything."""
        return min(self.target, self._seen) if self._dip >= 1.0 else math.inf

    def _slow_down(self, sent_at: float, now: float, hint_seconds: float | None) -> None:
        believed = min(self.target, self._wall)
        self._stragglers.follow(sent_at, self.target)
        filled, excess = self._noise.filled, self._noise.cut(now)
        if hint_seconds is not None and not self._worked:
            self._cut_at = now  # all is throttled, whatever the rate: that says nothing of it
            return
        if hint_seconds is not None:
            self._cut_before_pause(now - self._ramp_until, believed)
        elif not self._worked and now - self._cut_at < 0.3:
            self._dip = max(self._dip / 2, LEAST_PER_SECOND / self.target)
            self._noise.forget()
        else:
            self._cut(now - self._cut_at, filled, excess)
            self.cut_at = now
        self._cut_at = self._dip_at = now
        self._worked = False
        self._hold(now, hint_seconds)

    def _hold(self, now: float, hint_seconds: float | None) -> None:
        hold = max(HOLD_SECONDS, HOLD_REQUESTS / self.target)
        if hint_seconds is not None and self._growth < SETTLED_GROWTH:
            hold += self._patience * hint_seconds
            self._patience = min(PATIENCE, self._patience * MORE_PATIENCE)
            if self._patience < PATIENCE:
                self._growth = max(self._growth, IMPATIENT_GROWTH)
        self._hold_until = self._faster_at = now + hold

    def _cut(self, since_cut: float, filled: float, excess: float) -> None:
        share = min(self._share, 1 - excess)
        if since_cut < CUTS_IN_A_ROW_SECONDS:
            # Beside what was sent, not beside the target: a late loop sends less than that.
            share = min(share, 0.985 * min(1.0, filled / self._seen) if filled else 0.9)
        self._below_wall = self._below_wall + 1 if self.target < self._wall else 0
        if self._below_wall >= CUTS_BELOW_WALL:  # either the limit has fallen, or it is noise: this tells
            share = min(share, 0.88)
            self._below_wall = 0
        # A target nobody reached says nothing of the limit; what really left does.
        wall = self.target if self.target < 1.5 * self._seen else self._seen
        self._believe(wall, max(0.3, share))
        self._growth = max(LEAST_GROWTH, self._growth / 4)
        self._starting = False

    @property
    def _share(self) -> float:
        """Of the target to keep: while it grew, the bucket's burst let it rise beyond the limit by √growth."""
        return 1 - 0.3 * math.sqrt(self._growth)

    def _believe(self, wall: float, share: float) -> None:
        self._wall = max(LEAST_PER_SECOND, wall)
        self.target = max(LEAST_PER_SECOND, self._wall * share)

    def _cut_before_pause(self, since_ramp: float, believed: float) -> None:
        if since_ramp <= 1.0:
            self._noise.forget()
        if -RAMP_SECONDS < since_ramp < 0.0:  # the ramp came as far as the limit, or beyond
            self._believe(self.target * max(0.3, 1 + since_ramp / RAMP_SECONDS), 0.9)
            self._note_fall(believed)
            return
        before, share = self.target, self._share
        self._cut(math.inf, 0.0, 0.0)
        if since_ramp > 1.0:
            wall = before * share
            # All of it near the limit: the bucket hardly overflowed. 0.1 s for its burst.
            if since_ramp < 10.0:
                wall = min(wall, max(self._after_ramp / (since_ramp + 0.1), 0.5 * before))
            self._believe(wall, 0.985)
        elif self._growth < 0.1:
            self._believe(0.9 * before, 0.9)

    def _note_fall(self, believed: float) -> None:
        """The limit may be another than it was: look more often whether it comes back."""
        self._noise.forget()
        if self._wall < 0.8 * believed and self._growth < SETTLED_GROWTH:
            self._patience = LEAST_PATIENCE
            self._growth = IMPATIENT_GROWTH

    def _void(self, now: float) -> None:
        """The cuts below what is proven were for nothing; and nothing is known of a limit."""
        self._wall = self.target = min(self._ceiling, max(self._wall, self._noise.proven))
        self._growth = MOST_GROWTH
        self._hold_until = self._faster_at = now

    def pause(self, until: float) -> None:
        """Nothing leaves before `until`; then the pace rises from nothing within a second."""
        if until + RAMP_SECONDS > self._ramp_until:
            self._ramp(until)

    def storm(self, until: float) -> None:
        """Half of what is sent is throttled, without a hint: the limit is below half of that; and pause."""
        limit = self._stragglers.per_second / 2
        if limit < self.target:
            self._believe(limit, 0.9)
        self._noise.forget()
        self.pause(until)

    def restart(self, now: float) -> None:
        """The API is back after an outage: begin at half of what it could, and ramp."""
        self._wall = max(self._wall, self.target) if self._wall < math.inf else self.target
        self.target = max(LEAST_PER_SECOND, self.target / 2)
        self._cut_at = now
        self._ramp(now)

    def _ramp(self, begin: float) -> None:
        self.engaged = True
        self._ramp_until = begin + RAMP_SECONDS
        self._next_at = max(self._next_at, begin)
        self._after_ramp = 0

    def _tell_noise(self, now: float) -> None:
        if not self._accepted:
            return
        self._futility.others(self._accepted, self.per_second)
        self._try_futility(now)
        self._noise.others(self._accepted, self._steady_pace, now)
        if self._noise.is_new:
            self._void(now)
        if now - self._accepted / self.per_second > self._ramp_until:
            self._after_ramp += self._accepted
        self._accepted = 0

    def _hear_stragglers(self) -> None:
        limit = self._stragglers.limit()
        if limit < self.target:
            believed = min(self.target, self._wall)
            self._believe(limit, 0.95)
            self._note_fall(believed)

    def _tick(self, now: float) -> None:
        """Every 0.1 s while requests leave; grows only if it is the pace that holds them back."""
        passed = now - self._tick_at
        self._tell_noise(now)
        ramping = now < self._ramp_until
        if ramping:
            self._hear_stragglers()
        elif passed < 1.0:  # a longer silence says nothing of the rate
            self._seen += 0.3 * (self._sent / passed - self._seen)
        enough = self._starting or self._sent >= 0.5 * self.per_second * passed - 1
        if self._held and enough and self._dip >= 1.0 and not self._tried:
            self.target = min(self._ceiling, self._grown(now, min(passed, 2 * TICK_SECONDS)))
            self.engaged = self.target < self._ceiling or ramping
        self._sent, self._held, self._tick_at = 0, False, now

    def _grown(self, now: float, seconds: float) -> float:
        if self._starting:
            doubling = max(DOUBLING_SECONDS, 2 * self.round_trip_seconds)
            return self.target * math.exp(math.log(2) / doubling * seconds)
        if self.target < 0.97 * self._wall:
            return self.target + (self._wall - self.target) * seconds / 2.0
        if now < self._hold_until:
            return self.target * (1 + HOLD_GROWTH * seconds)
        if now >= self._faster_at:
            self._growth *= 2 if self._faster_at > self._hold_until else 1
            self._faster_at = now + min(max(600 / self.target, 1.5), 6.0)
        if self.target > 1.06 * self._wall:
            self._growth = max(self._growth, NEW_REGIME_GROWTH)
        self._growth = min(self._growth, MOST_GROWTH)
        return self.target * (1 + self._growth * seconds)
