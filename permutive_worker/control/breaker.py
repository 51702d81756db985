"""Stops sending to an API that is down, and finds out when it is back.

    closed ──20 attempts in a row without an answer below 500──▶ open
    open ──after the wait──▶ half_open: one single attempt, the probe
    half_open ──any answer below 500──▶ closed
    half_open ──none──▶ open, with a longer wait

An API that fails now and then never opens it: one good answer resets the count, and of an API that fails 20 %
of the time twenty attempts in a row fail once in 10^14. "In a row" is the order of sending: a sweep reports many
attempts that hung at once, and of an API that answered what was sent after them they say nothing.

While it is open only what was sent since counts: a straggler proves neither that the API is up nor down.
"""

import math
from typing import Final, Literal

OPENS_AFTER: Final = 20
FIRST_WAIT_SECONDS: Final = 1.0
MAX_WAIT_SECONDS: Final = 15.0  # the API is back for this long at most before we notice


class Breaker:
    """Pure: time is an argument."""

    __slots__ = (
        "_failed",
        "_good_sent_at",
        "_opened_at",
        "_probe_at",
        "_probing",
        "_wait_seconds",
        "is_open",
    )

    def __init__(self) -> None:
        self.is_open = False  # or half open
        self._failed = 0
        self._good_sent_at = -math.inf  # of the latest attempt that was answered well
        self._opened_at = -math.inf
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

    def succeeded(self, sent_at: float) -> bool:
        """An answer below 500 came to an attempt sent at `sent_at`; True if that closes the breaker."""
        self._good_sent_at = max(self._good_sent_at, sent_at)
        if not self.is_open:
            self._failed = 0
            return False
        if sent_at < self._opened_at:
            return False
        self._failed = 0
        self._probing = False
        self.is_open = False
        self._wait_seconds = FIRST_WAIT_SECONDS
        return True

    def failed(self, sent_at: float, now: float) -> None:
        """A 5xx, a timeout or a lost connection came of an attempt sent at `sent_at`."""
        if self.is_open:
            if self._probing and sent_at >= self._opened_at:
                self._wait_seconds = min(MAX_WAIT_SECONDS, self._wait_seconds * 2)
                self._wait(now)
        elif sent_at > self._good_sent_at:
            self._failed += 1
            if self._failed >= OPENS_AFTER:
                self._open(now)

    def _open(self, now: float) -> None:
        self.is_open = True
        self._opened_at = now
        self._wait(now)

    def _wait(self, now: float) -> None:
        self._probing = False
        self._probe_at = now + self._wait_seconds

    def gave_up(self) -> None:
        """The attempt was cut short and says nothing; another one may probe."""
        self._probing = False
