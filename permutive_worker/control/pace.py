"""Finds the rate an API allows and stays just below it.

Theory of operation. The API has a limit it does not tell; a request beyond it is answered 429. So
every probe above the limit costs throttled requests, and every moment below it costs throughput.

    target     the limit as it is believed, requests a second
    growth     how fast the belief rises, per second: doubles while nothing objects
    wall       the target at which the API last objected
    dip        a share of the target to send while a cut has not helped yet (0 … 1)

    throttled  one cut for everything that was sent before it: deep if growth was fast, 2 to 5 % in the
               steady state (1 - 0.3 √growth). If cuts follow one another, only the dip deepens: the
               belief was right, the bucket is empty.
    afterwards the gap up to the wall closes within seconds, then the target waits (`hold`, in requests and
               not in seconds: the price of a probe is one request in so many), then grows again.
    new regime 6 % above the wall untouched, growth is at least 12 % a second.

Measured against the sandbox, a token bucket of 400/s, burst 40, 20 ms, no hint: 12,000 jobs in 30.2 s, 19
requests throttled, so 99 % used and 0.2 % throttled.
Source: AIMD and CUBIC (RFC 9438) for the shape; cuts and holds by simulation.
"""

import math
from typing import Final

START_PER_SECOND: Final = 500.0
LEAST_PER_SECOND: Final = 0.2  # one in five seconds: below it nothing would be learned
DOUBLING_SECONDS: Final = 0.25  # of the slow start; or two round trips, if those take longer
# A busy loop asks this late; what was missed meanwhile is caught up, no more. Before the first objection
# more is at stake than a few requests in a bunch: a pace that loses permits never finds out.
SLACK_SECONDS: Final = 0.005
STARTING_SLACK_SECONDS: Final = 0.025
TICK_SECONDS: Final = 0.1
LEAST_GROWTH: Final = 0.004  # a second
HOLD_SECONDS: Final = 0.5
HOLD_REQUESTS: Final = 100
CUTS_IN_A_ROW_SECONDS: Final = 3.0


class Pace:
    """Pure: time is an argument. A gate asks `closed_seconds` and then `take`."""

    __slots__ = (
        "_ceiling",
        "_cut_at",
        "_dip",
        "_dip_at",
        "_faster_at",
        "_growth",
        "_held",
        "_hold_until",
        "_next_at",
        "_round_trip",
        "_seen",
        "_sent",
        "_starting",
        "_tick_at",
        "_wall",
        "_worked",
        "engaged",
        "target",
    )

    def __init__(self, ceiling_per_second: float = math.inf) -> None:
        """With a ceiling the pace starts at it, else at 500/s and doubles four times a second."""
        known = ceiling_per_second < math.inf
        self.engaged = not known  # else whoever enforces the ceiling is enough, until the API objects
        self.target = ceiling_per_second if known else START_PER_SECOND
        self._ceiling = ceiling_per_second
        self._growth = 1.0 if known else math.log(2) / DOUBLING_SECONDS
        self._starting = not known
        self._wall = math.inf
        self._dip = 1.0
        self._dip_at = -math.inf
        self._cut_at = -math.inf
        self._worked = True  # whether something sent since the last cut was delivered
        self._hold_until = -math.inf
        self._faster_at = -math.inf
        self._next_at = -math.inf
        self._round_trip = 0.0
        self._sent = 0  # since the last tick
        self._held = False  # whether the pace kept something from leaving since then
        self._seen = self.target  # requests a second that really left, smoothed
        self._tick_at = -math.inf

    def __repr__(self) -> str:
        return f"<Pace {self.per_second:.1f}/s growth={self._growth:.3f}>"

    @property
    def per_second(self) -> float:
        """Requests a second that may leave now."""
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
        self._next_at = max(self._next_at, now - self._slack_seconds) + 1.0 / self.per_second
        self._sent += 1
        if now >= self._tick_at + TICK_SECONDS:
            self._tick(now)

    def delivered(self, sent_at: float, now: float) -> None:
        """An answer that is no throttle came to a request sent at `sent_at`."""
        self._round_trip += 0.1 * (now - sent_at - self._round_trip)
        if sent_at < self._cut_at:
            return
        self._worked = True
        if self._dip < 1.0 and now >= self._dip_at + TICK_SECONDS:
            self._dip = min(1.0, self._dip * 2)
            self._dip_at = now

    def throttled(self, sent_at: float, now: float, retry_after_seconds: float | None = None) -> None:
        """The API objected to a request sent at `sent_at`."""
        if sent_at < self._cut_at:
            return  # one cut for all that was under way
        self.engaged = True
        since_cut = now - self._cut_at
        if not self._worked and since_cut < 0.3:
            self._dip = max(self._dip / 2, LEAST_PER_SECOND / self.target)
        else:
            self._cut(since_cut)
        self._cut_at = self._dip_at = now
        self._worked = False
        hold = max(HOLD_SECONDS, HOLD_REQUESTS / self.target)
        if retry_after_seconds is not None:
            hold += 100 * retry_after_seconds
            self._dip = min(self._dip, 0.5)
        self._hold_until = self._faster_at = now + hold

    def restart(self, now: float) -> None:
        """The API is back after an outage: begin at half of what it could, and ramp."""
        self.engaged = True
        self._wall = max(self._wall, self.target) if self._wall < math.inf else self.target
        self.target = max(LEAST_PER_SECOND, self.target / 2)
        self._cut_at = now

    def _cut(self, since_cut: float) -> None:
        share = 1 - 0.3 * math.sqrt(self._growth)
        if since_cut < CUTS_IN_A_ROW_SECONDS:
            share = min(share, 0.9)
        # A target nobody reached says nothing of the limit; what really left does.
        self._wall = self.target if self.target < 1.5 * self._seen else max(self._seen, LEAST_PER_SECOND)
        self.target = max(LEAST_PER_SECOND, self._wall * max(0.3, share))
        self._growth = max(LEAST_GROWTH, self._growth / 4)
        self._starting = False

    def _tick(self, now: float) -> None:
        """Every 0.1 s while requests leave; grows only if it is the pace that holds them back."""
        passed = now - self._tick_at
        if passed < 1.0:  # a longer silence says nothing of the rate
            self._seen += 0.3 * (self._sent / passed - self._seen)
        enough = self._starting or self._sent >= 0.5 * self.per_second * passed - 1
        if self._held and enough and self._dip >= 1.0:
            self.target = min(self._ceiling, self._grown(now, min(passed, 2 * TICK_SECONDS)))
            self.engaged = self.target < self._ceiling
        self._sent, self._held, self._tick_at = 0, False, now

    def _grown(self, now: float, seconds: float) -> float:
        if self._starting:
            doubling = max(DOUBLING_SECONDS, 2 * self._round_trip)
            return self.target * math.exp(math.log(2) / doubling * seconds)
        if self.target < 0.97 * self._wall:
            return self.target + (self._wall - self.target) * seconds / 2.0
        if now < self._hold_until:
            return self.target
        if now >= self._faster_at:
            self._growth *= 2 if self._faster_at > self._hold_until else 1
            self._faster_at = now + min(max(600 / self.target, 1.5), 6.0)
        if self.target > 1.06 * self._wall:
            self._growth = max(self._growth, 0.12)
        return self.target * (1 + min(self._growth, 1.0) * seconds)
