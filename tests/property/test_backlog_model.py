"""The backlog against a model that is too simple to be wrong."""

import math

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from permutive_worker.control.backlog import Backlog

KINDS = ("identify", "event")
KIND = st.sampled_from(KINDS)


class Line:
    """The least a backlog needs."""

    def __init__(self, number, user, kind, read_at):
        self.number = number
        self.user = user
        self.kind = kind
        self.read_at = read_at
        self.charge_bytes = 10

    def __repr__(self):
        return f"{self.number}:{self.user}"


class BacklogMachine(RuleBasedStateMachine):
    taken = Bundle("taken")

    def __init__(self):
        super().__init__()
        self.backlog = Backlog()
        self.now = 0.0
        self.number = 0
        self.waiting = {}  # number -> line: not taken, not landed
        self.asleep = {}  # number -> due
        self.in_flight = set()
        self.parked = set()  # kinds

    @rule(user=st.sampled_from([None, "a", "b", "c"]), kind=KIND)
    def add(self, user, kind):
        self.number += 1
        line = Line(self.number, user, kind, self.now)
        self.waiting[line.number] = line
        self.backlog.add(line)

    @precondition(lambda self: self.backlog.seconds_until_ready(self.now) == 0.0)
    @rule(target=taken)
    def take(self):
        line = self.backlog.take()
        assert line.kind not in self.parked
        return self.check_taken(line)

    @precondition(lambda self: any(map(self.backlog.has_parked, KINDS)))
    @rule(target=taken)
    def probe(self):
        self.backlog.seconds_until_ready(self.now)
        kind = next(filter(self.backlog.has_parked, KINDS))
        line = self.backlog.take_parked(kind)
        assert line.kind == kind
        return self.check_taken(line)

    def check_taken(self, line):
        assert line.number in self.waiting
        assert self.asleep.pop(line.number, -math.inf) <= self.now
        if line.user is not None:
            active = [other for other in self.in_flight if other.user == line.user]
            assert active == [], "two jobs of one user in flight"
            older = [n for n, other in self.waiting.items() if other.user == line.user and n < line.number]
            assert older == [], "a user's jobs overtook one another"
        del self.waiting[line.number]
        self.in_flight.add(line)
        return line

    @rule(line=consumes(taken))
    def land(self, line):
        self.in_flight.remove(line)
        self.backlog.landed(line)

    @rule(line=consumes(taken), wait=st.one_of(st.none(), st.floats(0.001, 50)))
    def put_back(self, line, wait):
        self.in_flight.remove(line)
        self.waiting[line.number] = line
        if wait is not None:
            self.asleep[line.number] = self.now + wait
        self.backlog.put_back(line, None if wait is None else self.now + wait)

    @rule(line=consumes(taken))
    def put_last(self, line):
        self.in_flight.remove(line)
        self.waiting[line.number] = line
        self.backlog.put_last(line)

    @rule(kind=KIND)
    def park(self, kind):
        self.parked.add(kind)
        self.backlog.park(kind)

    @rule(kind=KIND)
    def unpark(self, kind):
        self.parked.discard(kind)
        self.backlog.unpark(kind)

    @rule(seconds=st.floats(0, 40))
    def expire(self, seconds):
        before = self.now - seconds
        expired = {number for number, line in self.waiting.items() if line.read_at < before}
        left = [line.number for line in self.backlog.expire(before)]
        assert sorted(left) == sorted(expired)
        for number in expired:
            del self.waiting[number]
            self.asleep.pop(number, None)

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds):
        self.now += seconds

    @rule()
    def drain(self):
        assert sorted(line.number for line in self.backlog.drain()) == sorted(self.waiting)
        self.waiting.clear()
        self.asleep.clear()
        self.parked.clear()

    @invariant()
    def nothing_is_lost(self):
        assert len(self.backlog) == len(self.waiting)
        backlog = self.backlog
        states = len(backlog.ready) + backlog.parked + backlog.asleep + backlog.blocked
        assert states == len(self.waiting)
        assert all(line.kind not in self.parked for line in backlog.ready)

    @invariant()
    def a_free_user_never_waits(self):
        """When nobody sleeps or flies, somebody is ready, or parked for a probe."""
        if self.waiting and not self.in_flight and not self.asleep:
            is_ready = self.backlog.seconds_until_ready(self.now) == 0.0
            assert is_ready or any(map(self.backlog.has_parked, KINDS))

    @invariant()
    def blocked_bytes_are_those_of_the_followers(self):
        for user in ("a", "b", "c"):
            waiting = sum(line.charge_bytes for line in self.waiting.values() if line.user == user)
            assert self.backlog.blocked_bytes(user) <= waiting


TestBacklog = BacklogMachine.TestCase
