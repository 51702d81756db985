import logging

import orjson
import pytest

from permutive_worker.sandbox.options import SandboxOptions

IDENTIFY = {"user_id": "u1", "aliases": []}
COHORTS = "/cohorts-api/v2/cohorts"
IMPORTS = "/audience-api/v1/imports"


def error(answer):
    return orjson.loads(answer.body)["error"]


@pytest.mark.parametrize("target", ["/v2.0/identify", "/v2.0/identify?k="])
def test_a_missing_key(call, target) -> None:
    answer = call("POST", target, IDENTIFY, key=None)

    assert (answer.status, error(answer)["code"]) == (401, 2004)


def test_a_key_in_the_query(build_caller) -> None:
    call = build_caller(api_keys=frozenset({"a/b c"}))

    assert call("POST", "/v2.0/identify?k=a%2Fb+c", IDENTIFY, key=None).status == 200
    assert call("POST", "/v2.0/identify?k=other", IDENTIFY, key=None).status == 401


@pytest.mark.parametrize(
    ("method", "path", "code"), [("POST", "/v2.0/identify", 2000), ("GET", COHORTS, 2005)]
)
def test_a_key_that_is_not_valid(build_caller, method, path, code) -> None:
    answer = build_caller(api_keys=frozenset({"valid"}))(method, path, IDENTIFY)

    assert (answer.status, error(answer)["code"]) == (401, code)


@pytest.mark.parametrize("path", [COHORTS, IMPORTS, "/v2.0/users/u1/aliases"])
def test_a_public_key_may_not_do_everything(build_caller, path) -> None:
    call = build_caller(api_keys=frozenset({"private"}), public_keys=frozenset({"public"}))

    answer = call("GET", path, key="public")
    assert (answer.status, error(answer)["code"]) == (403, 2001)
    assert call("GET", path, key="private").status == 200
    assert call("POST", "/v2.0/identify", IDENTIFY, key="public").status == 200


def test_keys_change_while_it_runs(call) -> None:
    def status():
        return call("POST", "/v2.0/identify", IDENTIFY).status

    statuses = [status()]
    for keys in ([], ["key"], ["other"], None):
        call.imitation.set_keys(keys)
        statuses.append(status())

    assert statuses == [200, 401, 200, 401, 200]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", f"{COHORTS}/a/b", 404),
        ("GET", f"{IMPORTS}//segments", 404),
        ("GET", "/v2.0/identify", 405),
        ("PUT", COHORTS, 405),
    ],
)
def test_paths_and_methods_that_are_not_there(call, method, path, status) -> None:
    answer = call(method, path)

    assert answer.status == status
    assert error(answer)["status"] == {404: "NotFound", 405: "MethodNotAllowed"}[status]


@pytest.mark.parametrize(
    ("path", "spaced"),
    [("/v2.0/identify", False), ("/v2.0/events", False), ("/ccs/v1/segmentation", True), (COHORTS, True)],
)
def test_the_envelope_of_each_api(call, path, spaced) -> None:
    envelope = orjson.loads(call("POST", path, b"{").body)

    assert set(envelope) == {"request_id", "error"}
    refused = envelope["error"]
    assert refused["status"] == ("Bad Request" if spaced else "BadRequest")
    assert (refused["code"], refused.get("status_code")) == (1002, 400 if spaced else None)
    assert ("type" in refused) == spaced
    assert {"message", "cause", "docs"} <= set(refused)


def test_over_the_limit_is_429(build_caller) -> None:
    call = build_caller(rate_limit_per_second=10, burst=2)

    statuses = [call("POST", "/v2.0/identify", IDENTIFY).status for _ in range(3)]
    call.now += 0.1
    statuses.append(call("POST", "/v2.0/identify", IDENTIFY).status)

    assert statuses == [200, 200, 429, 200]


