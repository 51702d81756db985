import orjson
import pytest

from permutive_worker.sandbox.console import Console

IDENTIFY = b'{"user_id":"u1","aliases":[]}'


@pytest.fixture
def console(call) -> Console:
    return Console(call.imitation)


def test_the_sums_and_who_is_known(call, console) -> None:
    call("POST", "/v2.0/identify", IDENTIFY)
    summary = orjson.loads(console.receive("GET", "/_sandbox/ledger", b"").body)

    assert (summary["taken"], summary["users"], summary["aliases"]) == (1, 1, 0)


def test_entries_are_lines(call, console) -> None:
    for _ in range(3):
        call("POST", "/v2.0/identify", IDENTIFY)
    answer = console.receive("GET", "/_sandbox/ledger/entries?offset=1&limit=1", b"")

    assert [orjson.loads(line)["n"] for line in answer.body.splitlines()] == [2]
    assert answer.body.endswith(b"\n")


def test_arrivals(call, console) -> None:
    call("POST", "/v2.0/identify", IDENTIFY)

    assert console.receive("GET", "/_sandbox/ledger/arrivals", b"").body == b"[[100.0,200]]"


@pytest.mark.parametrize(
    ("action", "body", "status"),
    [
        ("faults", b'{"faults": "503=1"}', 503),
        ("keys", b'{"api_keys": []}', 401),
        ("limit", b'{"rate_limit": 1, "burst": 1}', 429),
    ],
)
def test_it_changes_its_mind(call, console, action, body, status) -> None:
    assert console.receive("POST", f"/_sandbox/{action}", body).status == 200

    statuses = [call("POST", "/v2.0/identify", IDENTIFY).status for _ in range(2)]
    assert statuses[-1] == status


def test_a_reset_keeps_what_was_changed(call, console) -> None:
    console.receive("POST", "/_sandbox/faults", b'{"faults": "503=1"}')
    call("POST", "/v2.0/identify", IDENTIFY)
    console.receive("POST", "/_sandbox/reset", b"")

    assert call.imitation.ledger.requests == 0
    assert call("POST", "/v2.0/identify", IDENTIFY).status == 503


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "nothing", b"", 404),
        ("GET", "reset", b"", 404),
        ("POST", "faults", b'{"faults": "odd"}', 400),
        ("POST", "faults", b"", 400),
        ("POST", "limit", b'{"rate_limit": -1}', 400),
        ("POST", "limit", b'{"rate": 1}', 400),
        ("POST", "keys", b'{"api_keys": "all"}', 400),
        ("GET", "ledger/entries?limit=-1", b"", 400),
        ("GET", "ledger/entries?offset=x", b"", 400),
    ],
)
def test_what_it_does_not_understand_it_refuses(call, console, method, path, body, status) -> None:
    answer = console.receive(method, f"/_sandbox/{path}", body)

    assert answer.status == status
    assert orjson.loads(answer.body)["error"]
    assert call("POST", "/v2.0/identify", IDENTIFY).status == 200
