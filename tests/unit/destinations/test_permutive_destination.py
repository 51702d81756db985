from datetime import UTC, datetime

import pytest

from permutive_worker.destinations.permutive import PermutiveDestination
from permutive_worker.errors import TRANSPORT_KINDS
from permutive_worker.jobs.decode import KINDS, Decoder, Fault
from permutive_worker.jobs.request import PATHS
from permutive_worker.model import Action, Request, Response
from permutive_worker.telemetry.counts import RETRIES

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
DESTINATION = PermutiveDestination(scrub=lambda data: data)
IDENTIFY = Request("POST", "/v2.0/identify", b"{}", "identify")
EVENT = b'{"name":"A","time":"2025-07-01T15:39:11Z","properties":{}}'


def judge(status, headers=None, request=IDENTIFY):
    return DESTINATION.judge(request, Response(status, headers or {}, b"oops"), lambda: NOW)


def request_of(line: bytes, part: int = 0) -> Request:
    job = Decoder().decode(line)
    assert not isinstance(job, Fault), job
    return DESTINATION.request(job, part)


@pytest.mark.parametrize(
    ("line", "path", "body"),
    [
        (
            b'{"type":"identify","user_id":"u","aliases":[]}',
            "/v2.0/identify",
            b'{"user_id":"u","aliases":[]}',
        ),
        (
            b'{"type":"segmentation","user_id":"u","activations":true,"events":[%b]}' % EVENT,
            "/ccs/v1/segmentation?activations=true&synchronous-validation=false",
            b'{"events":[%b],"user_id":"u"}' % EVENT,
        ),
        (
            b'{"type":"event","user_id":"u","name":"A"}',
            "/v2.0/events?enrich=false&sdkp=false",
            b'{"name":"A","user_id":"u"}',
        ),
    ],
)
def test_request(line, path, body):
    request = request_of(line)

    assert (request.method, request.path, request.body) == ("POST", path, body)
    assert not request.key_in_query


RESOURCES = {
    b'{"type":"cohort.create","name":"VIP","query":{"b": true},"id":"i","description":"d","tags":["t"]}': (
        "POST",
        "/cohorts-api/v2/cohorts",
        b'{"name":"VIP","query":{"b": true},"id":"i","tags":["t"],"description":"d"}',
    ),
    b'{"type":"cohort.update","id":"a/b","description":null,"state":"Disabled"}': (
        "PATCH",
        "/cohorts-api/v2/cohorts/a%2Fb",
        b'{"description":null,"state":"Disabled"}',
    ),
    b'{"type":"cohort.delete","id":"i"}': ("DELETE", "/cohorts-api/v2/cohorts/i", b""),
    b'{"type":"segment.create","import_id":"m","code":"1","name":"n","cpm":2.5,"categories":[]}': (
        "POST",
        "/audience-api/v1/imports/m/segments",
        b'{"code":"1","name":"n","cpm":2.5,"categories":[]}',
    ),
    b'{"type":"segment.update","import_id":"m","code":"a b","name":"n"}': (
        "PATCH",
        "/audience-api/v1/imports/m/segments/code/a%20b",
        b'{"name":"n"}',
    ),
    b'{"type":"segment.delete","import_id":"m","id":"s"}': (
        "DELETE",
        "/audience-api/v1/imports/m/segments/s",
        b"",
    ),
}


@pytest.mark.parametrize("line", RESOURCES)
def test_request_of_a_cohort_or_a_segment(line):
    request = request_of(line)

    assert (request.method, request.path, request.body) == RESOURCES[line]
    assert request.key_in_query


def test_every_kind_has_a_path():
    assert {*PATHS, *(request_of(line).kind for line in RESOURCES)} == set(KINDS)


@pytest.mark.parametrize(
    ("line", "action"),
    [(line, Action.HALT if b"cohort.create" in line else Action.REJECT) for line in RESOURCES],
)
def test_a_404_on_a_path_with_an_id_is_the_jobs_fault(line, action):
    verdict = DESTINATION.judge(request_of(line), Response(404, {}, b""), lambda: NOW)

    assert verdict.action is action


