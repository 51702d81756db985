"""How one run is shared among processes: which files each one reads, and how much of the rate it may use."""

import heapq
from collections.abc import Sequence
from typing import Final

LEAST_USED: Final = 0.9  # of the rate: sharing it may cost this much, or fewer processes share it


def deal(sizes_bytes: Sequence[int], shares: int) -> list[list[int]]:
    """Return which inputs, by index and growing, belong to each share; the largest first, each to the least.

    No share is empty as long as there are enough inputs, and none is larger than another one by more than
    its own smallest input.
    """
    dealt: list[list[int]] = [[] for _ in range(shares)]
    # One byte more for each, so that empty files are spread too.
    least = [(0, number) for number in range(shares)]
    for index in sorted(range(len(sizes_bytes)), key=lambda index: -sizes_bytes[index]):
        total_bytes, number = heapq.heappop(least)
        dealt[number].append(index)
        heapq.heappush(least, (total_bytes + sizes_bytes[index] + 1, number))
    return [sorted(share) for share in dealt]


def rate_share(rate_per_second: float, burst: float, shares: int) -> tuple[float, float]:
    """Return rate and burst of each of so many shares: together, in any second, at most rate + burst.

    A burst is at least 1. Where there are more shares than the burst has requests, the rate pays for it.
    """
    burst_each = max(1.0, burst / shares)
    return (rate_per_second + burst) / shares - burst_each, burst_each


def most_shares(rate_per_second: float, burst: float, wanted: int) -> int:
    """Return how many of the wanted shares there may be without giving away a tenth of the rate."""
    return next(
        shares
        for shares in range(wanted, 0, -1)
        if shares == 1
        or rate_share(rate_per_second, burst, shares)[0] * shares >= LEAST_USED * rate_per_second
    )
