"""Keeps a job kind that fails from slowing the others of its lane.

The breaker is for an API that is down as a whole: one answer below 500 of any kind resets it. A kind that
fails alone would go on taking places and permits, each of its jobs several times. So after as many failures
in a row as open the breaker it gets a trickle: one attempt at a time, and one in ONE_IN of the lane's, or
whatever is left while no other job is ready. Its attempts count as ever. One answer below 500 ends it.
Where it opened the breaker on its way (it held all the places), the probe that closes it is another kind's.
"""

from typing import Final

from permutive_worker.control.breaker import OPENS_AFTER

ONE_IN: Final = 32  # 3 % of the places and permits; the others keep 95 %, with room for what came before


class Trickle:
    """Pure: time is an argument, monotonic seconds.

    Attributes:
        kinds: those that get a trickle now: when the attempt under way was sent, None if there is none.
        watching: whether answers must be told.
    """

    __slots__ = ("_others", "_streaks", "kinds", "watching")

    def __init__(self) -> None:
        self.kinds: dict[str, float | None] = {}
        self.watching = False
        self._streaks: dict[str, int] = {}  # failures in a row
        self._others = 0  # attempts of other kinds since the last of a kind in `kinds`

    def __repr__(self) -> str:
        return f"<Trickle {sorted(self.kinds)}>"

    def may_start(self, kind: str, *, others_ready: bool) -> bool:
        """Whether an attempt of this kind, one in `kinds`, may leave now."""
        return self.kinds[kind] is None and (not others_ready or self._others >= ONE_IN - 1)

    def started(self, kind: str, now: float) -> None:
        """An attempt starts while there is a trickle."""
        if kind in self.kinds:
            del self.kinds[kind]  # the last of them now: each has its turn
            self.kinds[kind] = now
            self._others = 0
        else:
            self._others += 1

    def failed(self, kind: str, sent_at: float) -> None:
        """A 5xx, a timeout or a lost connection."""
        self._landed(kind, sent_at)
        self.watching = True
        self._streaks[kind] = self._streaks.get(kind, 0) + 1
        if self._streaks[kind] >= OPENS_AFTER:
            self.kinds.setdefault(kind, None)

    def answered(self, kind: str) -> None:
        """An answer below 500 came."""
        self._streaks.pop(kind, None)
        self.kinds.pop(kind, None)
        self.watching = bool(self._streaks)

    def cut(self, kind: str, sent_at: float) -> None:
        """The attempt is over and says nothing."""
        self._landed(kind, sent_at)

    def _landed(self, kind: str, sent_at: float) -> None:
        started_at = self.kinds.get(kind)
        if started_at is not None and sent_at >= started_at:  # else it was sent before the trickle
            self.kinds[kind] = None