def expected(status: int) -> tuple[Action, str, bool]:
    """What §2 of the design says of a status without headers: action, why, ambiguous."""
    special = {
        401: (Action.HALT, "key_refused", False),
        403: (Action.HALT, "key_refused", False),
        404: (Action.HALT, "not_found", False),
        408: (Action.RETRY, "timeout", False),
        425: (Action.RETRY, "server_error", False),
        429: (Action.THROTTLED, "throttled", False),
        500: (Action.RETRY, "server_error", True),
        501: (Action.REJECT, "rejected", False),
        502: (Action.RETRY, "server_error", True),
        504: (Action.RETRY, "server_error", True),
        505: (Action.REJECT, "rejected", False),
    }
    by_hundred = {
        1: (Action.RETRY, "server_error", False),
        2: (Action.DELIVERED, "delivered", False),
        3: (Action.HALT, "redirected", False),
        4: (Action.REJECT, "rejected", False),
        5: (Action.RETRY, "server_error", False),
    }
    return special.get(status) or by_hundred[status // 100]


@pytest.mark.parametrize("status", range(100, 600))
def test_verdict_of_every_status(status):
    verdict = judge(status)

    assert (verdict.action, verdict.why, verdict.ambiguous) == expected(status)
    assert verdict.status == status
    assert verdict.retry_after_seconds is None
    assert (verdict.error is None) == (verdict.action is Action.DELIVERED)
    if verdict.action in {Action.RETRY, Action.THROTTLED}:
        assert verdict.why in RETRIES


def test_delivered_builds_nothing():
    assert judge(200) is judge(200)


@pytest.mark.parametrize("status", [429, 503])
def test_a_hint_makes_it_a_throttle(status):
    verdict = judge(status, {"Retry-After": "7"})

    assert (verdict.action, verdict.why, verdict.retry_after_seconds) == (Action.THROTTLED, "throttled", 7.0)


@pytest.mark.parametrize("hint", ["0", "soon", "-1", "Sat, 21 Nov 2026 11:00:00 GMT"])
def test_a_hint_that_is_no_wait_is_none(hint):
    throttled, failed = judge(429, {"Retry-After": hint}), judge(503, {"Retry-After": hint})

    assert (throttled.action, throttled.retry_after_seconds) == (Action.THROTTLED, None)
    assert (failed.action, failed.retry_after_seconds) == (Action.RETRY, None)


@pytest.mark.parametrize("status", [408, 425, 500, 502, 504])
def test_a_retry_keeps_the_hint(status):
    verdict = judge(status, {"retry-after": "1.5"})

    assert (verdict.action, verdict.retry_after_seconds) == (Action.RETRY, 1.5)


def test_not_found_halts_whatever_the_query():
    request = request_of(b'{"type":"event","user_id":"u","name":"A"}')

    assert judge(404, request=request).action is Action.HALT


def test_not_found_on_a_path_with_an_id_rejects_the_job():
    request = Request("PATCH", "/cohorts-api/v2/cohorts/8a1f", b"{}", "cohort.update", key_in_query=True)

    assert judge(404, request=request).action is Action.REJECT


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("kind", TRANSPORT_KINDS)
def test_no_answer_is_a_retry(kind, sent):
    verdict = DESTINATION.judge_failure(kind, sent=sent)

    assert verdict.action is Action.RETRY
    assert verdict.why == ("timeout" if kind in {"timeout", "connect_timeout"} else "connection")
    assert (verdict.ambiguous, verdict.status) == (sent, 0)
    assert verdict.error is not None
    assert verdict.error.type == kind


def test_what_the_server_says_is_scrubbed():
    destination = PermutiveDestination(scrub=lambda data: data.replace(b"KEY", b"***"))

    verdict = destination.judge(IDENTIFY, Response(400, {}, b"your KEY is no good"), lambda: NOW)

    assert verdict.error is not None
    assert verdict.error.message == "your *** is no good"
