"""How many requests may be in flight: as many as are wanted, while the loop keeps up.

More places than the loop can turn in a few milliseconds bring nothing: they wait for each other, the
working set leaves the cache (measured: 256 places cost a fifth more CPU a job than 32), and probes, pauses and
stops come late. So the limit falls while the loop is late, and rises again while it is not and all
places are taken. A server that is slow does not make the loop late: it gets all the places.
"""

from collections import deque
from typing import Final

FIRST: Final = 32
LEAST: Final = 16
LATE_SECONDS: Final = 0.003
EARLY_SECONDS: Final = 0.0015
SAMPLES: Final = 5  # the median of so many: one slow sync to the disk says nothing of the places


class Places:
    """Pure: lags are arguments."""

    __slots__ = ("_lags", "_most", "limit")

    def __init__(self, max_in_flight: int) -> None:
        self._most = max_in_flight
        self._lags: deque[float] = deque(maxlen=SAMPLES)
        self.limit = min(max_in_flight, FIRST)

    def __repr__(self) -> str:
        return f"<Places {self.limit} of {self._most}>"

    def observe(self, lag_seconds: float, in_flight: int) -> bool:
        """Hear how late the loop was; True if there are more places now."""
        self._lags.append(lag_seconds)
        if len(self._lags) < SAMPLES or in_flight < self.limit:
            return False
        lag = sorted(self._lags)[SAMPLES // 2]
        if lag > LATE_SECONDS:
            self.limit = max(min(LEAST, self._most), self.limit * 3 // 4)
            self._lags.clear()
        elif lag < EARLY_SECONDS and self.limit < self._most:
            self.limit = min(self._most, self.limit * 5 // 4 + 1)
            return True
        return False
