"""What was done lately: throughput of the last fifteen minutes, speeds of now, latencies of the last minute.

Looked at once a second, whoever may be watching; nothing is counted here that `Counts` has not counted.
"""

from collections import deque
from datetime import UTC, datetime
from typing import Final

import msgspec

from permutive_worker.telemetry.counts import REQUEST_BUCKETS, Counts
from permutive_worker.telemetry.progress import RecentRate
from permutive_worker.telemetry.quantiles import quantile

STEP_SECONDS: Final = 5  # short enough to see a pause of Retry-After, and 180 numbers are enough for a chart
STEPS: Final = 15 * 60 // STEP_SECONDS
_LATENCY_STEPS: Final = 60 // STEP_SECONDS
_SPEED_SMOOTHING_SECONDS: Final = 2.0  # a number that a person can read while it changes


class Throughput(msgspec.Struct, frozen=True):
    """Lines that ended in each whole step, the oldest first; steps begin at multiples of `step_seconds`."""

    step_seconds: int
    until: datetime  # the end of the last step
    delivered: list[int]
    dead_lettered: list[int]


class Latency(msgspec.Struct, frozen=True):
    """Of answered requests in the last minute, in seconds; estimates from the buckets of a histogram."""

    answers: int
    p50: float | None
    p95: float | None
    p99: float | None


class History:
    """Pure: counts and times are arguments."""

    def __init__(self) -> None:
        self._jobs = RecentRate(_SPEED_SMOOTHING_SECONDS)
        self._requests = RecentRate(_SPEED_SMOOTHING_SECONDS)
        self._for_eta = RecentRate()
        self._step: int | None = None  # the one under way: so many steps since 1970
        self._delivered: deque[int] = deque(maxlen=STEPS + 1)
        self._dead: deque[int] = deque(maxlen=STEPS + 1)
        self._seen = (0, 0)
        self._buckets: deque[list[int]] = deque(maxlen=_LATENCY_STEPS)

    @property
    def jobs_per_second(self) -> float:
        """Lines that end: delivered, dead-lettered or skipped."""
        return self._jobs.smoothed_per_second

    @property
    def requests_per_second(self) -> float:
        return self._requests.smoothed_per_second

    def eta_seconds(self, completed: int, total: int | None) -> float | None:
        return self._for_eta.eta_seconds(completed, total)

    def observe(self, counts: Counts, monotonic_seconds: float, at: datetime) -> None:
        """Hear how far the run is, about once a second. A wall clock that is set back stretches a step."""
        completed = counts.completed
        self._jobs.observe(completed, monotonic_seconds)
        self._for_eta.observe(completed, monotonic_seconds)
        self._requests.observe(counts.requests, monotonic_seconds)
        self._begin_steps(int(at.timestamp()) // STEP_SECONDS, counts)
        delivered, dead = counts.delivered, counts.dead
        self._delivered[-1] += delivered - self._seen[0]
        self._dead[-1] += dead - self._seen[1]
        self._seen = delivered, dead

    def _begin_steps(self, step: int, counts: Counts) -> None:
        if self._step is None:
            self._step, self._seen = step - 1, (counts.delivered, counts.dead)
        for _ in range(min(step - self._step, STEPS + 1)):
            self._delivered.append(0)
            self._dead.append(0)
            self._buckets.append(_answered(counts))
        self._step = max(step, self._step)

    def throughput(self) -> Throughput:
        """The whole steps, without the one under way."""
        return Throughput(
            step_seconds=STEP_SECONDS,
            until=datetime.fromtimestamp((self._step or 0) * STEP_SECONDS, UTC),
            delivered=list(self._delivered)[:-1],
            dead_lettered=list(self._dead)[:-1],
        )

    def latency(self, counts: Counts) -> Latency:
        before = self._buckets[0] if self._buckets else [0] * (len(REQUEST_BUCKETS) + 1)
        buckets = [now - then for now, then in zip(_answered(counts), before, strict=True)]
        return Latency(
            sum(buckets), *(quantile(REQUEST_BUCKETS, buckets, share) for share in (0.5, 0.95, 0.99))
        )


def _answered(counts: Counts) -> list[int]:
    """Answered requests of all kinds, by bucket."""
    return [
        sum(bucket) for bucket in zip(*(kind.duration.buckets for kind in counts.kinds.values()), strict=True)
    ]
