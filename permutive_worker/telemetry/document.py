"""The one document that `/status`, `/events` and the page show: plain data, the run at one moment."""

from datetime import datetime
from typing import Any

import msgspec

from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.history import History
from permutive_worker.telemetry.progress import progress, share
from permutive_worker.telemetry.sentence import Lately, sentence
from permutive_worker.telemetry.status import Status


def status_document(counts: Counts, status: Status, history: History, now: datetime) -> dict[str, Any]:
    """Return what the worker is doing: numbers, job types, positions in the input, and no identifiers."""
    told = progress(counts, status.elapsed_seconds, status.total)
    lately = Lately(
        history.requests_per_second, any(counts.throttled.values()), bool(counts.throttled["retry_after"])
    )
    return {
        **msgspec.structs.asdict(status),
        "now": now,
        "sentence": sentence(status, lately),
        "ready": status.ready,
        "pending": status.pending,
        "progress": told,
        "share": share(told.completed, told.total),
        "eta_seconds": history.eta_seconds(told.completed, told.total),
        "jobs_per_second": round(history.jobs_per_second, 1),
        "requests_per_second": round(history.requests_per_second, 1),
        "latency": history.latency(counts),
        "answers": _answers(counts),
        "conservation": _conservation(counts, status),
        "throughput": history.throughput(),
        "counts": _counts(counts),
    }


def _counts(counts: Counts) -> dict[str, Any]:
    return {
        "source": counts.source,
        "read": counts.read,
        "delivered": {kind: of_kind.delivered for kind, of_kind in counts.kinds.items()},
        "dead_lettered": counts.dead_lettered,
        "skipped": counts.skipped,
        "returned": counts.returned,
        "requests": counts.requests,
        "request_errors": counts.request_errors,
        "retries": counts.retries,
        "throttled": counts.throttled,
        "ambiguous": counts.ambiguous,
        "last_delivery_at": counts.last_delivery_at,
    }


def _answers(counts: Counts) -> dict[str, int]:
    """Requests that were answered, by status; those there were."""
    answers: dict[int, int] = {}
    for kind in counts.kinds.values():
        for code, number in kind.codes.items():
            answers[code] = answers.get(code, 0) + number
    return {str(code): number for code, number in sorted(answers.items()) if number}


def _conservation(counts: Counts, status: Status) -> dict[str, Any]:
    """The law: what was read is the sum of the others."""
    ends = {
        "delivered": counts.delivered,
        "dead_lettered": counts.dead,
        "skipped": sum(counts.skipped.values()),
        "returned": sum(counts.returned.values()),
        "pending": sum(status.pending.values()),
    }
    return {"read": counts.read, **ends, "holds": counts.read == sum(ends.values())}
