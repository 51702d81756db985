import math

from permutive_worker.control.halt import PROBE_SECONDS, Halt


def test_the_first_refusal_asks_again_at_once_with_one_probe():
    halt = Halt()
    halt.refused(10.0, 9.0, "401")
    assert halt.closed_seconds(10.0) == 0.0
    halt.started()
    assert halt.closed_seconds(10.0) == math.inf


def test_one_probe_in_five_seconds_after_that():
    halt = Halt()
    halt.refused(10.0, 9.0, "401")
    halt.started()
    halt.refused(11.0, 10.5, "401")
    assert halt.refusals == 2
    assert halt.closed_seconds(11.0) == PROBE_SECONDS


def test_answers_to_attempts_from_before_the_halt_change_nothing():
    halt = Halt()
    halt.refused(10.0, 9.0, "401")
    halt.refused(10.1, 9.1, "401")
    halt.accepted(9.2)
    assert halt.halted
    assert halt.refusals == 1


def test_a_probe_that_is_accepted_opens_it():
    halt = Halt()
    halt.refused(10.0, 9.0, "401")
    halt.started()
    halt.accepted(10.0)
    assert not halt.halted
    assert halt.closed_seconds(10.0) == 0.0
