"""When jobs are better given back."""

from permutive_worker.control.standstill import GIVE_BACK_SECONDS, Standstill


def test_gives_back_once_after_a_minute_of_standing():
    standstill = Standstill()

    looks = [standstill.look(now, 0.0) for now in range(200)]

    assert looks.index(True) == GIVE_BACK_SECONDS + 1
    assert sum(looks) == 1
    assert standstill.given_back


def test_gives_back_at_once_when_it_is_known_to_stand_for_long():
    assert Standstill().look(5.0, 61.0)
    assert not Standstill().look(5.0, 60.0)


def test_a_lane_that_moves_begins_anew():
    standstill = Standstill()
    for now in (0.0, 59.0):
        assert not standstill.look(now, 0.0)
    assert not standstill.look(60.0, None)

    assert not standstill.look(61.0, 0.0)
    assert not standstill.look(121.0, 0.0)
    assert standstill.look(122.0, 0.0)
    assert not standstill.look(123.0, None)
    assert not standstill.given_back
