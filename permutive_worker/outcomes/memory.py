"""Outcomes as values, for those who embed the worker with `deliver()` or `stream()`."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from permutive_worker.model import End, Entry, Outcome, Response


class MemoryWriter:
    """Hands each entry to a function as an `Outcome`, whatever its end.

    Args:
        sink: called once per entry, in order of completion; it has the outcome when `write` returns.
    """

    def __init__(self, sink: Callable[[Outcome], None]) -> None:
        self._sink = sink

    async def open(self) -> None:
        """Nothing to try."""

    async def write(self, entries: Sequence[Entry]) -> None:
        """Give the outcomes to the sink; what it raises is raised."""
        for entry in entries:
            self._sink(outcome_from_entry(entry))

    async def close(self) -> None:
        """Nothing to close."""


def outcome_from_entry(entry: Entry) -> Outcome:
    """The outcome of an entry that has ended, of a delivery whose place is its index."""
    job, response = entry.job, entry.response
    end = entry.end or End.RETURNED
    return Outcome(
        index=entry.delivery.place,
        end=end.value,
        type=entry.kind,
        job_id=job.job_id if job is not None else None,
        status=response.status if response is not None else 0,
        attempts=entry.attempts,
        response=_content(response),
        reason=str(entry.reason) if end is End.DEAD_LETTERED else None,
        error=entry.error,
    )


def _content(response: Response | None) -> Any:
    if response is None or not response.body:
        return None
    try:
        return msgspec.json.decode(response.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return response.body.decode(errors="replace")
