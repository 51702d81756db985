"""When a lane has stood for so long that its jobs are better given back to their queue."""

from typing import Final

GIVE_BACK_SECONDS: Final = 60.0  # shorter ones pass before another worker would have made use of the jobs


class Standstill:
    """Pure: time is an argument, monotonic seconds. One for each lane."""

    __slots__ = ("_since", "given_back")

    def __init__(self) -> None:
        self._since: float | None = None
        self.given_back = False

    def look(self, now: float, standing_seconds: float | None) -> bool:
        """Whether to give back now; once for each time the lane stands.

        `standing_seconds` is None while the lane moves, else how long it is known to stand from now on.
        """
        if standing_seconds is None:
            self._since, self.given_back = None, False
            return False
        if self._since is None:
            self._since = now
        if self.given_back or now - self._since + standing_seconds <= GIVE_BACK_SECONDS:
            return False
        self.given_back = True
        return True
