"""Returned lines: what was read from a pipe and not delivered, for nobody can read a pipe twice.

    a stop → what waited is written at once → what was in flight and failed follows → in input order

They are safe at once and in order at the end, so that a user's jobs leave in their order next time too.
"""

import asyncio
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path

from permutive_worker.errors import OutputError
from permutive_worker.jobs.segmentation import remaining_events
from permutive_worker.model import Entry, is_partly_delivered
from permutive_worker.outcomes.ndjson import LockedAppender
from permutive_worker.telemetry.logs import logger


class ReturnedWriter:
    """Writes the lines of entries, fsynced and as they were, to a file that is an input again.

    Args:
        dead_letters_path: of the dead letters; `letters.ndjson` → `letters.returned.ndjson` beside it.
        on_lost: called with the number of lines that are nowhere: the file could not be written.
    """

    def __init__(self, dead_letters_path: Path, on_lost: Callable[[int], None] = lambda _: None) -> None:
        self.path = dead_letters_path.with_name(dead_letters_path.stem + ".returned.ndjson")
        self._file = LockedAppender(self.path)
        self._on_lost = on_lost
        self._written: list[tuple[tuple[float, int], bytes]] = []

    async def open(self) -> None:
        """Try that returned lines could be written. Raises ConfigurationError."""
        await asyncio.to_thread(self._file.prove)

    async def write(self, entries: Sequence[Entry]) -> None:
        """Return once the line of each entry is on the disk, without the events that were delivered.

        Raises:
            OutputError: none of them is in the file.

        Cancellation: the group is still written, by its thread.
        """
        if not entries:
            return
        group = [(_place(entry), _line(entry)) for entry in entries]
        group.sort(key=itemgetter(0))
        try:
            await asyncio.to_thread(self._file.append, b"".join(line for _, line in group))
        except OutputError as error:
            self._on_lost(len(group))
            reason = getattr(error.__cause__, "strerror", None) or error
            raise OutputError(
                f"{len(group):,} lines that were read from a pipe are in no file, for {self.path} cannot be "
                f"written: {reason}; make room and send them again"
            ) from error
        self._written += group

    async def close(self) -> None:
        """Bring what this run wrote into the order of the input, and close the file. Raises OutputError."""
        in_order = sorted(self._written, key=itemgetter(0))
        if in_order != self._written:
            try:
                await asyncio.to_thread(self._file.reorder, [line for _, line in in_order])
            except OutputError as error:  # they are all there
                logger().warning("returned.unordered", reason=str(error))
        self._written.clear()
        await asyncio.to_thread(self._file.close)


def _place(entry: Entry) -> tuple[float, int]:
    """Among all that were read: when, and its number in its input."""
    return entry.read_at, entry.delivery.number


def _line(entry: Entry) -> bytes:
    raw = entry.delivery.raw
    return (remaining_events(raw, entry.part) if is_partly_delivered(entry) else raw) + b"\n"
