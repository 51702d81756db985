"""The summary of a run for a person at a terminal; the JSON line after it is for machines."""

from collections.abc import Mapping

from permutive_worker.model import Summary
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.progress import duration


def summary_table(summary: Summary, counts: Counts) -> list[str]:
    """Return the lines of the table: what was counted, how often, and what that is made of."""
    rows = [
        ("read", summary.read, _pace(summary)),
        (
            "delivered",
            summary.delivered,
            _parts({name: kind.delivered for name, kind in counts.kinds.items()}),
        ),
        (
            "dead letters",
            summary.dead_lettered,
            _parts({reason.value: count for reason, count in counts.dead_lettered.items()}),
        ),
        ("skipped", summary.skipped, _parts(counts.skipped)),
        ("returned", summary.returned, _parts({**counts.returned, "in no file": summary.lost})),
        ("requests", summary.requests, _parts(_troubles(summary))),
    ]
    width = max(len(f"{count:,}") for _, count, _ in rows)
    return [f"  {name:<12}  {count:>{width},}  {made_of}".rstrip() for name, count, made_of in rows]


def _troubles(summary: Summary) -> dict[str, int]:
    return {"retries": summary.retries, "throttled": summary.throttled, "ambiguous": summary.ambiguous}


def _pace(summary: Summary) -> str:
    took_seconds = summary.elapsed_seconds
    ended = summary.delivered + summary.dead_lettered + summary.skipped
    if not ended or not took_seconds:
        return f"in {_took(took_seconds)}"
    return f"in {_took(took_seconds)}, {ended / took_seconds:,.0f} a second"


def _took(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)


def _parts(counts: Mapping[str, int]) -> str:
    """Say what a sum is made of, the largest first; nothing where it is nothing."""
    largest_first = sorted(counts.items(), key=lambda part: -part[1])
    return ", ".join(f"{name} {count:,}" for name, count in largest_first if count)
