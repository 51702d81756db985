"""Which messages of a partition are done, when they end in any order, and what may be committed of it.

Kafka remembers one offset for a partition and a short text beside it. The offset is that of the first
message that is not done; the text tells which ones above it are done all the same, so that the next
owner does not deliver them again.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Final

VERSION: Final = "1"
METADATA_CHARS: Final = 4000  # Kafka keeps 4,096 bytes (offset.metadata.max.bytes) and refuses more


class Watermark:
    """Offsets that are done, as merged intervals.

    Args:
        base: the first offset that is not done.
        done: intervals `[begin, end)` above it that are.

    Attributes:
        base: everything below is done: what may be committed.
        position: one above the highest offset that was fetched.
        pending: offsets that were fetched and are not done.
    """

    __slots__ = ("_begins", "_ends", "base", "pending", "position")

    def __init__(self, base: int, done: Iterable[tuple[int, int]] = ()) -> None:
        self.base = base
        self.position = base
        self.pending = 0
        self._begins: list[int] = []
        self._ends: list[int] = []
        for begin, end in done:
            self._add(begin, end)

    @property
    def span(self) -> int:
        """From the first offset that is not done to the last that was fetched."""
        return max(0, self.position - self.base)

    def runs(self) -> list[tuple[int, int]]:
        """The intervals above the base that are done."""
        return list(zip(self._begins, self._ends, strict=True))

    def is_done(self, offset: int) -> bool:
        index = bisect_right(self._begins, offset) - 1
        return offset < self.base or (index >= 0 and offset < self._ends[index])

    def fetch(self, offset: int) -> bool:
        """A message at or above the position came; returns whether it is to be done.

        Offsets that were left out hold no message for us (compacted, or marks of transactions).
        """
        if offset > self.position:
            self._add(self.position, offset)
        self.position = offset + 1
        if self.is_done(offset):
            return False
        self.pending += 1
        return True

    def settle(self, offset: int) -> bool:
        """A message that was fetched is done; returns False if it was before."""
        if self.is_done(offset):
            return False
        self.pending -= 1
        self._add(offset, offset + 1)
        return True

    def _add(self, begin: int, end: int) -> None:
        """Merge an interval with those it overlaps or touches."""
        first = bisect_left(self._ends, begin)
        last = bisect_right(self._begins, end)
        if first < last:
            begin = min(begin, self._begins[first])
            end = max(end, self._ends[last - 1])
        if begin <= self.base:
            self.base = max(self.base, end)
            del self._begins[:last], self._ends[:last]
        else:
            self._begins[first:last] = [begin]
            self._ends[first:last] = [end]

    def metadata(self) -> str:
        """What a commit tells the next owner: how far we have read, and what is done above the base.

        `1:SPAN:GAP+LENGTH,…`; what does not fit is left out: it will be delivered again.
        """
        text, previous = f"{VERSION}:{self.span}:", self.base
        for begin, end in self.runs():
            run = f"{begin - previous}+{end - begin},"
            if len(text) + len(run) > METADATA_CHARS:
                break
            text += run
            previous = end
        return text


def parse_metadata(base: int, text: str | None) -> tuple[int, list[tuple[int, int]]]:
    """Return how far somebody has read before, and the runs that are done, of a commit at `base`.

    Text that is not ours means: nothing is known.
    """
    try:
        version, span, listed = (text or "").split(":")
        if version != VERSION:
            return base, []
        runs, previous = [], base
        for run in listed.rstrip(",").split(",") if listed else ():
            gap, length = (int(part) for part in run.split("+"))
            if gap <= 0 or length <= 0:
                return base, []
            runs.append((previous + gap, previous + gap + length))
            previous = runs[-1][1]
        return base + max(0, int(span)), runs
    except ValueError:
        return base, []
