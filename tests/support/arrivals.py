"""How close to each other requests came."""

from bisect import bisect_left
from collections.abc import Sequence


def most_in_a_second(times: Sequence[float]) -> int:
    """Of `times` in rising order, the most that lie in one sliding second."""
    return max(bisect_left(times, at + 1.0) - number for number, at in enumerate(times))
