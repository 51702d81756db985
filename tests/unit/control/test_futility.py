import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.control.futility import BELIEVED_SECONDS, MOST_SHARE, Futility


def falling(futility, share_at, *, seed=1, begin=512.0, end=4.0, answers=30):
    """The pace is halved again and again; return where the futility of it was seen, None if nowhere."""
    dice, pace = random.Random(seed), begin
    while pace >= end:
        for _ in range(answers):
            if dice.random() >= share_at(pace):
                futility.others(1, pace)
            elif futility.throttled(pace, 0.0):
                return pace
        pace /= 2
    return None


def test_throttles_that_come_at_any_pace_are_seen_soon():
    for share in (0.1, 0.2, 0.33, 0.5):
        futility = Futility()
        pace = falling(futility, lambda _, share=share: share)
        assert pace is not None
        assert pace >= 16
        assert share / 2 <= futility.share <= min(2 * share, MOST_SHARE)
        assert futility.pace == 512


def test_those_of_a_limit_are_not():
    for limit in (2.0, 5.0, 50.0, 120.0, 400.0, 500.0):
        for seed in range(20):
            futility = Futility()
            assert falling(futility, lambda pace, limit=limit: max(0.0, 1 - limit / pace), seed=seed) is None


def test_those_of_a_window_that_is_used_up_are_not():
    futility = Futility()
    for window in range(20):
        pace = 512.0 / 2 ** (window % 8)
        futility.others(20, pace)
        assert not any(futility.throttled(pace, 0.0) for _ in range(30))


def test_what_was_found_ends_with_its_throttles():
    futility = Futility()
    falling(futility, lambda _: 0.3)
    futility.others(1000, 512.0)
    assert futility.share < 0.001


@pytest.mark.parametrize(("share", "futile"), [(0.3, True), (0.0, False)])
def test_what_was_found_is_tried_again_at_a_lower_pace(share, futile):
    futility = Futility()
    falling(futility, lambda _: 0.3)
    assert not futility.is_due(BELIEVED_SECONDS)
    assert futility.is_due(BELIEVED_SECONDS + 0.1)
    futility.begin_trial()
    falling(futility, lambda _: share, begin=128.0, end=128.0, answers=50)
    assert futility.end_trial(30.0) is None
    falling(futility, lambda _: share, begin=128.0, end=128.0, answers=30)
    assert futility.end_trial(30.0) is futile
    assert bool(futility.share) is futile


@given(st.lists(st.tuples(st.integers(0, 100), st.floats(0.2, 1e6), st.booleans())))
def test_whatever_comes_it_stays_a_share(steps):
    futility = Futility()
    for others, pace, throttle in steps:
        futility.others(others, pace)
        found = throttle and futility.throttled(pace, 0.0)
        assert 0.0 <= futility.share <= MOST_SHARE
        assert not found or futility.pace > 4 * pace
