import math
from types import SimpleNamespace

from permutive_worker.control.backlog import Backlog


def line(name, user=None, charge_bytes=100):
    return SimpleNamespace(name=name, user=user, charge_bytes=charge_bytes)


def test_followers_of_one_user_leave_one_after_another():
    backlog = Backlog()
    first, second, other = line("first", "u"), line("second", "u"), line("other", "v")
    for entry in (first, second, other):
        backlog.add(entry)

    assert backlog.seconds_until_ready(0.0) == 0.0
    assert [backlog.take(), backlog.take()] == [first, other]
    assert backlog.seconds_until_ready(0.0) == math.inf
    backlog.landed(first)
    assert backlog.take() is second


def test_a_follower_waits_for_a_job_that_backs_off():
    backlog = Backlog()
    first, second = line("first", "u"), line("second", "u")
    backlog.add(first)
    backlog.add(second)
    backlog.seconds_until_ready(0.0)
    backlog.take()

    backlog.put_back(first, due=30.0)

    assert backlog.seconds_until_ready(0.0) == 30.0
    assert backlog.seconds_until_ready(30.0) == 0.0
    assert backlog.take() is first


def test_a_throttled_job_is_first_in_line_again():
    backlog = Backlog()
    first, second = line("first"), line("second")
    backlog.add(first)
    backlog.add(second)
    taken = backlog.take()

    backlog.put_back(taken)

    assert backlog.take() is first


def test_landing_after_a_drain_finds_no_follower():
    backlog = Backlog()
    first, second = line("first", "u"), line("second", "u")
    backlog.add(first)
    backlog.add(second)
    backlog.take()

    assert backlog.drain() == [second]
    backlog.landed(first)
    assert len(backlog) == 0


def test_blocked_bytes_are_freed_as_followers_leave():
    backlog = Backlog()
    first, second = line("first", "u"), line("second", "u", 700)
    backlog.add(first)
    backlog.add(second)

    assert backlog.blocked_bytes("u") == 700
    backlog.take()
    backlog.landed(first)
    assert backlog.blocked_bytes("u") == 0


def test_a_refused_job_lets_another_one_be_the_probe():
    backlog = Backlog()
    first, second = line("first", "u"), line("second", "v")
    backlog.add(first)
    backlog.add(second)
    taken = backlog.take()

    backlog.put_last(taken)

    assert [backlog.take(), backlog.take()] == [second, first]
