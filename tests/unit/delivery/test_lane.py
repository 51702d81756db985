"""The order of the gates, and the one place where senders wait."""

import asyncio
import math

import pytest
from support.entries import entry_of

from permutive_worker.control.breaker import OPENS_AFTER
from permutive_worker.control.budget import Budget
from permutive_worker.control.pace import Pace
from permutive_worker.delivery.lane import HIGH_WATER, Lane
from permutive_worker.http.gate import NEEDS_LEASE, Gate
from permutive_worker.jobs.decode import KINDS
from permutive_worker.model import Action, Delivery, Entry, Verdict
from permutive_worker.sources.memory import JobsOrigin
from permutive_worker.telemetry.counts import Counts

REFUSED = Verdict(Action.HALT, "key_refused", status=401)
THROTTLED = Verdict(Action.THROTTLED, "throttled", status=429, retry_after_seconds=7.0)
FAILED = Verdict(Action.RETRY, "server_error", status=500)


class FewPermits:
    """A limiter with as many permits as a test gives it."""

    def __init__(self, permits):
        self.permits = permits
        self.leases = 0

    def try_take(self, now):
        if not self.permits:
            return False
        self.permits -= 1
        return True

    async def lease(self):
        self.leases += 1
        self.permits += 10

    def drop(self):
        self.permits = 0


def job(user="u"):
    raw = b'{"type":"identify","user_id":"%s","aliases":[]}' % user.encode()
    return entry_of(Delivery(raw, JobsOrigin(), 0))


class Lanes:
    """Lanes on a clock a test moves by hand."""

    def __init__(self):
        self.now = 0.0

    def lane(self, *, places=4, limiter=None, budget_bytes=10_000_000, user_bytes=5000):
        counts = Counts("memory", KINDS)
        pace = Pace(1e6)  # a ceiling nobody reaches: the pace stays out of the way
        return Lane(
            "w", Gate(places, limiter, pace), Budget(budget_bytes), user_bytes, counts, lambda: self.now
        )


@pytest.fixture
def lanes():
    return Lanes()


def take(lane, now=0.0):
    entry = lane.next(now)
    assert isinstance(entry, Entry)
    return entry


def test_an_empty_lane_waits_until_it_is_woken(lanes):
    assert lanes.lane().next(0.0) == math.inf


def test_a_ready_job_leaves(lanes):
    lane = lanes.lane()
    entry = job()
    lane.add(entry)
    assert take(lane) is entry
    assert lane.gate.in_flight == 1


def test_no_place_no_job(lanes):
    lane = lanes.lane(places=1)
    lane.add(job("a"))
    lane.add(job("b"))
    take(lane)
    assert lane.next(0.0) == math.inf


def test_nothing_leaves_during_a_pause_and_permits_in_hand_are_gone(lanes):
    lane = lanes.lane(limiter=FewPermits(5))
    for user in "abc":
        lane.add(job(user))
    first = take(lane)
    lane.gate.heard(THROTTLED, 0.0, 1.0)
    lane.again(first, None)

    assert lane.next(1.0) == 7.0
    assert lane.next(7.9) == pytest.approx(0.1)
    assert lane.next(8.0) == NEEDS_LEASE


def test_a_shorter_pause_does_not_cut_a_longer_one(lanes):
    lane = lanes.lane()
    lane.gate.pause(10.0)
    lane.gate.pause(5.0)
    assert lane.next(6.0) == 4.0


def test_a_permit_is_asked_for_last_and_only_for_a_job_that_can_leave(lanes):
    limiter = FewPermits(1)
    lane = lanes.lane(limiter=limiter)
    assert lane.next(0.0) == math.inf
    assert limiter.permits == 1
    lane.add(job("a"))
    lane.add(job("b"))
    take(lane)
    assert limiter.permits == 0
    assert lane.next(0.0) == NEEDS_LEASE
    assert len(lane.backlog.ready) == 1


