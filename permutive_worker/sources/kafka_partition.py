"""One partition while it is ours: what was read of it, what is done, what is to be read again. No I/O."""

from collections.abc import Iterable
from typing import Final

from confluent_kafka import OFFSET_BEGINNING

from permutive_worker.control.watermark import Watermark, parse_metadata

AGAIN_SECONDS: Final = 1.0  # what was given back comes again after that: it was given back for a reason


class Partition:
    """Raises nothing; moments are arguments.

    Attributes:
        read_before: somebody has read up to here before us.
        committed: offset and text that the broker has.
        seek_to: where the library must read on; None: where it is.
        is_full: more is not done than `max_uncommitted` allows: it must be paused.
    """

    def __init__(self, offset: int | None, metadata: str | None, max_uncommitted: int) -> None:
        """`offset` and `metadata` are of the last commit; None: there is none."""
        self._max_uncommitted = max_uncommitted
        self.watermark: Watermark | None = None
        self.committed: tuple[int, str] | None = None
        self.read_before = 0
        self.seek_to: int | None = None
        self.is_full = False
        self._cursor = 0  # the library gives nothing below this unless the log was reset
        self._target: int | None = None  # where it was told to read on, and has given nothing since
        self._returned: set[int] = set()
        self._again_at = 0.0
        if offset is not None:
            self.read_before, runs = parse_metadata(offset, metadata)
            self.watermark = Watermark(offset, runs)
            self._cursor = offset

    @property
    def in_hand(self) -> int:
        """Messages that were delivered and not settled."""
        return 0 if self.watermark is None else self.watermark.pending - len(self._returned)

    @property
    def position(self) -> int | None:
        """Where it is read on; None: nothing is known yet."""
        return None if self.watermark is None else max(self.watermark.position, self.watermark.base)

    @property
    def returned(self) -> int:
        return len(self._returned)

    def begins_anew(self, offset: int) -> bool:
        """The library gives an offset that it must not: the log was cut or made again."""
        return self.watermark is not None and self.seek_to is None and offset < self._cursor

    def restart(self, offset: int) -> None:
        self.watermark = Watermark(offset)
        self._cursor, self._target = offset, None
        self._returned.clear()

    def accept(self, offset: int) -> bool:
        """The library gave this message; returns whether it is to be delivered."""
        if self.seek_to is not None:
            return False  # it will be read again
        if self.watermark is None:
            self.watermark = Watermark(offset)
        if self._target is not None:
            self._forget_vanished(self._target, offset)
            self._target = None
        self._cursor = offset + 1
        if offset < self.watermark.position:
            if offset not in self._returned:
                return False
            self._returned.remove(offset)
            return True
        if offset - self.watermark.base >= self._max_uncommitted:
            self.is_full = True
            self.seek_to = self.watermark.position
            return False
        return self.watermark.fetch(offset)

    def _forget_vanished(self, begin: int, end: int) -> None:
        """What was given back and is no longer in the log cannot be read again."""
        for offset in [offset for offset in self._returned if begin <= offset < end]:
            self.settle(offset)

    def settle(self, offset: int) -> bool:
        """Returns whether it was not done before."""
        if self.watermark is None or offset >= self.watermark.position:
            return False
        self._returned.discard(offset)
        return self.watermark.settle(offset)

    def give_back(self, offsets: Iterable[int], now: float) -> None:
        """They are to be read again, in a while."""
        if self.watermark is None:
            return
        mark = self.watermark
        fresh = {offset for offset in offsets if offset < mark.position and not mark.is_done(offset)}
        if fresh:
            self._returned |= fresh
            self._again_at = now + AGAIN_SECONDS

    def plan(self, now: float) -> None:
        """Before a fetch: see whether it has room again, and whether it is time to read again."""
        if self.watermark is None:
            return
        if self._returned and now >= self._again_at and self._cursor > (lowest := min(self._returned)):
            self.seek_to = lowest
            self.is_full = False
        elif self.is_full and 2 * self.watermark.span <= self._max_uncommitted:
            self.is_full = False

    def sought(self) -> int | None:
        """Take the place to read on from; the library is told."""
        if self.seek_to is None or self.is_full:
            return None
        target, self.seek_to = self.seek_to, None
        self._cursor = self._target = target
        return target

    def read_again(self) -> None:
        """What the library gave was dropped, or it could not seek: read on where we are."""
        if self.watermark is None:
            self.seek_to = OFFSET_BEGINNING  # nothing was ever committed
        else:
            self.seek_to = self._cursor = self.watermark.position

    def due(self, *, with_text: bool) -> tuple[int, str] | None:
        """Offset and text to commit; None: the broker has them."""
        if self.watermark is None:
            return None
        now = (self.watermark.base, self.watermark.metadata() if with_text else "")
        return None if now == self.committed else now
