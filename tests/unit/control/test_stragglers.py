import math

from permutive_worker.control.stragglers import Stragglers


def heard(taken, refused, *, sent_at=1.01):
    stragglers = Stragglers()
    stragglers.follow(1.0, 500.0)
    for _ in range(taken):
        stragglers.taken(sent_at)
    for _ in range(refused):
        stragglers.refused(sent_at)
    return stragglers


def test_the_share_that_was_taken_tells_the_limit():
    assert heard(4, 6).limit() == 250.0


def test_a_few_say_nothing():
    assert heard(2, 2).limit() == math.inf


def test_one_throttle_amid_many_is_no_fall():
    assert heard(20, 1).limit() == math.inf


def test_a_window_that_is_used_up_is_no_limit():
    assert heard(0, 20).limit() == math.inf


def test_what_was_sent_before_the_first_throttle_says_nothing():
    assert heard(10, 10, sent_at=0.9).limit() == math.inf


def test_says_it_once():
    stragglers = heard(4, 6)
    stragglers.limit()
    assert stragglers.limit() == math.inf
