"""How far a run is, how fast it is lately, and when it will be done.

Pure: counts and times are arguments. `Progress` has the meanings the PermutiveAPI package gave it.
"""

import math
from typing import Final

import msgspec

from permutive_worker.model import Progress, Summary
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.status import Status

# Long enough that one pause for a throttle does not throw the ETA about, short enough to follow a new rate.
_ETA_SMOOTHING_SECONDS: Final = 30.0
# A clock that stands still, or nearly: what it gives is no rate.
_SHORTEST_INTERVAL_SECONDS: Final = 1e-6
# Slower than this nobody can say when it ends; it also keeps the ETA a number a person can read.
_SLOWEST_PER_SECOND: Final = 1e-3


def progress(counts: Counts, elapsed_seconds: float, total: int | None) -> Progress:
    """Return how far the run is.

    Units: `average_per_thousand_seconds` is 1,000 × elapsed / completed; 0.0 before the first line ended.
    """
    completed = counts.completed
    return Progress(
        completed=completed,
        total=total,
        errors=counts.dead,
        elapsed_seconds=elapsed_seconds,
        average_per_thousand_seconds=elapsed_seconds / completed * 1000 if completed else 0.0,
    )


def summary(run_id: str, counts: Counts, told: Progress, exit_code: int) -> Summary:
    """Return what the run did, in the numbers of its counts."""
    return Summary(
        run_id=run_id,
        read=counts.read,
        delivered=counts.delivered,
        dead_lettered=counts.dead,
        skipped=sum(counts.skipped.values()),
        returned=sum(counts.returned.values()),
        requests=counts.requests,
        retries=sum(counts.retries.values()),
        throttled=sum(counts.throttled.values()),
        ambiguous=counts.ambiguous,
        elapsed_seconds=round(told.elapsed_seconds, 3),
        average_per_thousand_seconds=round(told.average_per_thousand_seconds, 6),
        exit_code=exit_code,
        lost=counts.lost,
    )


def estimate_total(
    counts: Counts, bytes_read: int, bytes_total: int | None, *, ended: bool, again: int = 0
) -> int | None:
    """Return how many lines the whole input has, None where that cannot be known.

    Args:
        counts: of this run.
        bytes_read: of the inputs as stored, as `Source.bytes_read()`.
        bytes_total: of all the inputs as stored, as `Source.bytes_total()`.
        ended: the input was read to its end; then the answer is exact.
        again: lines that are read first and are in none of these bytes: an earlier run left them.
    """
    if ended:
        return counts.read
    new = counts.read - again
    if bytes_total is None or not bytes_read or new <= 0:
        return None
    # A file that grows while it is read may give more bytes than it had at the start.
    return max(counts.read, again + round(new * bytes_total / bytes_read))


class RecentRate:
    """Lines completed per second: in the last interval, and smoothed over about `smoothing_seconds`.

    The smoothed rate starts as the plain average, so that the first seconds are no guess.
    """

    def __init__(self, smoothing_seconds: float = _ETA_SMOOTHING_SECONDS) -> None:
        self._smoothing_seconds = smoothing_seconds
        self.last_per_second = 0.0
        self.smoothed_per_second = 0.0
        self._completed = 0
        self._at_seconds: float | None = None
        self._watched_seconds = 0.0

    def observe(self, completed: int, elapsed_seconds: float) -> None:
        """Hear how many lines have ended by `elapsed_seconds` of the run; a time that stands still is left out."""
        if self._at_seconds is None:
            self._completed, self._at_seconds = completed, elapsed_seconds
            return
        interval_seconds = elapsed_seconds - self._at_seconds
        if interval_seconds < _SHORTEST_INTERVAL_SECONDS:
            return
        self._watched_seconds += interval_seconds
        self.last_per_second = (completed - self._completed) / interval_seconds
        weight = max(
            interval_seconds / self._watched_seconds,
            -math.expm1(-interval_seconds / self._smoothing_seconds),
        )
        self.smoothed_per_second += weight * (self.last_per_second - self.smoothed_per_second)
        self._completed, self._at_seconds = completed, elapsed_seconds

    def eta_seconds(self, completed: int, total: int | None) -> float | None:
        """Return how long the rest will take at the smoothed rate, None while that is unknown."""
        if total is None:
            return None
        if completed >= total:
            return 0.0
        if self.smoothed_per_second < _SLOWEST_PER_SECOND:
            return None
        return (total - completed) / self.smoothed_per_second


def share(completed: int, total: int | None) -> float | None:
    """Return what part is done, 0 to 1, None where the total is unknown. Of nothing, all is done."""
    if total is None:
        return None
    return min(1.0, completed / total) if total else 1.0


class ProgressLine(msgspec.Struct, frozen=True, tag_field="event", tag="progress"):
    """One line of `--progress json`. Public: fields may be added, never changed.

    `completed`, `total` and `errors` as in `Progress`; `rate_per_second` is that of the last interval,
    `eta_seconds` goes by the smoothed one. None (null) is what cannot be known.
    """

    completed: int
    total: int | None
    errors: int
    share: float | None
    rate_per_second: float
    eta_seconds: float | None
    throttled: int
    retries: int
    pending: int
    elapsed_seconds: float

    def json(self) -> str:
        return msgspec.json.encode(self).decode()


def progress_line(counts: Counts, status: Status, rate: RecentRate) -> ProgressLine:
    """Return the line for this moment; tells `rate` of it."""
    completed = counts.completed
    rate.observe(completed, status.elapsed_seconds)
    done, eta_seconds = share(completed, status.total), rate.eta_seconds(completed, status.total)
    return ProgressLine(
        completed=completed,
        total=status.total,
        errors=counts.dead,
        share=None if done is None else round(done, 4),
        rate_per_second=round(rate.last_per_second, 1),
        eta_seconds=None if eta_seconds is None else round(eta_seconds, 1),
        throttled=sum(counts.throttled.values()),
        retries=sum(counts.retries.values()),
        pending=sum(status.pending.values()),
        elapsed_seconds=round(status.elapsed_seconds, 3),
    )


def duration(seconds: float) -> str:
    """Return a length of time as a person says it: `8 s`, `4 min 10 s`, `3 h 5 min`, `2 d 4 h`."""
    whole = int(seconds)
    for unit, unit_seconds, smaller, smaller_seconds in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= unit_seconds:
            rest = whole % unit_seconds // smaller_seconds
            return f"{whole // unit_seconds:,} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"
