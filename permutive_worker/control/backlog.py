"""The jobs of one lane that wait for their turn.

A job is in exactly one of four states, and one deque, heap or dict entry holds it:

    ready      may leave now                              add, woken from asleep, promoted follower
    asleep     waits for its back-off to pass             put_back(due in the future)
    blocked    follows another active job of its user     add while the user is busy
    taken      in flight; the caller holds it             take

A user has at most one active job (ready, asleep or taken); its followers wait in a list of its
own that exists only while there are any. So taking never scans, jobs of one user leave in the
order they came, and a follower of a job that backs off waits too: that is the promise.

Two moments are told apart by the callers: `landed` frees the user at the last verdict; the bytes
are freed later, when the outcome is durable (`control.budget`).
"""

import math
from collections import deque
from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """What the backlog must know of an entry."""

    user: Hashable
    charge_bytes: int


E = TypeVar("E", bound=Waiting)


class _Followers(Generic[E]):
    __slots__ = ("bytes", "entries")

    def __init__(self) -> None:
        self.entries: deque[E] = deque()
        self.bytes = 0


class Backlog(Generic[E]):
    """Pure data; every method is O(1), or O(log n) for jobs that back off."""

    def __init__(self) -> None:
        self.ready: deque[E] = deque()  # look at it; only methods change it
        self._asleep: list[tuple[float, int, E]] = []
        self._busy: dict[Hashable, _Followers[E] | None] = {}
        self._blocked = 0
        self._order = 0  # breaks ties in the heap: entries cannot be compared

    def __repr__(self) -> str:
        return f"<Backlog ready={len(self.ready)} asleep={self.asleep} blocked={self.blocked}>"

    @property
    def asleep(self) -> int:
        return len(self._asleep)

    @property
    def blocked(self) -> int:
        return self._blocked

    def __len__(self) -> int:
        return len(self.ready) + len(self._asleep) + self._blocked

    def add(self, entry: E) -> None:
        """Take in a job: ready, or blocked behind its user's active one."""
        user = entry.user
        if user is None:
            self.ready.append(entry)
        elif user in self._busy:
            self._follow(user, entry)
        else:
            self._busy[user] = None
            self.ready.append(entry)

    def _follow(self, user: Hashable, entry: E) -> None:
        followers = self._busy[user]
        if followers is None:
            followers = self._busy[user] = _Followers()
        followers.entries.append(entry)
        followers.bytes += entry.charge_bytes
        self._blocked += 1

    def blocked_bytes(self, user: Hashable) -> int:
        """Bytes that wait behind this user's active job."""
        followers = self._busy.get(user)
        return followers.bytes if followers is not None else 0

    def seconds_until_ready(self, now: float) -> float:
        """0.0 if a job may leave now, else the seconds until one wakes; inf if none sleeps."""
        asleep = self._asleep
        while asleep and asleep[0][0] <= now:
            self.ready.appendleft(heappop(asleep)[2])  # it has waited longest
        if self.ready:
            return 0.0
        return asleep[0][0] - now if asleep else math.inf

    def take(self) -> E:
        """Hand out the next ready job. Raises IndexError if `seconds_until_ready` was not 0."""
        return self.ready.popleft()

    def put_back(self, entry: E, due: float | None = None) -> None:
        """Take back a job that was taken and is not done: asleep until `due`, or first in line."""
        if due is None:
            self.ready.appendleft(entry)
        else:
            self._order += 1
            heappush(self._asleep, (due, self._order, entry))

    def put_last(self, entry: E) -> None:
        """Take back a job that was taken, behind all that are ready: another one shall be tried first."""
        self.ready.append(entry)

    def landed(self, entry: E) -> None:
        """The job that was taken is done: its user's next one becomes ready."""
        user = entry.user
        if user is None:
            return
        followers = self._busy[user]
        if followers is None:
            del self._busy[user]
            return
        follower = followers.entries.popleft()
        followers.bytes -= follower.charge_bytes
        self._blocked -= 1
        self.ready.append(follower)
        if not followers.entries:
            self._busy[user] = None

    def drain(self) -> list[E]:
        """Give up everything that waits. Jobs that are taken stay with their holders."""
        left = [*self.ready, *(entry for _, _, entry in sorted(self._asleep))]
        active = {entry.user for entry in left}
        for followers in self._busy.values():
            if followers is not None:
                left.extend(followers.entries)
        self._busy = {user: None for user in self._busy if user not in active}
        self.ready.clear()
        self._asleep.clear()
        self._blocked = 0
        return left
