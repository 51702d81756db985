import re

import pytest

COHORTS = "/cohorts-api/v2/cohorts"
NEW = {
    "name": "VIP",
    "query": {"event": "Pageview", "frequency": {"greater_than_or_equal_to": 2}},
    "tags": ["a"],
}


def created(call, **change):
    return call.json("POST", f"{COHORTS}/", NEW | change)


def test_a_new_cohort(call) -> None:
    answer = call("POST", COHORTS, NEW)
    cohort = created(call)

    assert answer.status == 201
    assert NEW.items() <= cohort.items()
    assert type(cohort["code"]) is int
    assert (cohort["state"], cohort["segment_type"]) == ("Enabled", "real_time")
    assert re.fullmatch(r"2026-01-01T12:00:00\.\d{9}Z", cohort["created_at"])
    assert "description" not in cohort


def test_codes_are_never_given_twice(call) -> None:
    first = created(call)
    call.json("DELETE", f"{COHORTS}/{first['id']}")

    assert created(call)["code"] != first["code"]


@pytest.mark.parametrize("path", [COHORTS, f"{COHORTS}/", f"{COHORTS}?include-child-workspaces=false"])
def test_a_list_is_bare_and_without_queries(call, path) -> None:
    cohorts = call.json("GET", path)

    assert len(cohorts) == 2
    assert all("query" not in cohort and "live_audience_size" in cohort for cohort in cohorts)


def test_a_list_with_child_workspaces(call) -> None:
    cohorts = call.json("GET", f"{COHORTS}/?include-child-workspaces=true")

    assert len({cohort["workspace_id"] for cohort in cohorts}) == 2


def test_a_change_leaves_the_rest_alone(call) -> None:
    cohort = created(call, description="d")
    path = f"{COHORTS}/{cohort['id']}"

    call.json("PATCH", path, {"id": cohort["id"], "name": "renamed", "state": "Disabled"})
    changed = call.json("GET", path)
    assert changed == cohort | {"name": "renamed", "state": "Disabled"}

    call.json("PATCH", path, {"description": None})
    assert "description" not in call.json("GET", path)


def test_a_deleted_cohort_is_gone(call) -> None:
    path = f"{COHORTS}/{created(call)['id']}"

    answer = call("DELETE", path)
    assert (answer.status, answer.body) == (200, b"")
    assert call.refusal("GET", path) == (404, 3000)
    assert call.refusal("PATCH", path, {}) == (404, 3000)
    assert call.refusal("DELETE", path) == (404, 3000)


def test_an_id_that_exists(call) -> None:
    created(call, id="c1")

    assert call.refusal("POST", COHORTS, NEW | {"id": "c1"}) == (409, 4000)


@pytest.mark.parametrize(
    "change", [{"name": None}, {"query": None}, {"query": "q"}, {"tags": "a"}, {"segment_type": "slow"}]
)
def test_a_cohort_that_is_refused(call, change) -> None:
    assert call.refusal("POST", COHORTS, NEW | change) == (400, 1002)


@pytest.mark.parametrize("change", [{"name": None}, {"state": "On"}, {"tags": None}])
def test_a_change_that_is_refused(call, change) -> None:
    path = f"{COHORTS}/{created(call)['id']}"

    assert call.refusal("PATCH", path, change) == (400, 1002)
    assert call.refusal("PATCH", path) == (400, 1003)
