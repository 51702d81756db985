"""Prometheus metrics, read from `Counts` and `Status` when they are scraped.

Nothing is counted twice and nothing is kept up to date: a scrape reads the plain integers in one
go, so that in each sample

    jobs_read = jobs_delivered + jobs_dead_lettered + jobs_skipped + jobs_returned + jobs_pending

Names and labels are public (README, dashboard, alerts). Labels come from closed sets, never from data.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.registry import Collector

from permutive_worker.model import Reason
from permutive_worker.telemetry.counts import Counts, Histogram
from permutive_worker.telemetry.progress import progress
from permutive_worker.telemetry.status import LaneStatus, Look, Status

_PREFIX: Final = "permutive_worker_"
LAST_SUCCESS: Final = _PREFIX + "run_last_success_timestamp_seconds"
_PAUSES: Final = ("retry_after", "halt")
_BREAKER_STATES: Final = ("closed", "open", "half_open")
_UNKNOWN: Final = math.nan  # Prometheus' practice for a gauge that has no value yet
_NEVER: Final = 0.0  # and for a timestamp of what has not happened


def build_registry(counts: Counts, look: Look, version: str) -> CollectorRegistry:
    """Return a registry of its own with all the metrics of one worker and of its process."""
    # Collectors without fixed names, so that `/metrics?name[]=…` finds ours as well.
    registry = CollectorRegistry(support_collectors_without_names=True)
    registry.register(WorkerCollector(counts, look, version))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class WorkerCollector(Collector):
    """All metrics of one worker.

    `collect` reads everything before it returns and awaits nothing: one scrape is one moment.
    """

    def __init__(self, counts: Counts, look: Look, version: str) -> None:
        self._counts = counts
        self._look = look
        self._version = version

    def collect(self) -> list[Metric]:
        status = self._look()
        counts = self._counts
        return [
            *_jobs(counts, status),
            *_requests(counts),
            *_lanes(status.lanes),
            *_input(counts, status),
            *_progress(counts, status),
            *_health(counts),
            InfoMetricFamily(_PREFIX + "build", "The version of the worker.", {"version": self._version}),
        ]


def _jobs(counts: Counts, status: Status) -> Iterable[Metric]:
    delivered = {kind: of_kind.delivered for kind, of_kind in counts.kinds.items()}
    return (
        _counters("jobs_read_total", "Lines read.", "source", {counts.source: counts.read}),
        _counters("jobs_delivered_total", "Jobs the API took.", "type", delivered),
        _counters(
            "jobs_dead_lettered_total",
            "Lines written to the dead letters.",
            "reason",
            counts.dead_lettered,
        ),
        _counters("jobs_skipped_total", "Lines left out.", "reason", counts.skipped),
        _counters(
            "jobs_returned_total", "Lines given back to where they came from.", "reason", counts.returned
        ),
        _gauges("jobs_pending", "Lines read and not yet settled.", "state", status.pending),
        _gauge("pending_bytes", "Bytes charged for pending lines.", status.pending_bytes),
        _gauge("pending_bytes_limit", "At this many bytes reading waits.", status.pending_bytes_limit),
        _histogram("job_latency_seconds", "From the read to the outcome.", {"": counts.job_latency}),
        _gauge(
            "last_delivery_timestamp_seconds",
            "When a job was last delivered, 0 if never.",
            _timestamp(counts.last_delivery_at),
        ),
    )


def _requests(counts: Counts) -> Iterable[Metric]:
    answered = CounterMetricFamily(
        _PREFIX + "requests_total", "Requests that were answered.", labels=("code", "type")
    )
    for kind, of_kind in counts.kinds.items():
        for code, number in of_kind.codes.items():
            answered.add_metric((str(code), kind), number)
    durations = {kind: of_kind.duration for kind, of_kind in counts.kinds.items()}
    return (
        answered,
        _counters("request_errors_total", "Requests that got no answer.", "error", counts.request_errors),
        _histogram("request_duration_seconds", "Answered requests, by job type.", durations, "type"),
        _counters("retries_total", "Attempts that will be repeated.", "reason", counts.retries),
        _counters("throttled_total", "Answers that asked to slow down.", "hint", counts.throttled),
        _counter("ambiguous_total", "Attempts the API may or may not have taken.", counts.ambiguous),
        _counter(
            "wire_fallbacks_total", "Starts with the plain wire for want of the lean.", counts.wire_fallbacks
        ),
        _counter(
            "rate_limit_wait_seconds_total",
            "Time in which a job was ready and only the rate limit held it back.",
            counts.rate_limit_wait_seconds,
        ),
    )


def _lanes(lanes: Sequence[LaneStatus]) -> Iterable[Metric]:
    return (
        _lane_gauges(
            lanes,
            "rate_per_second",
            "Requests a second: the ceiling that was set (0: none) and the rate in force (0: no limit).",
            lambda lane: {"ceiling": lane.rate_ceiling, "effective": lane.rate_effective},
            "kind",
        ),
        _lane_gauges(
            lanes,
            "rate_limit_fallback",
            "1 while the shared limit cannot be reached and a share of the rate is used.",
            lambda lane: {"": float(bool(lane.rate_fallback))},
        ),
        _lane_gauges(
            lanes,
            "paused_until_timestamp_seconds",
            "Nothing is sent before this moment, 0 if not paused.",
            lambda lane: dict.fromkeys(_PAUSES, _NEVER) | _pause(lane),
            "reason",
        ),
        _lane_gauges(
            lanes,
            "concurrency_limit",
            "Most requests that may be in flight now.",
            lambda lane: {"": lane.max_in_flight},
        ),
        _lane_gauges(lanes, "concurrency_in_use", "Requests in flight.", lambda lane: {"": lane.in_flight}),
        _lane_gauges(
            lanes,
            "breaker_state",
            "1 for the state the breaker is in.",
            lambda lane: {state: float(state == lane.breaker) for state in _BREAKER_STATES},
            "state",
        ),
        _lane_gauges(
            lanes,
            "credentials_valid",
            "0 while the API refuses the key.",
            lambda lane: {"": float(lane.credentials_valid)},
        ),
    )


def _pause(lane: LaneStatus) -> dict[str, float]:
    if lane.pause_reason not in _PAUSES:
        return {}
    return {lane.pause_reason: _timestamp(lane.paused_until)}


def _input(counts: Counts, status: Status) -> Iterable[Metric]:
    return (
        _gauge("input_position_bytes", "Bytes of the input read, as stored.", status.input_position_bytes),
        _gauge(
            "input_size_bytes",
            "Bytes of the whole input, as stored; NaN if it cannot be known.",
            _or_unknown(status.input_size_bytes),
        ),
        _gauge(
            "source_lag",
            "Lines waiting in the queue; NaN if it cannot be known.",
            _or_unknown(status.source_lag),
        ),
        _counter("source_redeliveries_total", "Lines the queue gave again.", status.source_redeliveries),
        _gauge("source_up", "0 while the broker of the queue cannot be reached.", not status.source_away),
        _gauge(
            "checkpoint_timestamp_seconds",
            "When the last checkpoint was written, 0 if never.",
            _timestamp(counts.checkpoint_at),
        ),
    )


def _progress(counts: Counts, status: Status) -> Iterable[Metric]:
    now = progress(counts, status.elapsed_seconds, status.total)
    return (
        _gauge("progress_completed", "Lines delivered, dead-lettered or skipped.", now.completed),
        # PermutiveAPI gave the name its meaning, and it is no counter: so it has no type.
        UnknownMetricFamily(
            _PREFIX + "progress_total",
            "Lines of the whole input, estimated until it was read to its end; NaN if it cannot be known.",
            _or_unknown(now.total),
        ),
        _gauge("progress_errors", "Lines dead-lettered.", now.errors),
        _gauge("progress_elapsed_seconds", "Time since the run started.", now.elapsed_seconds),
        _gauge(
            "progress_average_per_thousand_seconds",
            "Time a thousand completed lines took, on average since the start.",
            now.average_per_thousand_seconds,
        ),
    )


def _health(counts: Counts) -> Iterable[Metric]:
    return (
        _counter(
            "dead_letter_write_errors_total",
            "Groups of dead letters that could not be written.",
            counts.dead_letter_write_errors,
        ),
        _histogram("event_loop_lag_seconds", "How late the event loop wakes.", {"": counts.event_loop_lag}),
        _gauge(
            "config_last_reload_successful",
            "0 after a configuration that was refused.",
            not counts.reload_refused,
        ),
        GaugeMetricFamily(
            LAST_SUCCESS,
            "When a finite run last ended with exit code 0, 0 if never.",
            _timestamp(counts.last_success_at),
        ),
    )


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(_PREFIX + name, text, value)


def _counters(name: str, text: str, label: str, values: Mapping[str, float] | Mapping[Reason, int]) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, text, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, text, value)


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, text, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def _lane_gauges(
    lanes: Sequence[LaneStatus],
    name: str,
    text: str,
    values: Callable[[LaneStatus], Mapping[str, float]],
    label: str = "",
) -> Metric:
    """One gauge of every lane; `workspace` tells them apart, where there are several."""
    several = len(lanes) > 1
    family = GaugeMetricFamily(_PREFIX + name, text, labels=_present((label, label), ("workspace", several)))
    for lane in lanes:
        for key, value in values(lane).items():
            family.add_metric(_present((key, label), (lane.workspace, several)), value)
    return family


def _present(*texts: tuple[str, object]) -> list[str]:
    return [text for text, wanted in texts if wanted]


def _histogram(name: str, text: str, histograms: Mapping[str, Histogram], label: str = "") -> Metric:
    family = HistogramMetricFamily(_PREFIX + name, text, labels=_present((label, label)))
    for key, histogram in histograms.items():
        bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]
        buckets = zip(bounds, accumulate(histogram.buckets), strict=True)
        family.add_metric(_present((key, label)), list(buckets), histogram.total)
    return family


def _timestamp(at: datetime | None) -> float:
    return at.timestamp() if at is not None else _NEVER


def _or_unknown(value: int | None) -> float:
    return _UNKNOWN if value is None else value
