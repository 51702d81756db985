"""Stops a run whose input or mapping is wrong before it has made a million dead letters."""

from collections import deque
from typing import Final

FIRST: Final = 100  # a wrong mapping shows at once …
WINDOW: Final = 1000  # … and a bad stretch in a good file must not stop it


class Guard:
    """Counts dead letters among the outcomes.

    Args:
        max_failures: trips at more dead letters than this; None: never.
        max_failure_ratio: trips at this share or more of the last 1,000 outcomes, or of the first
            100; 1: never.

    Complexity: O(1) for any number of deliveries in a row; memory is the failures in the window.
    """

    def __init__(self, max_failures: int | None, max_failure_ratio: float) -> None:
        self._max_failures = max_failures
        self._ratio = max_failure_ratio
        self._ended = 0
        self._failed = 0
        self._failed_at: deque[int] = deque()  # outcome numbers, within the window
        self.tripped: str | None = None

    def delivered(self, count: int) -> None:
        """Hear of good outcomes."""
        to_first = FIRST - self._ended
        if 0 < to_first <= count:
            self._ended = FIRST
            self._look()
            count -= to_first
        self._ended += count

    def failed(self) -> None:
        """Hear of a dead letter; `tripped` says why the run must stop, once it must."""
        self._ended += 1
        self._failed += 1
        self._failed_at.append(self._ended)
        self._look()

    def _look(self) -> None:
        while self._failed_at and self._failed_at[0] <= self._ended - WINDOW:
            self._failed_at.popleft()
        if self.tripped is None:
            self.tripped = self._too_many() or self._too_large_a_share()

    def _too_many(self) -> str | None:
        if self._max_failures is None or self._failed <= self._max_failures:
            return None
        return f"{self._failed} dead letters, more than guard.max_failures = {self._max_failures}"

    def _too_large_a_share(self) -> str | None:
        judged = min(self._ended, WINDOW)
        if self._ratio >= 1 or judged not in (FIRST, WINDOW):
            return None
        if len(self._failed_at) < self._ratio * judged:
            return None
        return (
            f"{len(self._failed_at)} of the last {judged} jobs became dead letters "
            f"(guard.max_failure_ratio = {self._ratio})"
        )
