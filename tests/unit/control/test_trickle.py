from permutive_worker.control.breaker import OPENS_AFTER
from permutive_worker.control.trickle import ONE_IN, Trickle


def failing(kind="event", times=OPENS_AFTER):
    trickle = Trickle()
    for _ in range(times):
        trickle.failed(kind, 0.0)
    return trickle


def test_a_kind_that_fails_as_often_in_a_row_as_opens_the_breaker_gets_a_trickle():
    assert not failing(times=OPENS_AFTER - 1).kinds
    assert set(failing().kinds) == {"event"}


def test_one_answer_in_between_prevents_it():
    trickle = failing(times=OPENS_AFTER - 1)
    trickle.answered("event")
    trickle.failed("event", 0.0)
    assert not trickle.kinds


def test_answers_to_other_kinds_do_not():
    trickle = failing(times=OPENS_AFTER - 1)
    trickle.answered("identify")
    trickle.failed("event", 0.0)
    assert set(trickle.kinds) == {"event"}


def test_one_attempt_at_a_time_and_one_in_so_many_while_others_are_ready():
    trickle = failing()
    assert not trickle.may_start("event", others_ready=True)
    assert trickle.may_start("event", others_ready=False)
    for _ in range(ONE_IN - 1):
        trickle.started("identify", 1.0)
    assert trickle.may_start("event", others_ready=True)

    trickle.started("event", 2.0)
    assert not trickle.may_start("event", others_ready=False)
    trickle.failed("event", 1.9)  # it was sent before
    assert not trickle.may_start("event", others_ready=False)
    trickle.failed("event", 2.0)
    assert trickle.may_start("event", others_ready=False)


def test_several_kinds_take_turns():
    trickle = failing()
    for _ in range(OPENS_AFTER):
        trickle.failed("segmentation", 0.0)
    trickle.started("event", 2.0)
    assert list(trickle.kinds) == ["segmentation", "event"]


def test_one_answer_ends_it():
    trickle = failing()
    trickle.started("event", 2.0)
    trickle.answered("event")
    assert not trickle.kinds
    assert not trickle.watching


def test_an_attempt_that_was_cut_short_makes_room_for_another():
    trickle = failing()
    trickle.started("event", 2.0)
    trickle.cut("event", 2.0)
    assert trickle.may_start("event", others_ready=False)
