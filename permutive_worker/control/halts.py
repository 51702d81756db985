"""The halts of one lane: its own, and one for each job kind that is refused.

A job that is refused again although others of its kind were taken in between is refused for itself: it is
rejected, so that one such job cannot hold its kind. Once that was seen of a kind, a refusal halts it only if
nothing of it was taken since the last one: else each job of one forbidden user would stop the kind for a
round trip.
"""

import math
from collections.abc import Mapping

from permutive_worker.control.halt import Halt


class _Kind:
    """What is remembered of a job kind that was refused once."""

    __slots__ = ("halt", "has_own", "taken_at", "taken_since")

    def __init__(self) -> None:
        self.halt = Halt()
        self.taken_at = -math.inf  # when the latest attempt that was taken was sent
        self.taken_since = True  # the last refusal
        self.has_own = False  # a job of it was refused for itself


class Halts:
    """Pure: time is an argument, monotonic seconds.

    Attributes:
        lane: holds all kinds.
        kinds: those that are halted now.
        standing: whether there is any halt: the one thing a job that may leave costs.
        watched: whether `taken` must be told: some kind was refused once.
    """

    __slots__ = ("_seen", "kinds", "lane", "standing", "watched")

    def __init__(self) -> None:
        self.lane = Halt()
        self.kinds: Mapping[str, Halt] = {}
        self.standing = False
        self.watched = False
        self._seen: dict[str, _Kind] = {}

    def __repr__(self) -> str:
        return f"<Halts lane={self.lane!r} kinds={sorted(self.kinds)}>"

    @property
    def all(self) -> list[Halt]:
        """Those that stand."""
        return [halt for halt in (self.lane, *self.kinds.values()) if halt.halted]

    @property
    def probes(self) -> int:
        """How many are under way."""
        return sum(halt.probing for halt in self.all)

    def refused(
        self, now: float, sent_at: float, kind: str | None, status: int, probe: Halt | None = None
    ) -> None:
        """A refusal came: of the key if `kind` is None, else of that kind. `probe`: the halt it was to open."""
        if probe is not None:
            probe.refused(now, sent_at, status, probe=True)
        if kind is None:
            if probe is not self.lane:
                self.lane.refused(now, sent_at, status, probe=False)
        elif probe is None:
            self._kind_refused(now, sent_at, kind, status)
        self._look()

    def _kind_refused(self, now: float, sent_at: float, kind: str, status: int) -> None:
        seen = self._seen.setdefault(kind, _Kind())
        self.watched = True
        if not (seen.has_own and seen.taken_since):
            seen.halt.refused(now, sent_at, status, probe=False)
        seen.taken_since = False

    def accepted(self, now: float, kind: str, probe: Halt) -> None:
        """A probe, a job of this kind, proved that the key is good: for the kind, too."""
        probe.accepted(now)
        if kind in self.kinds:
            self.kinds[kind].accepted(now)
        self._look()

    def taken(self, kind: str, sent_at: float) -> None:
        """An attempt of this kind delivered."""
        if seen := self._seen.get(kind):
            seen.taken_at = max(seen.taken_at, sent_at)
            seen.taken_since = True

    def is_own(self, kind: str, refused_at: float) -> bool:
        """Whether a job that is refused again, not for the first time since `refused_at`, is rejected.

        Never while it is halted: then it may be the key all the same.
        """
        seen = self._seen.get(kind)
        if seen is None or self.lane.halted or seen.halt.halted or seen.taken_at < refused_at:
            return False
        seen.has_own = True
        return True

    def ask_now(self, now: float) -> None:
        """There is a new key: try it."""
        for halt in self.all:
            halt.ask_now(now)

    def _look(self) -> None:
        self.kinds = {kind: seen.halt for kind, seen in self._seen.items() if seen.halt.halted}
        self.standing = self.lane.halted or bool(self.kinds)
