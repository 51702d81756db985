"""Which lines of one file are not done: what a checkpoint says, and what a resumed run reads again.

A line is known by its number. Lines at or beyond `next` were never read. Of those below it, some are
unsettled; all others are done, and are dropped when reading passes them a second time.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar


class Place(NamedTuple):
    """Where a line begins: bytes of text before it, and its number from 1."""

    offset: int
    number: int


class Fragment(NamedTuple):
    """A last line that had no line end when it was read, and how long it was: it may have grown since."""

    offset: int
    number: int
    length_bytes: int


class Reading(NamedTuple):
    """How far a file is, at one moment.

    Attributes:
        begin: where to begin to meet every line that is not done; at or before the first of them.
        next: the first line that was never read.
        unsettled: numbers of the lines before it that are not done, growing.
        fragment: the last line before it, if it had no line end.
        parts: of those that are not done, how many of a line's requests are.
    """

    begin: Place
    next: Place
    unsettled: list[int]
    fragment: Fragment | None = None
    parts: dict[int, int] | None = None


FIRST: Final = Place(0, 1)
UNREAD: Final = Reading(FIRST, FIRST, [])


class Line(Protocol):
    """What is looked at of a delivery."""

    raw: bytes
    place: Any
    number: int
    oversize_bytes: int
    delivered_parts: int


L = TypeVar("L", bound=Line)


class Unsettled:
    """The lines of one file that were read and are not done; a dictionary entry a line, 0.1 µs.

    Attributes:
        changes: grows with every change, so that nothing is written when nothing changed.
    """

    __slots__ = ("_fragment", "_lines", "_next", "_parts", "_reading", "changes")

    def __init__(self, known: Reading = UNREAD) -> None:
        # Number → offset, in reading order; None: known from a checkpoint and not met again yet.
        self._lines: dict[int, int | None] = dict.fromkeys(known.unsettled)
        self._next = known.next
        self._reading = known.begin
        self._fragment = known.fragment
        self._parts = dict(known.parts or {})
        self.changes = 0

    def __repr__(self) -> str:
        return f"<Unsettled {len(self._lines)} of {self._next.number - 1} lines>"

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def reading(self) -> Place:
        """Where the next line to be met begins."""
        return self._reading

    @property
    def next(self) -> Place:
        """The first line that was never read."""
        return self._next

    def receive(self, lines: Sequence[L], then: Place, *, unended: bool = False) -> Sequence[L]:
        """Take the next lines of the file; return those that are to be delivered, in order.

        Args:
            lines: those from `reading` on, without a gap.
            then: where the line after them begins.
            unended: the last of them has no line end.
        """
        if self._reading.number < self._next.number:
            lines = [line for line in lines if self._is_wanted(line)]
        known = self._lines
        for line in lines:
            known[line.number] = line.place
        if self._parts:
            for line in lines:
                line.delivered_parts = self._parts.get(line.number, 0)
        self._pass(then)
        if unended and lines:
            self._fragment = Fragment(lines[-1].place, lines[-1].number, _length_bytes(lines[-1]))
        self.changes += 1
        return lines

    def settle(self, numbers: Collection[int]) -> None:
        """Forget these lines: they are done."""
        forget = self._lines.pop
        for number in numbers:
            forget(number, None)
        if self._parts:
            for number in numbers:
                self._parts.pop(number, None)
        self.changes += 1

    def note_parts(self, number: int, parts: int) -> None:
        """Of a line that is not done so many requests are."""
        if number in self._lines:
            self._parts[number] = parts
            self.changes += 1

    def snapshot(self) -> Reading:
        return Reading(
            self._begin(), self._next, list(self._lines), self._fragment, dict(self._parts) or None
        )

    def _is_wanted(self, line: Line) -> bool:
        if line.number >= self._next.number or line.number in self._lines:
            return True
        fragment = self._fragment
        return (
            fragment is not None
            and line.number == fragment.number
            and _length_bytes(line) != fragment.length_bytes
        )

    def _pass(self, then: Place) -> None:
        self._reading = then
        if then.number < self._next.number:
            return
        self._next = then
        fragment = self._fragment
        if fragment is not None and (then.number > fragment.number + 1 or fragment.number in self._lines):
            self._fragment = None

    def _begin(self) -> Place:
        begin = self._next
        for number, offset in self._lines.items():
            # One that was not met again lies at or beyond what is read next.
            begin = self._reading if offset is None else Place(offset, number)
            break
        fragment = self._fragment
        if fragment is not None and fragment.number < begin.number:
            return Place(fragment.offset, fragment.number)
        return begin


def _length_bytes(line: Line) -> int:
    return line.oversize_bytes or len(line.raw)
