"""Messages of a group leave one after another, in the order they came; groups do not wait for each other."""

from collections import deque
from collections.abc import Hashable


class InTurn:
    """Who may leave. A place belongs to one group until it is done or dropped."""

    def __init__(self) -> None:
        self._groups: dict[Hashable, deque[Hashable]] = {}  # the first of each has left
        self._group_of: dict[Hashable, Hashable] = {}

    def offer(self, place: Hashable, group: Hashable) -> bool:
        """A message came; returns whether it may leave now. One that is known already may not."""
        if place in self._group_of:
            return False
        self._group_of[place] = group
        waiting = self._groups.setdefault(group, deque())
        waiting.append(place)
        return len(waiting) == 1

    def is_waiting(self, place: Hashable) -> bool:
        """Whether it is behind another."""
        group = self._group_of.get(place)
        return group is not None and self._groups[group][0] != place

    def done(self, place: Hashable) -> Hashable | None:
        """One that left is done; returns the next, which may leave now."""
        group = self._group_of.get(place)
        if group is None or self._groups[group][0] != place:
            return None
        del self._group_of[place]
        waiting = self._groups[group]
        waiting.popleft()
        if not waiting:
            del self._groups[group]
            return None
        return waiting[0]

    def drop(self, place: Hashable) -> list[Hashable]:
        """One goes back, and with it those that wait behind it; returns these."""
        group = self._group_of.get(place)
        if group is None:
            return []
        waiting = self._groups[group]
        behind = []
        while waiting[-1] != place:
            behind.append(waiting.pop())
        waiting.pop()
        if not waiting:
            del self._groups[group]
        for gone in (place, *behind):
            del self._group_of[gone]
        return behind[::-1]
