import math

from permutive_worker.control.halt import PROBE_SECONDS, Halt


def halted(at=10.0):
    halt = Halt()
    halt.refused(at, at - 1, 401, probe=False)
    return halt


def test_the_first_refusal_asks_again_at_once_with_one_probe():
    halt = halted()
    assert halt.closed_seconds(10.0) == 0.0
    halt.started()
    assert halt.closed_seconds(10.0) == math.inf


def test_one_probe_in_five_seconds_after_that():
    halt = halted()
    halt.started()
    halt.refused(11.0, 10.5, 403, probe=True)
    assert (halt.refusals, halt.status) == (2, 403)
    assert halt.closed_seconds(11.0) == PROBE_SECONDS


def test_refusals_of_what_was_sent_before_the_halt_are_not_counted():
    halt = halted()
    halt.refused(10.1, 9.1, 401, probe=False)
    assert (halt.since, halt.refusals) == (10.0, 1)


def test_a_refusal_from_before_the_last_opening_does_not_halt_again():
    halt = halted()
    halt.started()
    halt.accepted(12.0)
    halt.refused(13.0, 11.9, 401, probe=False)
    assert not halt.halted
    halt.refused(13.0, 12.0, 401, probe=False)
    assert halt.halted


def test_a_probe_that_is_accepted_opens_it():
    halt = halted()
    halt.started()
    halt.accepted(10.0)
    assert not halt.halted
    assert halt.closed_seconds(10.0) == 0.0


def test_a_probe_that_says_nothing_is_followed_by_another_in_five_seconds_or_when_it_was_told():
    halt = halted()
    halt.started()
    halt.gave_up(20.0)
    assert halt.closed_seconds(20.0) == PROBE_SECONDS
    halt.started()
    halt.gave_up(25.0, wait_seconds=60.0)
    assert halt.closed_seconds(25.0) == 60.0
    assert halt.refusals == 1


def test_a_new_key_is_tried_at_once_but_not_beside_a_probe():
    halt = halted()
    halt.started()
    halt.ask_now(10.0)
    assert halt.closed_seconds(10.0) == math.inf
    halt.gave_up(11.0)
    halt.ask_now(12.0)
    assert halt.closed_seconds(12.0) == 0.0
