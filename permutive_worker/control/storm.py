"""How long a lane stands still when the API throttles without saying for how long.

A cut of the pace is enough for a limit that was touched. When half of the last 20 answers are throttles the
pace is far beyond the limit, or all of it is used up for a while: then every request is wasted. What was
sent before the last cut is not told: it is one objection, and the cut has answered it (else a large burst that
the pause fills again makes the next overshoot, and so on).

Why a second, doubling: limits are mostly counted by the second, and a pause as long as that empties
their windows; a longer window shows by a storm that goes on after the pause.
"""

import math
from typing import Final

from permutive_worker.control.recent import Recent

FIRST_PAUSE_SECONDS: Final = 1.0
MAX_PAUSE_SECONDS: Final = 15.0  # as the breaker's: the API is back for this long at most before we notice
CALM_SECONDS: Final = 5.0  # after a pause: a storm that comes later is another one


class Storm:
    """Pure: time is an argument."""

    __slots__ = ("_recent", "_until", "_wait_seconds", "brews")

    def __init__(self) -> None:
        self._recent = Recent()
        self._until = -math.inf
        self._wait_seconds = FIRST_PAUSE_SECONDS
        self.brews = (
            False  # whether one of the last answers was such a throttle; else others need not be told
        )

    def __repr__(self) -> str:
        return f"<Storm {self._recent!r} wait={self._wait_seconds}>"

    def answered(self) -> None:
        """An answer that is no throttle came."""
        self._recent.had_not()
        self.brews = self._recent.any

    def throttled(self, sent_at: float, now: float) -> float:
        """A throttle without a hint came. Return the seconds to pause, 0.0 for none."""
        if sent_at < self._until:
            return 0.0  # sent before the pause ended, so before the pause
        self._recent.had()
        self.brews = True
        if not self._recent.mostly:
            return 0.0
        self._recent.forget()
        again = now < self._until + CALM_SECONDS
        self._wait_seconds = min(MAX_PAUSE_SECONDS, 2 * self._wait_seconds) if again else FIRST_PAUSE_SECONDS
        self._until = now + self._wait_seconds
        return self._wait_seconds
