"""What every destination promises to the delivery."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.destinations.memory import MemoryDestination
from permutive_worker.destinations.permutive import PermutiveDestination
from permutive_worker.errors import TRANSPORT_KINDS
from permutive_worker.jobs.decode import Decoder, Fault
from permutive_worker.model import Action, Job, Request, Response
from permutive_worker.ports import Destination
from permutive_worker.telemetry.counts import RETRIES

NOW = datetime(2026, 11, 21, tzinfo=UTC)
REQUEST = Request("POST", "/v2.0/identify", b"{}", "identify")
EVENT = b'{"name":"A","time":"2025-07-01T15:39:11Z","properties":{}}'
LINES = [
    b'{"type":"identify","user_id":"u","aliases":[]}',
    b'{"type":"segmentation","user_id":"u","events":[%b]}' % b",".join([EVENT] * 23),
    b'{"type":"event","user_id":"u","name":"A"}',
    b'{"type":"cohort.create","name":"n","query":{}}',
    b'{"type":"cohort.update","id":"i","name":"n"}',
    b'{"type":"cohort.delete","id":"i"}',
    b'{"type":"segment.create","import_id":"m","code":"c","name":"n"}',
    b'{"type":"segment.update","import_id":"m","code":"c","name":"n"}',
    b'{"type":"segment.delete","import_id":"m","id":"i"}',
]

every_destination = pytest.mark.parametrize(
    "destination",
    [PermutiveDestination(scrub=lambda data: data), MemoryDestination()],
    ids=["permutive", "memory"],
)


def job_of(line: bytes) -> Job:
    job = Decoder().decode(line)
    assert not isinstance(job, Fault), job
    return job


@every_destination
@pytest.mark.parametrize("line", LINES)
def test_every_part_of_a_job_is_a_request_with_its_body(destination: Destination, line):
    job = job_of(line)

    requests = [destination.request(job, part) for part in range(job.request_count())]

    assert [request.body for request in requests] == [job.body(part) for part in range(job.request_count())]
    for request in requests:
        assert request.kind == job.kind
        assert request.path.startswith("/")
        assert request.path.isascii()


@every_destination
@given(
    status=st.integers(100, 599),
    headers=st.dictionaries(st.sampled_from(["Retry-After", "retry-after-ms", "Date"]), st.text(max_size=20)),
    body=st.binary(max_size=100),
)
def test_any_answer_has_a_verdict(destination: Destination, status, headers, body):
    verdict = destination.judge(REQUEST, Response(status, headers, body), lambda: NOW)

    assert verdict.status == status
    assert (verdict.action is Action.DELIVERED) == (200 <= status < 300)
    assert (verdict.error is None) == (verdict.action is Action.DELIVERED)
    assert verdict.retry_after_seconds is None or verdict.retry_after_seconds > 0
    if verdict.action in {Action.RETRY, Action.THROTTLED}:
        assert verdict.why in RETRIES


@every_destination
@pytest.mark.parametrize("kind", TRANSPORT_KINDS)
@pytest.mark.parametrize("sent", [True, False])
def test_no_answer_is_a_retry_and_ambiguous_once_sent(destination: Destination, kind, sent):
    verdict = destination.judge_failure(kind, sent=sent)

    assert verdict.action is Action.RETRY
    assert verdict.why in RETRIES
    assert verdict.ambiguous is sent
    assert verdict.error is not None