def test_a_refused_lane_sends_one_probe(lanes):
    lane = lanes.lane()
    for user in "abc":
        lane.add(job(user))
    first = take(lane)
    lane.gate.heard(REFUSED, 0.0, 1.0)
    lane.look_at_holds()
    lane.again_last(first)

    probe = take(lane, 1.0)
    assert probe is not first
    assert lane.next(1.0) == math.inf
    lane.gate.heard(REFUSED, 1.0, 2.0, probe.kind, probe.probe)
    lane.again_last(probe)
    assert lane.next(2.0) == 5.0
    probe = take(lane, 7.0)
    lane.gate.delivered(7.0, 7.5, probe.kind, probe.probe)
    lane.look_at_holds()
    lane.landed(probe)
    take(lane, 7.5)
    take(lane, 7.5)


def test_an_api_that_is_down_gets_one_probe(lanes):
    lane = lanes.lane(places=100)
    for number in range(OPENS_AFTER + 2):
        lane.add(job(str(number)))
    for _ in range(OPENS_AFTER):
        entry = take(lane)
        lane.gate.heard(FAILED, 0.0, 0.0)
        lane.again(entry, 100.0)

    assert lane.next(0.5) == 0.5
    take(lane, 1.0)
    assert lane.next(1.0) == math.inf


def test_a_closed_lane_gives_up_what_waits_and_nothing_else(lanes):
    lane = lanes.lane()
    first, second, follower = job("a"), job("b"), job("a")
    for entry in (first, second, follower):
        lane.add(entry)
    taken = take(lane)

    assert taken is first
    assert lane.close() == [second, follower]
    assert lane.next(0.0) == math.inf
    lane.landed(first)
    assert len(lane.backlog) == 0


def test_one_user_may_hold_a_share_of_the_budget_and_others_are_not_asked(lanes):
    lane = lanes.lane(user_bytes=2500)
    for _ in range(3):
        assert lane.has_room(job("a"))
        lane.add(job("a"))
    assert not lane.has_room(job("a"))
    assert lane.has_room(job("b"))


def test_a_single_job_larger_than_the_users_share_is_let_in(lanes):
    lane = lanes.lane(user_bytes=10)
    assert lane.has_room(job("a"))


def test_a_full_backlog_waits_while_it_moves_and_fills_up_while_it_stands(lanes):
    lane = lanes.lane()
    for number in range(HIGH_WATER):
        lane.add(job(str(number)))
    assert not lane.has_room(job("x"))
    lane.gate.pause(100.0)
    assert lane.has_room(job("x"))


def test_the_byte_budget_is_a_bound_of_its_own(lanes):
    lane = lanes.lane(budget_bytes=1500)
    lane.budget.charge(1400)
    assert lane.has_room(job())
    lane.budget.charge(1000)
    assert not lane.has_room(job())


async def test_waiting_senders_are_woken_in_their_order(lanes):
    lane = lanes.lane()
    got = []

    async def wait(name):
        got.append((name, (await lane.turn()).user))

    async with asyncio.TaskGroup() as group:
        for name in ("first", "second"):
            group.create_task(wait(name))
            await asyncio.sleep(0)
        lane.add(job("a"))
        lane.add(job("b"))
    assert got == [("first", "a"), ("second", "b")]


async def test_a_cancelled_waiter_holds_nothing_and_the_next_one_leads(lanes):
    lane = lanes.lane()
    leader = asyncio.create_task(lane.turn())
    await asyncio.sleep(0)
    second = asyncio.create_task(lane.turn())
    await asyncio.sleep(0)

    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    entry = job()
    lane.add(entry)

    assert await second is entry
    assert lane.gate.in_flight == 1


async def test_the_leader_fetches_a_lease(lanes):
    limiter = FewPermits(0)
    lane = lanes.lane(limiter=limiter)
    lane.add(job())
    await lane.turn()
    assert limiter.leases == 1


def test_a_refused_lane_is_probed_with_a_job_of_a_failing_kind_if_there_is_no_other(lanes):
    lane = lanes.lane(places=100)
    for number in range(OPENS_AFTER + 2):
        lane.add(job(str(number)))
    for _ in range(OPENS_AFTER):
        entry = take(lane)
        lane.gate.heard(FAILED, 0.0, 0.0, entry.kind)
        lane.landed(entry)
    lane.look_at_holds()
    assert lane.backlog.parked == 2
    lane.gate.heard(REFUSED, 0.0, 0.0)
    lane.look_at_holds()

    assert take(lane, 1.0).probe is lane.gate.halts.lane
