import math

from permutive_worker.control.breaker import OPENS_AFTER, Breaker


def opened(now=0.0):
    breaker = Breaker()
    for _ in range(OPENS_AFTER):
        breaker.started()
        breaker.failed(now)
    return breaker


def test_opens_after_twenty_failures_in_a_row():
    breaker = Breaker()
    for _ in range(OPENS_AFTER - 1):
        breaker.failed(0.0)
    assert breaker.state == "closed"
    breaker.failed(0.0)
    assert breaker.state == "open"
    assert breaker.closed_seconds(0.0) == 1.0


def test_one_good_answer_in_five_keeps_it_closed():
    breaker = Breaker()
    for number in range(1000):
        if number % 5:
            breaker.failed(float(number))
        else:
            breaker.succeeded()
        assert breaker.state == "closed"


def test_lets_a_single_probe_through_and_closes_when_it_succeeds():
    breaker = opened()
    assert breaker.closed_seconds(1.0) == 0.0
    breaker.started()
    assert breaker.state == "half_open"
    assert breaker.closed_seconds(1.0) == math.inf
    breaker.succeeded()
    assert breaker.closed_seconds(1.0) == 0.0


def test_waits_longer_after_each_probe_that_fails():
    breaker, now, waits = opened(), 0.0, []
    for _ in range(6):
        wait = breaker.closed_seconds(now)
        waits.append(wait)
        now += wait
        breaker.started()
        breaker.failed(now)
    assert waits == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0]


def test_stragglers_do_not_prolong_the_wait():
    breaker = opened(now=0.0)
    breaker.failed(0.9)
    assert breaker.closed_seconds(0.9) <= 0.1 + 1e-9


def test_a_probe_that_was_cut_short_lets_another_one_through():
    breaker = opened()
    breaker.started()
    breaker.gave_up()
    assert breaker.closed_seconds(5.0) == 0.0
