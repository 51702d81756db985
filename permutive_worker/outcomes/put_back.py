"""Puts dead letters back that a replay left out or did not get to."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from permutive_worker.jobs.dead_letter import DeadLetter
from permutive_worker.jobs.segmentation import EVENTS_PER_REQUEST, remaining_events
from permutive_worker.model import Entry, is_partly_delivered
from permutive_worker.outcomes.ndjson import LockedAppender


class PutBackWriter:
    """A ports.OutcomeWriter for the skipped and returned entries of a replay: appends their records, fsynced."""

    def __init__(self, path: Path, on_written: Callable[[Sequence[Entry]], None]) -> None:
        """`on_written` hears of each group that is on the disk."""
        self._file = LockedAppender(path)
        self._on_written = on_written

    async def open(self) -> None:
        """Try that the file can be written. Raises ConfigurationError."""
        await asyncio.to_thread(self._file.prove)

    async def write(self, entries: Sequence[Entry]) -> None:
        """Return once each record is on the disk, without events delivered since. Raises OutputError."""
        lines = b"".join(filter(None, map(_record, entries)))
        if lines:
            await asyncio.to_thread(self._file.append, lines)
        self._on_written(entries)

    async def close(self) -> None:
        await asyncio.to_thread(self._file.close)


def _record(entry: Entry) -> bytes | None:
    letter = entry.delivery.place
    if not isinstance(letter, DeadLetter):  # a line that is no record: blank ones go, others stay as they are
        return entry.delivery.raw + b"\n" if entry.delivery.raw.strip() else None
    if is_partly_delivered(entry):
        letter = msgspec.structs.replace(
            letter,
            job=msgspec.Raw(remaining_events(letter.line(), entry.part)),
            delivered_events=(letter.delivered_events or 0) + entry.part * EVENTS_PER_REQUEST,
        )
    return msgspec.json.encode(letter) + b"\n"
