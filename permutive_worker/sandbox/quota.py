"""A token bucket: so many requests a second, and so many at once.

Pure: time is an argument. Over any span of `t` seconds at most `rate_per_second * t + burst` requests are
let through. Permutive publishes no limit and no algorithm; a bucket is what gateways usually have.
Scope: finished.
"""

from typing import Final

_ROUNDING: Final = 1e-9  # a permit that is due at 0.1 s is there at 0.1 s, whatever floats make of it


def default_burst(rate_per_second: float) -> float:
    """Return the burst of a limit for which none is given: a tenth of the rate, at least 1."""
    return max(1.0, rate_per_second / 10)


class TokenBucket:
    """Lets requests through at `rate_per_second`; a rate of 0 lets everything through.

    Args:
        rate_per_second: permits gained a second, >= 0.
        burst: most permits that gather while nobody asks, >= 1; none means `default_burst`.

    """

    __slots__ = ("_filled_seconds", "_permits", "burst", "rate_per_second")

    def __init__(self, rate_per_second: float, burst: float | None = None) -> None:
        if not 0 <= rate_per_second < float("inf"):
            raise ValueError("the rate limit must be 0 (none) or a number of requests a second")
        self.rate_per_second = rate_per_second
        self.burst = default_burst(rate_per_second) if burst is None else burst
        if not 1 <= self.burst < float("inf"):
            raise ValueError("the burst must be at least 1")
        self._permits = self.burst
        self._filled_seconds: float | None = None

    def __repr__(self) -> str:
        return f"TokenBucket({self.rate_per_second:g}/s, burst={self.burst:g}, permits={self._permits:.2f})"

    def take(self, now: float) -> bool:
        """Take a permit if there is one at `now`; a clock that goes back gains nothing."""
        if not self.rate_per_second:
            return True
        self._fill(now)
        if self._permits < 1 - _ROUNDING:
            return False
        self._permits -= 1
        return True

    def _fill(self, now: float) -> None:
        since = self._filled_seconds
        if since is None or now > since:
            gained = 0.0 if since is None else (now - since) * self.rate_per_second
            self._permits = min(self.burst, self._permits + gained)
            self._filled_seconds = now
