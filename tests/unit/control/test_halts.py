import math

from permutive_worker.control.halts import Halts


def forbidden(halts, at, kind="segmentation", sent_at=None, probe=None):
    halts.refused(at, at if sent_at is None else sent_at, kind, 403, probe)


def opened(halts, at, kind="segmentation"):
    """A probe is sent and delivers."""
    halts.kinds[kind].started()
    halts.taken(kind, at)
    halts.accepted(at, kind, halts.kinds[kind])


def test_a_refused_key_halts_all_and_a_refused_kind_only_itself():
    halts = Halts()
    forbidden(halts, 1.0)
    assert (halts.lane.halted, set(halts.kinds), halts.standing) == (False, {"segmentation"}, True)
    halts.refused(2.0, 1.5, None, 401)
    assert halts.lane.halted
    assert len(halts.all) == 2


def test_a_probe_of_the_key_opens_the_halt_of_its_kind_too_and_not_that_of_others():
    halts = Halts()
    forbidden(halts, 1.0)
    forbidden(halts, 1.0, "event")
    halts.refused(1.0, 0.5, None, 401)
    halts.lane.started()
    halts.accepted(2.0, "segmentation", halts.lane)
    assert not halts.lane.halted
    assert set(halts.kinds) == {"event"}


def test_a_probe_of_a_kind_that_meets_a_refused_key_halts_the_lane():
    halts = Halts()
    forbidden(halts, 1.0)
    probe = halts.kinds["segmentation"]
    probe.started()
    halts.refused(2.0, 1.0, None, 401, probe)
    assert (halts.lane.refusals, probe.refusals) == (1, 2)


def test_a_probe_of_the_key_that_is_forbidden_halts_nothing_more():
    halts = Halts()
    halts.refused(1.0, 0.5, None, 401)
    halts.lane.started()
    forbidden(halts, 2.0, probe=halts.lane)
    assert (halts.lane.refusals, halts.kinds) == (2, {})


def test_a_job_is_refused_for_itself_when_others_were_taken_in_between_and_its_kind_is_not_halted():
    halts = Halts()
    assert not halts.is_own("segmentation", math.inf)
    forbidden(halts, 1.0)
    assert not halts.is_own("segmentation", 1.0)
    opened(halts, 2.0)
    assert not halts.is_own("segmentation", 3.0)
    assert halts.is_own("segmentation", 1.0)


def test_it_is_never_for_itself_while_the_lane_is_halted():
    halts = Halts()
    forbidden(halts, 1.0)
    opened(halts, 2.0)
    halts.refused(3.0, 2.5, None, 401)
    assert not halts.is_own("segmentation", 1.0)


def test_once_a_job_was_refused_for_itself_only_two_refusals_in_a_row_halt_its_kind():
    halts = Halts()
    forbidden(halts, 1.0)
    opened(halts, 2.0)
    assert halts.is_own("segmentation", 1.0)
    forbidden(halts, 3.0)
    assert not halts.standing
    halts.taken("segmentation", 3.5)
    forbidden(halts, 4.0)
    assert not halts.standing
    forbidden(halts, 4.1)
    assert halts.standing


def test_nobody_is_watched_before_the_first_refusal():
    halts = Halts()
    halts.taken("segmentation", 1.0)
    assert not halts.watched
