"""How long a job waits before its next attempt.

Exponential with full jitter and a cap. Source: AWS Architecture Blog, "Exponential Backoff And
Jitter" (2015): full jitter needs the fewest calls to get through after an outage.
"""

import math


class Backoff:
    """Immutable; chance is an argument."""

    __slots__ = ("factor", "initial_seconds", "max_seconds")

    def __init__(self, initial_seconds: float, factor: float, max_seconds: float) -> None:
        self.initial_seconds = initial_seconds
        self.factor = factor
        self.max_seconds = max_seconds

    def cap_seconds(self, failures: int) -> float:
        """The longest wait after `failures` ≥ 1 attempts in a row that failed."""
        try:
            return min(self.max_seconds, self.initial_seconds * math.pow(self.factor, failures - 1))
        except OverflowError:
            return self.max_seconds

    def seconds(self, failures: int, dice: float, floor_seconds: float = 0.0) -> float:
        """A wait between the floor (a server's hint) and floor + cap; `dice` is uniform in [0, 1)."""
        return floor_seconds + dice * self.cap_seconds(failures)
