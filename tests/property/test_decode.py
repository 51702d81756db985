"""Any bytes are a job that can be sent, or a fault that says why."""

import json

import orjson
from hypothesis import example, given, settings
from hypothesis import strategies as st

from permutive_worker.jobs.decode import KINDS, Decoder, Fault
from permutive_worker.model import Reason

SECRET = "s3cr3t@example.com"
LINES = [
    b'{"type":"identify","user_id":"u","aliases":[{"id":"a","tag":"t","priority":0}],"job_id":1}',
    b'{"type":"segmentation","alias":{"tag":"t","id":"a"},"activations":true,"events":[{"name":"A","view_id":"v",%b}]}'
    % b'"time":"2025-07-01T15:39:11.594Z","properties":{"a":[1,null,"\xc3\xbc"]}',
    b'{"type":"event","name":"A","aliases":[{"id":"a","tag":"t"}],"properties":{"b":{"c":1e5}},"enrich":true}',
]
FIELDS = [
    *(
        "user_id",
        "alias",
        "aliases",
        "events",
        "name",
        "time",
        "properties",
        "view_id",
        "session_id",
        "id",
        "tag",
    ),
    *("priority", "job_id", "workspace", "destination", "activations", "synchronous_validation", "enrich"),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(SECRET),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=8,
)


def check(line: bytes, default_kind: str | None = None) -> None:
    job = Decoder(default_kind).decode(line)
    if isinstance(job, Fault):
        check_fault(job, line)
        return
    assert job.kind in KINDS
    assert hash(job.user()) == hash(job.user())
    assert job.request_count() >= 1
    for part in range(job.request_count()):
        assert isinstance(json.loads(job.body(part)), dict)
    assert job.query().isascii()


def check_fault(fault: Fault, line: bytes) -> None:
    assert fault.message
    assert fault.message.isprintable()
    assert fault.kind in {"", *KINDS}
    if fault.reason is Reason.INVALID:
        assert isinstance(json.loads(line), dict)
    else:
        assert fault.reason is Reason.MALFORMED
        assert not is_json_object(line)


def is_json_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except ValueError:
        return False


@given(st.binary(max_size=200), st.sampled_from([None, *KINDS]))
def test_any_bytes(line, default_kind):
    check(line, default_kind)


@given(st.data())
@settings(max_examples=400)
def test_a_mutated_line(data):
    line = bytearray(data.draw(st.sampled_from(LINES)))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(line)))
        length = data.draw(st.integers(0, 4))
        line[start : start + length] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b"{", b"]", b"\\u", b"1e9"])
        )

    check(bytes(line), data.draw(st.sampled_from([None, *KINDS])))


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS), VALUES))
@example("identify", {"user_id": "u", "aliases": [{"id": SECRET, "tag": "email_sha256"}]})
@example("event", {"name": SECRET, "user_id": "u"})
@example("segmentation", {"user_id": "u", "events": [{"name": "A", "time": SECRET, "properties": {}}]})
@example("identify", {"user_id": SECRET, "destination": SECRET, "aliases": []})
@settings(max_examples=100)
def test_any_values_and_no_message_holds_one(kind, fields):
    line = json.dumps({"type": kind, **fields}).encode()

    job = Decoder().decode(line)

    if "NaN" not in line.decode() and "Infinity" not in line.decode():
        check(line)
    if isinstance(job, Fault):
        assert SECRET not in job.message
