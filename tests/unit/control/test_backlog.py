import math
from types import SimpleNamespace

from permutive_worker.control.backlog import Backlog


def line(name, user=None, charge_bytes=100, kind="k", read_at=0.0):
    return SimpleNamespace(name=name, user=user, charge_bytes=charge_bytes, kind=kind, read_at=read_at)


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


def test_a_held_kind_is_parked_once_and_comes_back_in_order():
    backlog = Backlog()
    held, other, late = line("held", kind="a"), line("other", kind="b"), line("late", kind="a")
    for entry in (held, other):
        backlog.add(entry)

    backlog.park("a")
    backlog.add(late)

    assert list(backlog.ready) == [other]
    assert (backlog.parked, len(backlog)) == (2, 3)
    backlog.unpark("a")
    assert list(backlog.ready) == [other, held, late]


def test_a_follower_of_a_held_kind_is_parked_and_one_of_another_kind_is_ready():
    backlog = Backlog()
    first = line("first", "u")
    held, follower = line("held", "u", kind="a"), line("follower", "u", kind="b")
    for entry in (first, held, follower):
        backlog.add(entry)
    backlog.park("a")

    backlog.landed(backlog.take())
    assert backlog.seconds_until_ready(0.0) == math.inf
    assert backlog.take_parked("a") is held
    backlog.landed(held)
    assert backlog.take() is follower


def test_the_old_expire_wherever_they_wait_and_free_their_users():
    backlog = Backlog()
    old = [line(n, user, read_at=1.0, kind=kind) for n, (user, kind) in enumerate([("u", "a"), ("v", "b")])]
    young = line("young", "u", read_at=5.0, kind="b")
    old_follower = line("old follower", "v", read_at=1.0)
    for entry in (*old, young, old_follower):
        backlog.add(entry)
    backlog.park("a")
    backlog.seconds_until_ready(0.0)
    backlog.put_back(backlog.take(), due=100.0)

    assert set(map(id, backlog.expire(2.0))) == {id(entry) for entry in (*old, old_follower)}
    assert backlog.take() is young
    assert len(backlog) == 0
    assert backlog.blocked_bytes("v") == 0


def test_the_longest_line_is_told_by_its_first_job():
    backlog = Backlog()
    assert backlog.longest_line() is None
    jobs = [line(f"{user}{n}", user, size) for user, size in (("u", 10), ("v", 50)) for n in range(3)]
    for entry in jobs:
        backlog.add(entry)
    assert backlog.longest_line() == (jobs[4], 2, 100)
