"""A rate that changes while it is spent, on a clock that jumps."""

import asyncio
import math
from bisect import bisect_left

from hypothesis import given, settings
from hypothesis import strategies as st
from support.jump_loop import run_jumping

from permutive_worker.control.pace import LEAST_PER_SECOND, Pace
from permutive_worker.control.places import Places
from permutive_worker.limits.local import LEAST_CAPACITY, LocalLimiter

rates = st.sampled_from([3, 20, 50, 200, 400])
bursts = st.sampled_from([None, 1, 10, 60])
pauses = st.sampled_from([0.0, 0.003, 0.1, 0.6, 1.5])
changes = st.lists(st.tuples(st.sampled_from([0.004, 0.05, 0.3, 1.0, 2.0]), rates, bursts), max_size=6)


async def spend(limiter, steps, idle_seconds):
    """Take every permit as soon as there is one, but for a pause before each change; when, and under which limits."""
    now = asyncio.get_running_loop().time
    taken, limits = [], [(0.0, limiter.rate_per_second, limiter.burst)]

    async def take():
        while True:
            if limiter.try_take(now()):
                taken.append(now())
            else:
                await limiter.lease()

    for seconds, rate, burst in steps:
        task = asyncio.create_task(take())
        await asyncio.sleep(seconds)
        if idle_seconds:
            task.cancel()
            await asyncio.wait((task,))
            await asyncio.sleep(idle_seconds)
        limiter.change(rate, burst)
        limits.append((now(), limiter.rate_per_second, limiter.burst))
        await asyncio.sleep(0)
        task.cancel()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(take())
        await asyncio.sleep(1.2)
        task.cancel()
    return taken, limits


@settings(max_examples=40, deadline=None)
@given(rates, bursts, changes, pauses)
def test_no_sliding_second_holds_more_than_the_highest_rate_and_burst_in_it(rate, burst, steps, idle_seconds):
    taken, limits = run_jumping(spend(LocalLimiter(rate, burst), steps, idle_seconds))

    ends = [at for at, *_ in limits[1:]] + [math.inf]
    for first, begin in enumerate(taken):
        held = bisect_left(taken, begin + 1.0) - first
        there = [
            limit for limit, end in zip(limits, ends, strict=True) if limit[0] < begin + 1 and end > begin
        ]
        most = max(rate for _, rate, _ in there) + max(max(burst, LEAST_CAPACITY) for *_, burst in there)
        assert held <= most, (begin, there)


@settings(max_examples=20, deadline=None)
@given(rates, rates, bursts)
def test_a_changed_rate_is_as_good_as_one_from_the_start(rate, other, burst):
    changed = LocalLimiter(rate, burst)
    taken, _ = run_jumping(spend(changed, [(1.0, other, burst)], 0.0))
    fresh, _ = run_jumping(spend(LocalLimiter(other, burst), [], 0.0))

    assert sum(at >= 1.0 for at in taken) >= len(fresh) - changed.burst - 1


ceilings = st.sampled_from([1.0, 50.0, 400.0, 5000.0, math.inf])
happenings = st.lists(
    st.one_of(
        st.tuples(st.just("ceiling"), ceilings),
        st.tuples(st.just("throttled"), st.sampled_from([None, 0.5])),
        st.tuples(st.just("pause"), st.just(0.2)),
        st.tuples(st.just("work"), st.integers(1, 60)),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=30,
)


@given(ceilings, happenings)
def test_the_pace_never_exceeds_a_ceiling_that_changes_and_is_never_left_out_below_it(ceiling, happenings):
    now, pace = 100.0, Pace(ceiling)
    for what, how in happenings:
        now += 0.05
        if what == "ceiling":
            ceiling = how
            pace.set_ceiling(ceiling, now)
        elif what == "throttled":
            pace.throttled(now - 0.02, now, how)
        elif what == "pause":
            pace.pause(now + how)
        elif what == "restart":
            pace.restart(now)
        else:
            now = work(pace, now, how)
        assert pace.target <= max(ceiling, LEAST_PER_SECOND)
        if pace.target < ceiling:
            assert pace.engaged, "nobody else holds it there"


def work(pace, now, requests):
    for _ in range(requests):
        if pace.engaged:
            now += pace.closed_seconds(now)
            pace.take(now)
        pace.delivered(now, now + 0.02)
        now += 0.001
    return now


@given(
    st.integers(1, 500),
    st.lists(st.tuples(st.integers(1, 500), st.booleans(), st.integers(0, 9)), max_size=30),
)
def test_the_places_stay_within_a_bound_that_changes_and_reach_it_again(most, steps):
    places, now = Places(most), 0.0
    for other, is_late, looks in steps:
        now += 0.1
        if is_late:
            places.timed_out(now - 0.05, now)
        else:
            most = other
            places.set_most(most)
        for _ in range(looks):
            places.look(0.0, places.limit, 1e5, 0.1)
        assert 1 <= places.limit <= most
    for _ in range(200):
        places.heard = True
        places.answered()
        places.look(0.0, places.limit, 1e5, 0.1)
    assert places.limit == most
