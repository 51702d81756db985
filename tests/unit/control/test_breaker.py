import math

from permutive_worker.control.breaker import OPENS_AFTER, Breaker


def opened(now=0.0):
    breaker = Breaker()
    for _ in range(OPENS_AFTER):
        breaker.started()
        breaker.failed(now, now)
    return breaker


def test_opens_after_twenty_failures_in_a_row():
    breaker = Breaker()
    for _ in range(OPENS_AFTER - 1):
        breaker.failed(0.0, 0.0)
    assert breaker.state == "closed"
    breaker.failed(0.0, 0.0)
    assert breaker.state == "open"
    assert breaker.closed_seconds(0.0) == 1.0


def test_one_good_answer_in_five_keeps_it_closed():
    breaker = Breaker()
    for number in range(1000):
        if number % 5:
            breaker.failed(float(number), float(number))
        else:
            breaker.succeeded(float(number))
        assert breaker.state == "closed"


def test_lets_a_single_probe_through_and_closes_when_it_succeeds():
    breaker = opened()
    assert breaker.closed_seconds(1.0) == 0.0
    breaker.started()
    assert breaker.state == "half_open"
    assert breaker.closed_seconds(1.0) == math.inf
    assert breaker.succeeded(1.0)
    assert breaker.closed_seconds(1.0) == 0.0


def test_waits_longer_after_each_probe_that_fails():
    breaker, now, waits = opened(), 0.0, []
    for _ in range(6):
        wait = breaker.closed_seconds(now)
        waits.append(wait)
        now += wait
        breaker.started()
        breaker.failed(now, now)
    assert waits == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0]


def test_stragglers_do_not_prolong_the_wait():
    breaker = opened(now=0.0)
    breaker.failed(0.0, 0.9)
    assert breaker.closed_seconds(0.9) <= 0.1 + 1e-9


def test_a_probe_that_was_cut_short_lets_another_one_through():
    breaker = opened()
    breaker.started()
    breaker.gave_up()
    assert breaker.closed_seconds(5.0) == 0.0


def test_a_straggler_that_was_answered_well_does_not_close_it():
    breaker = opened(now=5.0)
    assert not breaker.succeeded(4.9)
    assert breaker.state == "open"


def test_a_straggler_that_failed_does_not_end_the_probe():
    breaker = opened(now=5.0)
    breaker.started()
    breaker.failed(4.9, 6.0)
    assert breaker.state == "half_open"


def test_attempts_that_hung_before_it_closed_do_not_open_it_again():
    breaker = opened(now=5.0)
    breaker.started()
    assert breaker.succeeded(6.0)
    for _ in range(100):
        breaker.failed(4.9, 14.9)
    assert breaker.state == "closed"


def test_many_timeouts_in_one_sweep_say_nothing_of_an_api_that_answered_what_was_sent_later():
    breaker = Breaker()
    breaker.succeeded(19.9)
    for _ in range(100):
        breaker.failed(10.0, 20.0)
    assert breaker.state == "closed"
