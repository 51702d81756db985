"""What became of the requests that were under way when the API began to object.

They were sent at one known rate to a limit that had just been reached, so the share of them that was taken tells
the limit at once; without it each step of a search costs another pause.
"""

import math
from typing import Final

ENOUGH: Final = 5  # fewer say nothing
FEW: Final = 2  # none or one taken: a window that is used up, not a bucket that fills


class Stragglers:
    """Pure. Follows the answers to what was sent between the throttled request and the cut."""

    __slots__ = ("_refused", "_since", "_taken", "per_second")

    def __init__(self) -> None:
        self._since = math.inf
        self.per_second = 0.0  # at which they were sent
        self._taken = 0
        self._refused = 0

    def __repr__(self) -> str:
        return f"<Stragglers {self._taken} taken, {self._refused} refused>"

    def follow(self, sent_at: float, per_second: float) -> None:
        """A request sent at `sent_at`, at this rate, was throttled: count what was sent after it."""
        self._since, self.per_second = sent_at, per_second
        self._taken = self._refused = 0

    def taken(self, sent_at: float) -> None:
        self._taken += sent_at > self._since

    def refused(self, sent_at: float) -> None:
        self._refused += sent_at > self._since

    def limit(self) -> float:
        """Requests a second the API took of them, infinite if they do not tell. Says it once."""
        taken, refused = self._taken, self._refused
        self._taken = self._refused = 0
        if taken + refused < ENOUGH or taken < FEW or refused <= FEW:
            return math.inf
        return self.per_second * (taken + 1) / (taken + refused)
