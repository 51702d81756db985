"""Plain integers, the one thing the hot path touches.

Summary, progress, status page and Prometheus all read this one object, so they can never
disagree. A bound Prometheus counter costs ten times what `+= 1` does.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from permutive_worker.errors import TRANSPORT_KINDS
from permutive_worker.model import Reason

# Seconds. The low end is a loopback or one region; a request ends at the timeout of 10 s.
REQUEST_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# Seconds from the read to the outcome, waits and back-offs included.
JOB_BUCKETS: Final = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
LAG_BUCKETS: Final = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)

SKIPPED: Final = ("blank", "filtered")
RETURNED: Final = ("stop", "guard", "halt", "pause")
RETRIES: Final = ("throttled", "server_error", "timeout", "connection")
HINTS: Final = ("retry_after", "none")
CUT: Final = "cut"  # a request whose answer a stop did not wait for
USUAL_CODES: Final = (200, 201, 400, 401, 403, 429, 500, 503)  # 201: events and new cohorts


class Histogram:
    """Counts observations by upper bound, as Prometheus does."""

    __slots__ = ("bounds", "buckets", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.buckets = [0] * (len(bounds) + 1)  # the last one is +Inf
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_all(self, values: Sequence[float]) -> None:
        """Observe many for the price of a few: once they are sorted, each bucket is one search."""
        ordered, counted = sorted(values), 0
        for bucket, bound in enumerate(self.bounds):
            below = bisect_right(ordered, bound)
            self.buckets[bucket] += below - counted
            counted = below
        self.buckets[-1] += len(ordered) - counted
        self.total += sum(ordered)

    @property
    def count(self) -> int:
        return sum(self.buckets)


class KindCounts:
    """What is counted of one job kind."""

    __slots__ = ("codes", "delivered", "duration")

    def __init__(self) -> None:
        self.delivered = 0
        self.codes = defaultdict[int, int](int, dict.fromkeys(USUAL_CODES, 0))
        self.duration = Histogram(REQUEST_BUCKETS)

    def answered(self, status: int, seconds: float) -> None:
        self.codes[status] += 1
        duration = self.duration  # as `observe` does; every request passes here, and a call is saved
        duration.buckets[bisect_left(duration.bounds, seconds)] += 1
        duration.total += seconds


class Counts:
    """All that a run counts. Every set of keys is closed and known in advance, so series start at 0."""

    def __init__(self, source: str, kinds: Iterable[str]) -> None:
        self.source = source
        self.read = 0
        self.kinds = {kind: KindCounts() for kind in kinds}
        self.dead_lettered = dict.fromkeys(Reason, 0)
        self.skipped = dict.fromkeys(SKIPPED, 0)
        self.returned = dict.fromkeys(RETURNED, 0)
        self.request_errors = dict.fromkeys((*TRANSPORT_KINDS, CUT), 0)
        self.retries = dict.fromkeys(RETRIES, 0)
        self.throttled = dict.fromkeys(HINTS, 0)
        self.ambiguous = 0
        self.wire_fallbacks = 0  # starts at which the lean wire was wanted, if it works, and did not
        self.rate_limit_wait_seconds = 0.0
        self.dead_letter_write_errors = 0
        self.reload_refused = False  # the last time the configuration was read again
        self.lost = 0  # of the returned lines, those that are in no file
        self.job_latency = Histogram(JOB_BUCKETS)
        self.event_loop_lag = Histogram(LAG_BUCKETS)
        self.last_delivery_at: datetime | None = None
        self.checkpoint_at: datetime | None = None
        self.last_success_at: datetime | None = None

    def dead_letter_failed(self) -> None:
        self.dead_letter_write_errors += 1

    def lose(self, lines: int) -> None:
        self.lost += lines

    @property
    def delivered(self) -> int:
        return sum(kind.delivered for kind in self.kinds.values())

    @property
    def dead(self) -> int:
        return sum(self.dead_lettered.values())

    @property
    def requests(self) -> int:
        """Requests sent: those answered and those that got no answer."""
        return sum(kind.duration.count for kind in self.kinds.values()) + sum(self.request_errors.values())

    @property
    def ended(self) -> int:
        """Lines that are no longer pending."""
        return self.completed + sum(self.returned.values())

    @property
    def completed(self) -> int:
        """What Progress calls completed: delivered, dead-lettered and skipped."""
        return self.delivered + self.dead + sum(self.skipped.values())
