"""Ends the jobs that grew too old while they waited: behind a halt, a pause, a back-off or their user.

One look a second at all that waits, instead of a timer for each job. The attempts of a job that is tried
again end it by themselves (`delivery.ruling`); one in flight may still be delivered.
"""

from collections.abc import Callable, Iterable

from permutive_worker.delivery.lane import Lane
from permutive_worker.model import End, Entry, ErrorDetail, Reason


class Expiry:
    """Called once a second."""

    def __init__(self, max_age_seconds: float | None, on_end: Callable[[Entry], None]) -> None:
        """`on_end` gets each entry that has ended."""
        self._max_age_seconds = max_age_seconds
        self._on_end = on_end

    def look(self, lanes: Iterable[Lane], now: float) -> None:
        if self._max_age_seconds is None:
            return
        for lane in lanes:
            for entry in lane.expire(now - self._max_age_seconds):
                entry.end = End.DEAD_LETTERED
                entry.reason = Reason.EXPIRED
                entry.error = ErrorDetail("expired", "older than delivery.max_age_seconds while it waited")
                self._on_end(entry)
