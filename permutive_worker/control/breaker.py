"""Stops sending to an API that is down, and finds out when it is back.

    closed ──20 attempts in a row without an answer below 500──▶ open
    open ──after the wait──▶ half_open: one single attempt, the probe
    half_open ──any answer below 500──▶ closed
    half_open ──none──▶ open, with a longer wait

An API that fails now and then (20 % of the time, say) never opens it: one good answer resets the
count.
"""

import math
from typing import Final, Literal

OPENS_AFTER: Final = 20
FIRST_WAIT_SECONDS: Final = 1.0
MAX_WAIT_SECONDS: Final = 15.0  # the API is back for this long at most before we notice


class Breaker:
    """Pure: time is an argument."""

    __slots__ = ("_failed", "_probe_at", "_probing", "_wait_seconds", "is_open")

    def __init__(self) -> None:
        self.is_open = False  # or half open
        self._failed = 0
        self._probe_at = 0.0  # while open
        self._probing = False
        self._wait_seconds = FIRST_WAIT_SECONDS

    def __repr__(self) -> str:
        return f"<Breaker {self.state} failed={self._failed}>"

    @property
    def state(self) -> Literal["closed", "open", "half_open"]:
        if not self.is_open:
            return "closed"
        return "half_open" if self._probing else "open"

    def closed_seconds(self, now: float) -> float:
        """Seconds until an attempt may start; 0.0 now, inf when a probe must come back first."""
        if not self.is_open:
            return 0.0
        if self._probing:
            return math.inf
        return max(0.0, self._probe_at - now)

    def started(self) -> None:
        """An attempt starts; while open that is the probe."""
        self._probing = self.is_open

    def succeeded(self) -> None:
        """An answer below 500 came."""
        self._failed = 0
        self._probing = False
        self.is_open = False
        self._wait_seconds = FIRST_WAIT_SECONDS

    def failed(self, now: float) -> None:
        """A 5xx, a timeout or a lost connection."""
        self._failed += 1
        if self._probing:
            self._wait_seconds = min(MAX_WAIT_SECONDS, self._wait_seconds * 2)
        elif self._failed < OPENS_AFTER or self.is_open:
            return  # stragglers that were in flight when it opened change nothing
        self.is_open = True
        self._probing = False
        self._probe_at = now + self._wait_seconds

    def gave_up(self) -> None:
        """The attempt was cut short and says nothing; another one may probe."""
        self._probing = False
