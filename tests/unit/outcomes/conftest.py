"""Entries as the settler hands them over, and a clock that stands still."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from support.entries import entry_of

from permutive_worker.model import Delivery, End, Entry, Reason, Response

NOW = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)


class StoppedClock:
    def monotonic(self) -> float:
        return 101.5

    def utc_now(self) -> datetime:
        return NOW


class Lines:
    def position(self, delivery: Delivery) -> str:
        return f"jobs.ndjson:{delivery.number}"


def build_entry(
    raw: bytes,
    end: End,
    *,
    kind: str | None = None,
    body: bytes | None = None,
    status: int = 200,
    part: int = 0,
    oversize_bytes: int = 0,
) -> Entry:
    """Read at 100.0 as line 17; `kind` is what `--type` would say."""
    entry = entry_of(Delivery(raw, Lines(), 16, 17, oversize_bytes), kind=kind, read_at=100.0)
    entry.end = end
    entry.part = part
    entry.attempts = 1
    entry.reason = Reason.REJECTED if end is End.DEAD_LETTERED else None
    entry.response = None if body is None else Response(status, {}, body)
    return entry


@pytest.fixture(scope="session")
def make_entry() -> Callable[..., Entry]:
    return build_entry


@pytest.fixture(scope="session")
def clock() -> StoppedClock:
    return StoppedClock()