@pytest.mark.parametrize("seconds", [None, 1.5])
def test_a_hint_comes_with_429_only_if_asked_for(build_caller, seconds) -> None:
    call = build_caller(rate_limit_per_second=1, burst=1, retry_after_seconds=seconds)
    call("POST", "/v2.0/identify", IDENTIFY)

    assert call("POST", "/v2.0/identify", IDENTIFY).retry_after_seconds == seconds


def test_the_limit_changes_while_it_runs(call) -> None:
    call.imitation.set_limit(1, 1)
    statuses = [call("POST", "/v2.0/identify", IDENTIFY).status for _ in range(2)]
    call.imitation.set_limit(0)
    statuses.append(call("POST", "/v2.0/identify", IDENTIFY).status)

    assert statuses == [200, 429, 200]


@pytest.mark.parametrize(
    ("faults", "status", "code", "taken"),
    [
        ("400=1", 400, 1000, False),
        ("401=1", 401, 2000, False),
        ("403=1", 403, 2001, False),
        ("429=1", 429, 4290, False),
        ("500=1", 500, 5000, False),
        ("599=1", 599, 5000, False),
    ],
)
def test_a_status_that_is_injected(build_caller, faults, status, code, taken) -> None:
    exchange = build_caller(faults=faults).exchange("POST", "/v2.0/identify", IDENTIFY)

    assert (exchange.answer.status, error(exchange.answer)["code"], exchange.taken) == (status, code, taken)


def test_a_truncated_answer_was_taken_and_a_hang_was_not(call) -> None:
    for faults in ("truncate=1", "hang=1"):
        call.imitation.set_faults(faults)
        call("POST", "/v2.0/identify", IDENTIFY)

    summary = call.imitation.ledger.summary()
    assert (summary["taken"], summary["by_status"]) == (1, {"0": 1, "200": 1})
    assert summary["faults"] == {"truncate": 1, "hang": 1}


def test_windows_count_from_the_first_request(build_caller) -> None:
    call = build_caller(faults="revoked")
    statuses = []
    for moment in (100, 102.9, 103, 107.9, 108):
        call.now = moment
        statuses.append(call("POST", "/v2.0/identify", IDENTIFY).status)

    assert statuses == [200, 200, 401, 401, 200]


def test_a_request_over_the_limit_meets_no_fault(build_caller) -> None:
    call = build_caller(rate_limit_per_second=1, burst=1, faults="500=1")

    assert [call("POST", "/v2.0/identify", IDENTIFY).status for _ in range(2)] == [500, 429]


def test_reading_takes_nothing(call) -> None:
    call("GET", COHORTS)
    call("POST", "/v2.0/identify", IDENTIFY)

    assert call.imitation.ledger.taken == 1


def test_a_reset_forgets_what_was_received(build_caller) -> None:
    call = build_caller(seed=3)
    first = call.json("POST", "/v2.0/users")
    call.imitation.reset()

    assert call.imitation.ledger.requests == 0
    assert call.json("POST", "/v2.0/users") == first


def test_no_key_is_shown_anywhere(build_caller, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    call = build_caller(api_keys=frozenset({"sesame"}), public_keys=frozenset({"simsim"}), keep_bodies=True)
    call("POST", "/v2.0/identify?k=sesame", IDENTIFY, key="sesame")
    call("POST", "/v2.0/identify", IDENTIFY, key="simsim")

    options = SandboxOptions(api_keys=frozenset({"sesame"}), public_keys=frozenset({"simsim"}))
    ledger = call.imitation.ledger
    shown = f"{options!r}{list(ledger.entries(0, 9))}{ledger.summary()}{ledger!r}{caplog.text}"
    assert "sesame" not in shown
    assert "simsim" not in shown


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"faults": "odd"}, "no fault profile"),
        ({"rate_limit_per_second": -1}, "rate limit"),
        ({"burst": 0}, "burst"),
        ({"latency_seconds": -1}, "latency"),
        ({"retry_after_seconds": -1}, "Retry-After"),
        ({"page_size": 0}, "page"),
    ],
)
def test_options_that_cannot_be_meant(options, says) -> None:
    with pytest.raises(ValueError, match=says):
        SandboxOptions(**options)
