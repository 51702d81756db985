"""The gate against simulated APIs: minutes of traffic in a second, and nothing is noisy."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.simulation import Bucket, Ceiling, Script, Unlimited, simulate, throttled, used

from permutive_worker.control.pace import LEAST_PER_SECOND, Pace
from permutive_worker.http.gate import Gate

SEEDS = pytest.mark.parametrize("seed", [1, 2])


def limited(rate):
    return Gate(256, Ceiling(rate), Pace(rate))


def sent(log, begin, end):
    return sum(begin <= one.at < end for one in log)


class TestAHiddenLimit:
    @SEEDS
    @pytest.mark.parametrize(("rate", "burst"), [(50, 5), (50, 40), (400, 40), (500, 50)])
    def test_is_found_and_used(self, rate, burst, seed):
        log = simulate(Gate(256), Bucket(rate, burst), 60, seed=seed)
        assert used(log, rate, 10, 60) >= 0.98
        assert throttled(log, 10, 60) <= (0.0025 if rate > 50 else 0.007)

    def test_that_is_high_is_found(self):
        log = simulate(Gate(256), Bucket(4000, 400), 30)
        assert used(log, 4000, 10, 30) >= 0.95
        assert throttled(log, 10, 30) <= 0.01

    @SEEDS
    def test_is_shared_with_another_client(self, seed):
        log = simulate(Gate(256), Bucket(400, 40, stolen=1 / 3), 60, seed=seed)
        assert used(log, 400 * 2 / 3, 10, 60) >= 0.97
        assert throttled(log, 10, 60) <= 0.005

    def test_far_away_is_used_too(self):
        log = simulate(Gate(256), Bucket(400, 40, latency=0.2), 60)
        assert used(log, 400, 15, 60) >= 0.93
        assert throttled(log, 15, 60) <= 0.02

    @SEEDS
    def test_with_a_large_burst_is_found_and_used(self, seed):
        log = simulate(Gate(256), Bucket(400, 400), 60, seed=seed)
        assert used(log, 400, 15, 60) >= 0.95
        assert throttled(log, 15, 60) <= 0.01

    @SEEDS
    @pytest.mark.parametrize("stolen", [0.0, 1 / 3])
    def test_that_moves_is_followed_within_fifteen_seconds(self, stolen, seed):
        log = simulate(Gate(256), Bucket(500, 50, stolen=stolen, steps=[(25, 200), (50, 500)]), 75, seed=seed)
        for rate, begin in ((500, 15), (200, 40), (500, 65)):
            assert used(log, rate * (1 - stolen), begin, begin + 10) >= 0.9

    @SEEDS
    @pytest.mark.parametrize(("rate", "burst"), [(400, 40), (4000, 400)])
    def test_that_pauses_for_a_second_at_each_touch_is_used_all_the_same(self, rate, burst, seed):
        log = simulate(Gate(256), Bucket(rate, burst), 90 if rate < 4000 else 40, hint=1.0, seed=seed)
        assert used(log, rate, 15, 90 if rate < 4000 else 40) >= 0.94
        assert throttled(log, 15, 90) <= 0.002

    @SEEDS
    def test_that_falls_and_rises_again_is_followed_through_pauses(self, seed):
        log = simulate(Gate(256), Bucket(500, 50, steps=[(25, 200), (60, 500)]), 110, hint=1.0, seed=seed)
        assert used(log, 200, 30, 60) >= 0.8
        assert used(log, 500, 95, 110) >= 0.85  # a probe costs 1.5 s, so it is not made every second


class TestThrottlesThatSayNothingOfTheRate:
    @SEEDS
    @pytest.mark.parametrize("noise", [0.001, 0.01, 0.03])
    def test_do_not_slow_the_pace_down(self, noise, seed):
        log = simulate(Gate(256), Bucket(400, 40, noise=noise), 60, seed=seed)
        assert used(log, 400 * (1 - noise), 20, 60) >= 0.8
        assert throttled(log, 20, 60) <= 0.005 + 4 * noise

    @SEEDS
    def test_nor_under_a_ceiling(self, seed):
        log = simulate(limited(500), Bucket(1e9, 1e9, noise=0.01), 40, seed=seed)
        assert used(log, 500 * 0.99, 10, 40) >= 0.95

    @SEEDS
    @pytest.mark.parametrize("noise", [0.1, 0.2, 0.3])
    def test_nor_for_long_if_they_are_many(self, noise, seed):
        log = simulate(Gate(32), Bucket(1e9, 1e9, noise=noise), 60, seed=seed)
        assert sum(one.status == 200 for one in log if one.at > 30) >= 30 * 400

    @SEEDS
    def test_and_when_they_end_the_limit_is_found_again(self, seed):
        api = Bucket(400, 40)

        def noisy_at_first(now, dice):
            api.noise = 0.25 if now < 20 else 0.0
            return api.answer(now, dice)

        log = simulate(Gate(256), Script(noisy_at_first), 120, seed=seed)
        assert used(log, 400, 60, 120) >= 0.9
        assert throttled(log, 60, 120) <= 0.01

    @SEEDS
    def test_nor_if_they_are_many_under_a_ceiling(self, seed):
        log = simulate(limited(200), Bucket(1e9, 1e9, noise=0.2), 60, seed=seed)
        assert used(log, 200 * 0.8, 30, 60) >= 0.7

    @SEEDS
    def test_nor_hide_an_api_without_a_limit(self, seed):
        log = simulate(Gate(256), Unlimited(5000, noise=0.01), 16, seed=seed)
        assert used(log, 5000 * 0.99, 12, 16) >= 0.8


class TestPauses:
    def test_nothing_leaves_for_seven_seconds_and_then_a_ramp(self):
        objected = []

        def once(now, dice):
            if now >= 5 and not objected:
                objected.append(now)
                return 0.02, 429
            return 0.02, 200

        log = simulate(limited(400), Script(once), 20, hint=7.0)
        resumed = objected[0] + 0.02 + 7.0
        assert sent(log, objected[0] + 0.021, resumed) == 0
        assert 0.3 * 400 <= sent(log, resumed, resumed + 1) <= 0.55 * 400
        assert sent(log, resumed + 1, resumed + 2) <= 1.02 * 400
        assert used(log, 400, resumed + 3, 20) >= 0.95

    def test_an_api_that_refuses_everything_without_a_hint_gets_few_requests(self):
        log = simulate(
            Gate(256), Script(lambda now, dice: (0.02, 429 if 10 <= now < 40 else 200)), 60, seed=1
        )
        assert sent(log, 11, 40) <= 150
        assert used(log, 400, 45, 60) >= 0.9

    def test_a_limit_that_is_touched_does_not_pause_the_lane(self):
        log = simulate(Gate(256), Bucket(400, 40), 60)
        moments = [one.at for one in log if one.at > 5]
        assert max(b - a for a, b in pairwise(moments)) < 0.5


class TestNoLimit:
    def test_is_at_full_speed_within_four_seconds(self):
        log = simulate(Gate(256), Unlimited(20_000), 4.5)
        assert used(log, 20_000, 4.0, 4.5) >= 0.95

    def test_a_ceiling_is_the_start_and_never_passed(self):
        log = simulate(limited(200), Bucket(1e9, 1e9), 5)
        assert 195 <= len(log) / 5 <= 202


class TestPlaces:
    def test_latency_that_grows_tenfold_is_followed(self):
        def slower(now, dice):
            return (0.02 if now < 20 else 0.2) * dice.uniform(0.8, 1.2), 200

        log = simulate(limited(400), Script(slower), 40)
        assert used(log, 400, 21, 40) >= 0.95

    def test_an_api_that_hangs_gets_few_requests_and_is_used_soon_after(self):
        api = Bucket(400, 40)
        log = simulate(
            Gate(256),
            Script(lambda now, dice: (10.0, 0) if 15 <= now < 45 else api.answer(now, dice)),
            90,
        )
        assert sent(log, 15, 45) <= 64
        assert used(log, 400, 70, 90) >= 0.95  # probes are sent every 15 s and take 10 s to fail

    @SEEDS
    def test_one_attempt_in_a_hundred_that_hangs_costs_nothing(self, seed):
        def some(now, dice):
            return (10.0, 0) if dice.random() < 0.01 else (0.02, 200)

        log = simulate(limited(400), Script(some), 60, seed=seed)
        assert used(log, 400 * 0.99, 10, 50) >= 0.95


class TestOutage:
    def test_of_a_minute_gets_single_probes_and_then_a_ramp(self):
        api = Bucket(400, 40)

        def down(now, dice):
            return (0.002, 503) if 30 <= now < 90 else api.answer(now, dice)

        log = simulate(Gate(256), Script(down), 130)
        back = next(one.at for one in log if one.at >= 90 and one.status == 200)
        assert sent(log, 30, 90) <= 40  # 20 to be sure, and probes after 1, 2, 4, 8, 15, 15, 15 s
        assert back <= 105.5
        assert sent(log, back, back + 1) <= 0.3 * 400  # half of the belief, and half of that in a ramp
        assert used(log, 400, back + 6, 130) >= 0.95

    @SEEDS
    @pytest.mark.parametrize("status", [500, 0])
    def test_an_api_that_fails_a_fifth_of_the_time_never_opens_the_breaker(self, status, seed):
        def flaky(now, dice):
            return (0.02, status) if dice.random() < 0.2 else (0.02, 200)

        log = simulate(limited(2000), Script(flaky), 20, seed=seed)
        assert used(log, 2000 * 0.8, 1, 20) >= 0.95


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["take", "ok", "throttled", "hint", "storm", "restart"]),
            st.floats(0, 3),
            st.floats(0, 1),
        ),
        max_size=200,
    ),
    st.sampled_from([math.inf, 0.5, 10, 5000]),
)
def test_whatever_happens_the_pace_stays_a_rate(steps, ceiling):
    pace, now = Pace(ceiling), 0.0
    for what, passed, ago in steps:
        now += passed
        match what:
            case "take":
                pace.take(now)
            case "ok":
                pace.delivered(now - ago, now)
            case "throttled":
                pace.throttled(now - ago, now)
            case "hint":
                pace.throttled(now - ago, now, 2.0)
                pace.pause(now + 2.0)
            case "storm":
                pace.storm(now + 1.0)
            case "restart":
                pace.restart(now)
        assert pace.per_second >= LEAST_PER_SECOND * 0.99
        assert pace.per_second <= max(ceiling, LEAST_PER_SECOND)
        assert 0 <= pace.closed_seconds(now) < math.inf


def test_a_storm_that_throttles_everything_says_nothing_of_the_rate():
    pace = Pace(500.0)
    now = 10.0
    pace.delivered(now - 1, now)
    pace.throttled(now - 0.1, now, 2.0)
    believed = pace.target
    for _ in range(20):  # each pause is followed by one request, which is throttled too
        pace.pause(now + 2.0)
        now += 2.1
        pace.throttled(now - 0.02, now, 2.0)

    assert believed > 250
    assert pace.target >= believed
