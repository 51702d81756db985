"""Returned lines: what was read from a pipe and not delivered, for nobody can read a pipe twice."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from permutive_worker.jobs.segmentation import remaining_events
from permutive_worker.model import Entry, is_partly_delivered
from permutive_worker.outcomes.ndjson import LockedAppender


class ReturnedWriter:
    """Writes the lines of entries, fsynced and as they were, to a file that is an input again.

    Args:
        dead_letters_path: of the dead letters; `letters.ndjson` → `letters.returned.ndjson` beside it.
    """

    def __init__(self, dead_letters_path: Path) -> None:
        self.path = dead_letters_path.with_name(dead_letters_path.stem + ".returned.ndjson")
        self._file = LockedAppender(self.path)

    async def open(self) -> None:
        """Try that returned lines could be written. Raises ConfigurationError."""
        await asyncio.to_thread(self._file.prove)

    async def write(self, entries: Sequence[Entry]) -> None:
        """Return once the line of each entry is on the disk, without the events that were delivered.

        Raises:
            OutputError: none of them is in the file.

        Cancellation: the group is still written, by its thread.
        """
        if entries:
            await asyncio.to_thread(self._file.append, b"".join(_line(entry) + b"\n" for entry in entries))

    async def close(self) -> None:
        """Close the file. Raises OutputError."""
        await asyncio.to_thread(self._file.close)


def _line(entry: Entry) -> bytes:
    raw = entry.delivery.raw
    return remaining_events(raw, entry.part) if is_partly_delivered(entry) else raw
