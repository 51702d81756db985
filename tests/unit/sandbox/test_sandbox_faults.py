from collections import Counter

import pytest

from permutive_worker.sandbox.faults import NAMED, NOTHING, Fault, Faults, ProfileError, parse_profile


def drawn(profile: str, seed: int = 0, requests: int = 20_000) -> list[Fault]:
    faults = Faults(parse_profile(profile), seed)
    return [faults.decide(number, 0) for number in range(1, requests + 1)]


def test_nothing_goes_wrong_by_default() -> None:
    assert set(drawn("none", requests=1_000)) == {NOTHING}


def test_each_kind_gets_its_share() -> None:
    kinds = Counter(fault.kind for fault in drawn("500=0.1,reset=0.02,hang=0.01"))

    shares = {"500": 0.1, "reset": 0.02, "hang": 0.01, "": 0.87}
    assert {kind: count / 20_000 for kind, count in kinds.items()} == pytest.approx(shares, abs=0.01)


def test_the_same_seed_fails_the_same_requests() -> None:
    assert drawn("lossy", seed=7) == drawn("lossy", seed=7)
    assert drawn("lossy", seed=7) != drawn("lossy", seed=8)


def test_half_of_the_resets_come_after_the_request_was_taken() -> None:
    processed = [fault.processed for fault in drawn("reset=1", requests=2_000)]

    assert sum(processed) / 2_000 == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("profile", "processed", "status"),
    [("truncate=1", True, 0), ("hang=1", False, 0), ("503=1", False, 503), ("429=1", False, 429)],
)
def test_what_a_kind_means(profile: str, processed: bool, status: int) -> None:
    (fault,) = set(drawn(profile, requests=50))

    assert (fault.processed, fault.status) == (processed, status)


@pytest.mark.parametrize(
    ("seconds", "status"), [(0, 0), (1, 429), (3.9, 429), (4, 0), (10.9, 0), (11, 429), (14, 0)]
)
def test_a_storm_comes_again(seconds: float, status: int) -> None:
    fault = Faults(parse_profile("storm"), 0).decide(1, seconds)

    assert fault.status == status
    assert fault.retry_after_seconds == (2 if status else None)


@pytest.mark.parametrize(("seconds", "status"), [(0, 0), (2.9, 0), (3, 401), (7.9, 401), (8, 0), (1_000, 0)])
def test_a_key_is_revoked_once(seconds: float, status: int) -> None:
    assert Faults(parse_profile("revoked"), 0).decide(1, seconds).status == status


def test_a_fault_may_be_for_one_endpoint_or_for_bodies_with_a_text() -> None:
    faults = Faults(parse_profile("event:403=1,@user-7:500=1"), 0)

    assert faults.decide(1, 0, "event").status == 403
    assert faults.decide(1, 0, "identify", b'{"user_id":"user-7"}').status == 500
    assert faults.decide(1, 0, "identify", b'{"user_id":"user-8"}') == NOTHING


@pytest.mark.parametrize("name", NAMED)
def test_every_name_is_a_profile(name: str) -> None:
    assert parse_profile(name).text == name


def test_names_and_shares_go_together() -> None:
    faults = Faults(parse_profile("revoked, 500=1"), 0)

    assert [faults.decide(1, 0).status, faults.decide(1, 4).status] == [500, 401]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stormy", "known are none, storm, flaky"),
        ("boom=0.1", "known are reset, truncate, hang"),
        ("200=0.1", "a status from 400 to 599"),
        ("500=much", "a number from 0 to 1"),
        ("500=nan", "a number from 0 to 1"),
        ("500=-1", "a number from 0 to 1"),
        ("500=0.6,502=0.6", "may not exceed 1"),
    ],
)
def test_what_is_no_profile_is_refused(text: str, says: str) -> None:
    with pytest.raises(ProfileError, match=says):
        parse_profile(text)
