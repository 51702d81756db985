"""The jobs of one lane that wait for their turn.

A job is in exactly one of five states, and one deque, heap or dict entry holds it:

    ready      may leave now                              add, woken from asleep, promoted follower
    parked     would be ready, but its kind is held       the same, while its kind is parked
    asleep     waits for its back-off to pass             put_back(due in the future)
    blocked    follows another active job of its user     add while the user is busy
    taken      in flight; the caller holds it             take

A user has at most one active job (ready, parked, asleep or taken); its followers wait in a list of its
own that exists only while there are any. So taking never scans, jobs of one user leave in the
order they came, and a follower of a job that backs off waits too: that is the promise. A kind that
is held costs nothing but the move of its jobs: those that are ready are not looked at again.

Two moments are told apart by the callers: `landed` frees the user at the last verdict; the bytes
are freed later, when the outcome is durable (`control.budget`).
"""

import math
from collections import deque
from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """What the backlog must know of an entry."""

    user: Hashable
    kind: str
    charge_bytes: int
    read_at: float


E = TypeVar("E", bound=Waiting)


class _Followers(Generic[E]):
    __slots__ = ("bytes", "entries")

    def __init__(self) -> None:
        self.entries: deque[E] = deque()
        self.bytes = 0


class Backlog(Generic[E]):
    """Pure data; what is asked for each job is O(1), or O(log n) for jobs that back off."""

    def __init__(self) -> None:
        self.ready: deque[E] = deque()  # look at it; only methods change it
        self._asleep: list[tuple[float, int, E]] = []
        self._busy: dict[Hashable, _Followers[E] | None] = {}
        self._blocked = 0
        self._parked: dict[str, deque[E]] = {}  # of each kind that is held, also while it has none
        self._order = 0  # breaks ties in the heap: entries cannot be compared

    def __repr__(self) -> str:
        return (
            f"<Backlog ready={len(self.ready)} parked={self.parked} asleep={self.asleep} "
            f"blocked={self.blocked}>"
        )

    @property
    def asleep(self) -> int:
        return len(self._asleep)

    @property
    def blocked(self) -> int:
        return self._blocked

    @property
    def parked(self) -> int:
        return sum(map(len, self._parked.values()))

    def __len__(self) -> int:
        return len(self.ready) + self.parked + len(self._asleep) + self._blocked

    def add(self, entry: E) -> None:
        """Take in a job: ready, or blocked behind its user's active one."""
        user = entry.user
        if user is not None:
            if user in self._busy:
                self._follow(user, entry)
                return
            self._busy[user] = None
        if self._parked:
            self.put_last(entry)
        else:
            self.ready.append(entry)  # every job passes here: a call is saved

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
            self._put_first(heappop(asleep)[2])  # it has waited longest
        if self.ready:
            return 0.0
        return asleep[0][0] - now if asleep else math.inf

    def take(self) -> E:
        """Hand out the next ready job. Raises IndexError if `seconds_until_ready` was not 0."""
        return self.ready.popleft()

    def put_back(self, entry: E, due: float | None = None) -> None:
        """Take back a job that was taken and is not done: asleep until `due`, or first in line."""
        if due is None:
            self._put_first(entry)
        else:
            self._order += 1
            heappush(self._asleep, (due, self._order, entry))

    def put_last(self, entry: E) -> None:
        """Take back a job that was taken, behind all that are ready: another one shall be tried first."""
        if self._parked and entry.kind in self._parked:
            self._parked[entry.kind].append(entry)
        else:
            self.ready.append(entry)

    def _put_first(self, entry: E) -> None:
        if self._parked and entry.kind in self._parked:
            self._parked[entry.kind].append(entry)  # a job that was refused shall not be the next probe
        else:
            self.ready.appendleft(entry)

    def park(self, kind: str) -> None:
        """Hold the jobs of this kind: those that are ready, and those to come. O(ready), once."""
        if kind in self._parked:
            return
        self._parked[kind] = deque(entry for entry in self.ready if entry.kind == kind)
        if self._parked[kind]:
            others = [entry for entry in self.ready if entry.kind != kind]
            self.ready.clear()
            self.ready.extend(others)

    def unpark(self, kind: str) -> None:
        """Hold this kind no longer: its jobs are ready, behind those that were."""
        self.ready.extend(self._parked.pop(kind, ()))

    @property
    def parked_kinds(self) -> tuple[str, ...]:
        return tuple(self._parked)

    def has_parked(self, kind: str) -> bool:
        """Whether `take_parked` has a job of this kind."""
        return bool(self._parked.get(kind))

    def take_parked(self, kind: str) -> E:
        """Hand out the job of a held kind that waits longest. Raises IndexError, KeyError if there is none."""
        return self._parked[kind].popleft()

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
        self.put_last(follower)
        if not followers.entries:
            self._busy[user] = None

    def expire(self, read_before: float) -> list[E]:
        """Give up what was read before this moment, wherever it waits, and free its users. O(n)."""
        left = self._expire_followers(read_before)
        self._blocked -= len(left)
        active = self._expire_active(read_before)
        for entry in active:
            self.landed(entry)
        return active + left

    def _expire_followers(self, read_before: float) -> list[E]:
        left: list[E] = []
        for user, followers in self._busy.items():
            if followers is None:
                continue
            old = [entry for entry in followers.entries if entry.read_at < read_before]
            if old:
                left += old
                followers.entries = deque(e for e in followers.entries if e.read_at >= read_before)
                followers.bytes -= sum(entry.charge_bytes for entry in old)
                if not followers.entries:
                    self._busy[user] = None
        return left

    def _expire_active(self, read_before: float) -> list[E]:
        old: list[E] = []
        for entries in (self.ready, *self._parked.values()):
            late = [entry for entry in entries if entry.read_at < read_before]
            if late:
                old += late
                kept = [entry for entry in entries if entry.read_at >= read_before]
                entries.clear()
                entries.extend(kept)
        late = [entry for _, _, entry in self._asleep if entry.read_at < read_before]
        if late:
            old += late
            self._asleep = [sleeper for sleeper in self._asleep if sleeper[2].read_at >= read_before]
            heapify(self._asleep)
        return old

    def longest_line(self) -> tuple[E, int, int] | None:
        """Who holds most: the first job that waits behind its user's active one, how many do, their bytes.

        None if no user has followers. O(users that are busy): for a person who asks.
        """
        lines = [followers for followers in self._busy.values() if followers is not None]
        if not lines:
            return None
        longest = max(lines, key=lambda followers: followers.bytes)
        return longest.entries[0], len(longest.entries), longest.bytes

    def drain(self) -> list[E]:
        """Give up everything that waits. Jobs that are taken stay with their holders."""
        parked = [entry for entries in self._parked.values() for entry in entries]
        left = [*self.ready, *parked, *(entry for _, _, entry in sorted(self._asleep))]
        active = {entry.user for entry in left}
        for followers in self._busy.values():
            if followers is not None:
                left.extend(followers.entries)
        self._busy = {user: None for user in self._busy if user not in active}
        self.ready.clear()
        self._parked.clear()
        self._asleep.clear()
        self._blocked = 0
        return left
