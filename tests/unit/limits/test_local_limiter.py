"""The rate is true: counted on a clock that jumps, so seconds cost nothing and nothing is noisy."""

import asyncio

import pytest
from support.arrivals import most_in_a_second
from support.jump_loop import run_jumping

from permutive_worker.limits.local import LocalLimiter


async def spend(limiter, seconds, idle=()):
    """Take every permit as soon as there is one; return the times. `idle`: (from, to) without taking."""
    loop = asyncio.get_running_loop()
    times = []
    while loop.time() < seconds:
        for begin, end in idle:
            if begin <= loop.time() < end:
                await asyncio.sleep(end - loop.time())
        if limiter.try_take(loop.time()):
            times.append(loop.time())
        else:
            await limiter.lease()
    return [time for time in times if time < seconds]


@pytest.mark.parametrize(
    ("rate", "burst"),
    [
        (1, None),
        (7, 1),
        (20, 1),
        (50, None),
        (50, 50),
        (200, None),
        (200, 1),
        (1000, None),
        (1000, 200),
        (5000, 1),
        (20000, None),
    ],
)
def test_no_sliding_second_holds_more_than_rate_plus_burst(rate, burst):
    limiter = LocalLimiter(rate, burst)
    times = run_jumping(spend(limiter, 20 if rate < 100 else 4))
    assert most_in_a_second(times) <= rate + limiter.burst


@pytest.mark.parametrize(("rate", "burst"), [(20, 1), (50, None), (200, None), (1000, None), (20000, None)])
def test_the_rate_is_reached(rate, burst):
    seconds = 20
    times = run_jumping(spend(LocalLimiter(rate, burst), seconds))
    assert len(times) >= 0.98 * rate * seconds


def test_the_first_second_holds_no_more_than_any_other():
    times = run_jumping(spend(LocalLimiter(100, 50), 1))
    assert len(times) <= 101


def test_after_an_idle_time_the_burst_is_there_and_no_more():
    limiter = LocalLimiter(100, 50)
    times = run_jumping(spend(limiter, 10, idle=[(2, 5)]))
    assert sum(5 <= time < 5.01 for time in times) >= 40
    assert most_in_a_second(times) <= 150


def test_permits_in_hand_are_dropped_at_a_pause():
    async def lease_and_drop():
        limiter = LocalLimiter(1000)
        await limiter.lease()
        limiter.drop()
        return limiter.try_take(0.0)

    assert run_jumping(lease_and_drop()) is False


async def test_a_cancelled_lease_costs_nothing():
    limiter = LocalLimiter(1)
    await limiter.lease()
    assert limiter.try_take(0.0)
    waiting = asyncio.create_task(limiter.lease())
    await asyncio.sleep(0)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not limiter.try_take(0.0)
