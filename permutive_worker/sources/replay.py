"""Dead letters as an input: each record gives the line it kept, to be delivered again."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from permutive_worker.control.unsettled import Unsettled
from permutive_worker.jobs.dead_letter import DeadLetter, parse_dead_letter
from permutive_worker.model import Delivery, Entry, Settlement
from permutive_worker.sources.files import FileSource
from permutive_worker.sources.remembered import Remembered
from permutive_worker.sources.tracked import CheckpointStore

# A record holds the line, escaped if it was no JSON (at most six bytes for one), and 4 KiB of an answer.
RECORD_FACTOR: Final = 6
RECORD_BYTES: Final = 64 * 1024


class ReplayOrigin:
    """Positions are those of the first time: where a person finds the line."""

    def __init__(self, unsettled: Unsettled | None) -> None:
        """`unsettled` has the records of the file, by their number."""
        self.unsettled = unsettled

    def position(self, delivery: Delivery) -> str:
        letter: DeadLetter = delivery.place
        return letter.position


class ReplaySource:
    """A ports.Source of one dead-letter file; a delivery's place is its `DeadLetter`.

    What `keep` does not want is `filtered`, and so is a record that holds only the beginning of its
    line. A stop does not end the reading: every record is given, so that it can be put back.
    """

    kind = "file"
    finite = True
    queue = None
    rereadable = False  # the renamed file goes: what is returned must be written down

    def __init__(
        self,
        path: Path,
        max_line_bytes: int,
        keep: Callable[[DeadLetter], bool],
        store: CheckpointStore | None = None,
    ) -> None:
        """With a `store` a replay that was killed is finished from where it was."""
        self._file = FileSource([path], max_line_bytes * RECORD_FACTOR + RECORD_BYTES, store)
        self._keep = keep
        self._origin: ReplayOrigin | None = None

    @property
    def remembered(self) -> Remembered | None:
        return self._file.remembered

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Hear that the records of these entries stand in the dead-letter file again: they are done here."""
        self._file.settle([(entry.delivery, Settlement.ACK) for entry in entries])

    async def open(self) -> None:
        await self._file.open()

    async def receive(self, max_bytes: int) -> Sequence[Delivery]:
        return [self._replayed(delivery) for delivery in await self._file.receive(max_bytes)]

    def _replayed(self, delivery: Delivery) -> Delivery:
        try:
            letter = parse_dead_letter(delivery.raw)
        except ValueError:
            return delivery  # torn or foreign: a dead letter of its own, with its bytes
        if self._origin is None:
            records: Any = delivery.origin
            self._origin = ReplayOrigin(getattr(records, "unsettled", None))
        replayed = Delivery(letter.line(), self._origin, letter, delivery.number)
        replayed.filtered = not letter.whole or not self._keep(letter)
        return replayed

    def interrupt(self) -> None:
        """Read on; see the class."""

    def settle(self, settled: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Remember what is done, for the next replay if this one is killed; the file goes when all of it is."""
        self._file.settle(settled)

    async def flush(self) -> None:
        """Nothing to tell."""

    async def close(self) -> None:
        await self._file.close()

    def bytes_read(self) -> int:
        return self._file.bytes_read()

    def bytes_total(self) -> int | None:
        return self._file.bytes_total()
