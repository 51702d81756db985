"""The wall clock is stepped by an hour, forth and back: nothing waits for it, and nothing hurries."""

import asyncio
from datetime import timedelta
from email.utils import format_datetime

import pytest
from support.jump_loop import run_jumping
from support.worker import LoopClock, identify, memory_worker

from permutive_worker.config import Delivery, Guard, RateLimit, Settings
from permutive_worker.destinations.memory import MemoryWire
from permutive_worker.model import Response

HOUR = timedelta(hours=1)
STEPS = [HOUR, -HOUR]


class SteppedClock(LoopClock):
    """Wall time runs with the loop's and is stepped."""

    def __init__(self):
        super().__init__()
        self.off = timedelta()

    def utc_now(self):
        return super().utc_now() + self.off


async def step_again_and_again(clock, step):
    while True:
        await asyncio.sleep(0.7)
        clock.off = step - clock.off


async def run_stepped(jobs, answer, step, **sections):
    """The summary of a run whose wall clock is stepped all the time, its clock, and when each request left."""
    clock = SteppedClock()
    sent_at = []

    def answered(request):
        sent_at.append(clock.monotonic())
        return answer(request, clock)

    settings = Settings(**{"guard": Guard(max_failure_ratio=1), **sections})
    worker, _ = memory_worker(jobs, MemoryWire(answered), settings=settings, clock=clock)
    stepping = asyncio.create_task(step_again_and_again(clock, step))
    summary = await worker.run()
    stepping.cancel()
    return summary, clock, sent_at


def ok(_request, _clock):
    return Response(200, {}, b"{}")


@pytest.mark.parametrize("step", STEPS)
def test_the_rate_holds_and_the_run_lasts_as_long_as_it_must(step):
    rate = RateLimit(rate_per_second=20, burst=1)

    summary, _, sent_at = run_jumping(run_stepped(map(identify, range(200)), ok, step, rate_limit=rate))

    assert (summary.delivered, summary.exit_code) == (200, 0)
    assert 9 < summary.elapsed_seconds < 11
    assert all(late - early >= 1 for early, late in zip(sent_at, sent_at[21:], strict=False))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("server_off", [-HOUR, timedelta(), HOUR])
def test_a_date_to_wait_for_is_read_by_the_clock_of_who_names_it(step, server_off):
    def throttled_once(_request, clock):
        if clock.monotonic() > 1:
            return Response(200, {}, b"{}")
        now = LoopClock.utc_now(clock) + server_off
        date, until = (format_datetime(moment, usegmt=True) for moment in (now, now + timedelta(seconds=7)))
        return Response(429, {"Date": date, "Retry-After": until}, b"{}")

    summary, _, sent_at = run_jumping(run_stepped(map(identify, range(5)), throttled_once, step))

    assert (summary.delivered, summary.exit_code) == (5, 0)
    assert all(at <= 1 or at >= 7 for at in sent_at)
    assert summary.elapsed_seconds < 30


@pytest.mark.parametrize("step", STEPS)
def test_jobs_expire_by_their_age_alone(step):
    def failing(_request, _clock):
        return Response(500, {}, b"{}")

    # A job alone, and short: twenty failures in a row would open the breaker, whose probes are rare.
    delivery = Delivery(max_age_seconds=5, max_attempts=1000, backoff_max_seconds=2)

    summary, _, sent_at = run_jumping(run_stepped([identify(1)], failing, step, delivery=delivery))

    assert summary.dead_lettered == 1
    assert 2 < max(sent_at) <= 5
    assert 3 <= summary.elapsed_seconds < 8


@pytest.mark.parametrize("step", STEPS)
def test_a_drain_ends_in_its_time(step):
    async def stop_while_a_request_hangs():
        class Hanging:
            async def send(self, _request):
                await asyncio.Event().wait()

        clock = SteppedClock()
        worker, _ = memory_worker([identify(1)], Hanging(), clock=clock)
        stepping = asyncio.create_task(step_again_and_again(clock, step))
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(3)
        worker.stop()
        summary = await running
        stepping.cancel()
        return summary

    summary = run_jumping(stop_while_a_request_hangs())

    assert (summary.returned, summary.ambiguous, summary.exit_code) == (1, 1, 75)
    assert 23 <= summary.elapsed_seconds < 25
