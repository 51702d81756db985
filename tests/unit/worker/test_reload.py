"""What a running worker takes of other settings; time jumps, so seconds cost nothing."""

import asyncio
from bisect import bisect_left

import pytest
from support.jump_loop import run_jumping
from support.worker import assert_conserved, identify, memory_worker

from permutive_worker.config import KEYS, Delivery, Guard, Http, Log, RateLimit, Settings
from permutive_worker.errors import ConfigurationError
from permutive_worker.http.gate import Gate
from permutive_worker.model import Response
from permutive_worker.worker.reload import take_over

JOBS = 100_000


def test_what_can_change_is_taken_and_what_cannot_is_named():
    old = Settings()
    wanted = Settings(
        rate_limit=RateLimit(rate_per_second=50, max_retry_after_seconds=7),
        delivery=Delivery(max_in_flight=7),
        http=Http(timeout_seconds=3),
        log=Log(level="debug"),
    )

    taken = take_over(old, wanted)

    assert taken.changed == ["rate_limit.rate_per_second", "delivery.max_in_flight", "log.level"]
    assert taken.needs_restart == ["rate_limit.max_retry_after_seconds", "http.timeout_seconds"]
    assert taken.settings == Settings(
        rate_limit=RateLimit(rate_per_second=50), delivery=Delivery(max_in_flight=7), log=Log(level="debug")
    )


def test_what_does_not_go_with_what_stays_is_refused():
    shared = Settings(rate_limit=RateLimit(rate_per_second=50, shared="redis://localhost"))

    with pytest.raises(ConfigurationError, match="needs a rate"):
        take_over(shared, Settings())


def test_five_things_reload_and_the_keys_say_so():
    reloads = [name for name, key in KEYS.items() if key.reloads]

    assert reloads == [
        "rate_limit.rate_per_second",
        "rate_limit.burst",
        "delivery.max_in_flight",
        "log.level",
    ]


class Api:
    """Answers after a tenth of a second; knows when it was asked and how many at once."""

    def __init__(self):
        self.asked_at = []
        self.in_flight = 0
        self.history = []  # when, and how many at once

    async def send(self, request):
        now = asyncio.get_running_loop().time
        self.asked_at.append(now())
        self.in_flight += 1
        self.history.append((now(), self.in_flight))
        await asyncio.sleep(0.1)
        self.in_flight -= 1
        return Response(200, {}, b"{}")

    def between(self, begin, end):
        return bisect_left(self.asked_at, end) - bisect_left(self.asked_at, begin)

    def most_at_once(self, begin, end):
        return max(number for at, number in self.history if begin <= at < end)


def settings(rate=0.0, max_in_flight=256, **more):
    return Settings(
        rate_limit=RateLimit(rate_per_second=rate),
        delivery=Delivery(max_in_flight=max_in_flight),
        guard=Guard(max_failure_ratio=1),
        **more,
    )


def delivering(steps, **given):
    """Run a worker through `steps`, each for five seconds: what the API saw."""

    async def main():
        api = Api()
        worker, _ = memory_worker(map(identify, range(JOBS)), api, settings=steps[0], **given)
        running = asyncio.create_task(worker.run())
        for step in steps[1:]:
            await asyncio.sleep(5)
            worker.reload(step)
            assert_conserved(worker)
        await asyncio.sleep(5)
        worker.stop()
        await running
        assert_conserved(worker)
        return api

    return run_jumping(main())


def test_a_changed_rate_holds_from_the_next_second_on():
    api = delivering([settings(200), settings(50), settings(400)])

    assert api.between(3, 4) == pytest.approx(200, abs=5)
    assert api.between(5, 6) <= 53
    assert api.between(8, 9) == pytest.approx(50, abs=3)
    assert api.between(10, 11) <= 420
    assert api.between(13, 14) == pytest.approx(400, abs=10)


def test_a_rate_can_be_set_and_taken_away_while_it_runs():
    api = delivering([settings(0), settings(50), settings(0)])

    assert api.between(4, 5) > 500
    assert api.between(5.001, 6) <= 53
    assert api.between(8, 9) == pytest.approx(50, abs=3)
    assert api.between(14, 15) > 500


def test_whoever_waits_for_a_permit_of_a_slow_rate_does_not_wait_for_it_any_more():
    api = delivering([settings(0.01), settings(0)])

    assert api.between(1, 5) == 0
    assert api.between(5, 6) > 100


def test_places_follow_their_bound_both_ways():
    api = delivering([settings(0, 20), settings(0, 3), settings(0, 60)])

    assert api.most_at_once(2, 5) == 20
    assert api.most_at_once(6, 10) == 3
    assert api.most_at_once(13, 15) == 60


def test_a_gate_that_was_given_keeps_its_own_limits():
    api = delivering([settings(0, 20), settings(50, 3)], gates={"default": Gate(10)})

    assert api.most_at_once(7, 10) == 10
    assert api.between(7, 8) > 60


async def test_before_the_run_it_is_only_noted():
    worker, outcomes = memory_worker(map(identify, range(3)), Api(), settings=settings(100))
    worker.reload(settings(1e6, 2))

    await worker.run()

    assert worker.settings == settings(1e6, 2)
    assert len(outcomes) == 3
