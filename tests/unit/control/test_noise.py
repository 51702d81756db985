import random

from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.control.noise import MOST_SHARE, Noise


def answers(noise, share, pace, seconds, *, begin=0.0, seed=1):
    """A throttle with this probability at any pace; return how many spoke of the rate."""
    dice, spoke, others, now = random.Random(seed), 0, 0, begin
    while now < begin + seconds:
        now += 1 / pace
        if dice.random() >= share:
            others += 1
            continue
        noise.others(others, pace, now)
        others = 0
        if noise.speaks_of_the_rate(pace, now, 0.0, dear=False):
            spoke += 1
            noise.cut(now)
    return spoke


def test_the_first_throttles_speak_of_the_rate():
    noise = Noise()
    noise.others(1000, 400.0, 1.0)
    assert noise.speaks_of_the_rate(400.0, 1.0, 0.0, dear=False)
    assert noise.share == 0.0


def test_throttles_below_what_is_proven_are_learned_as_noise():
    noise = Noise()
    answers(noise, 0.01, 400.0, 2.0)
    answers(noise, 0.01, 200.0, 20.0, begin=2.0)
    assert 0.005 <= noise.share <= 0.03


def test_noise_that_is_known_seldom_speaks_of_the_rate():
    noise = Noise()
    answers(noise, 0.01, 400.0, 2.0)
    answers(noise, 0.01, 200.0, 20.0, begin=2.0)
    assert answers(noise, 0.01, 400.0, 100.0, begin=22.0) <= 10


def test_more_throttles_than_the_noise_speak_of_the_rate_at_once():
    noise = Noise()
    answers(noise, 0.01, 400.0, 2.0)
    answers(noise, 0.01, 200.0, 20.0, begin=2.0)
    assert answers(noise, 0.3, 400.0, 0.5, begin=22.0) >= 1


def test_a_limit_that_fell_is_no_noise():
    noise = Noise()
    answers(noise, 0.01, 400.0, 2.0)
    answers(noise, 0.4, 200.0, 20.0, begin=2.0)
    assert noise.share == 0.0


@given(st.lists(st.tuples(st.integers(0, 100), st.floats(0.2, 1e5), st.floats(0, 5), st.booleans())))
def test_the_share_stays_small_whatever_happens(steps):
    noise, now = Noise(), 0.0
    for others, pace, passed, cut in steps:
        now += passed
        noise.others(others, pace, now)
        if noise.speaks_of_the_rate(pace, now, 0.02, dear=False) and cut:
            assert 0.0 <= noise.cut(now) <= 1.0
        assert 0.0 <= noise.share <= MOST_SHARE
