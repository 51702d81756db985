import json
from bisect import bisect_left

import pytest

from permutive_worker.errors import ConfigurationError
from permutive_worker.jobs.decode import KINDS, Decoder, Fault
from permutive_worker.jobs.properties import MAX_PROPERTIES_BYTES
from permutive_worker.model import Reason

EVENT = {"name": "A", "time": "2025-07-01T15:39:11Z", "properties": {}}
HASH_FAULT = "it is an unhashed address: trim, lower-case and SHA-256 it first"
TIME_FAULT = "expected RFC 3339 with a zone, like 2026-01-31T12:00:00Z"


def fault_of(line: bytes, default_kind: str | None = None) -> Fault:
    fault = Decoder(default_kind).decode(line)
    assert isinstance(fault, Fault), fault
    return fault


def invalid(kind: str, **fields: object) -> str:
    fault = fault_of(json.dumps({"type": kind, **fields}).encode())
    assert (fault.reason, fault.kind) == (Reason.INVALID, kind)
    return fault.message


def identify(**fields: object) -> str:
    return invalid("identify", **{"user_id": "u", "aliases": [], **fields})


def segmentation(**fields: object) -> str:
    return invalid("segmentation", **{"user_id": "u", "events": [EVENT], **fields})


def event(**fields: object) -> str:
    return invalid("event", **{"user_id": "u", "name": "A", **fields})


def test_the_kinds():
    resources = [
        f"{what}.{verb}" for what in ("cohort", "segment") for verb in ("create", "update", "delete")
    ]

    assert ("identify", "segmentation", "event", *resources) == KINDS


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "not JSON: it breaks off, or holds half of a surrogate pair"),
        (b"nope", "not JSON: invalid character (byte 4)"),
        (b"\xef\xbb\xbf{}", "not JSON: invalid character (byte 0)"),
        (b"\x00", "not JSON: invalid character (byte 0)"),
        (b"[]", "expected a JSON object, got array"),
        (b"null", "expected a JSON object, got null"),
        (b'{"type":"identify"', "not JSON: it breaks off, or holds half of a surrogate pair"),
        (b'{"type":"identify"} {}', "not JSON: trailing characters (byte 21)"),
        (b'{"type":"identify","user_id":5, oops', "not JSON: object keys must be strings (byte 32)"),
        (b'{"type":"\xff"}', "not UTF-8 at byte 9"),
        (b'{"type":"event","name":"A","user_id":"u","properties":{"a":"\xff"}}', "not UTF-8 at byte 60"),
        (
            b'{"type":"event","name":"A","user_id":"u","properties":{"a":NaN}}',
            "not JSON: invalid character (byte 59)",
        ),
        (b'{"a":' * 100_000, "nested too deep"),
        (b'{"type":"event","name":"A","user_id":"u","properties":' + b'{"a":' * 100_000, "nested too deep"),
    ],
)
def test_malformed(line, message):
    assert fault_of(line) == Fault(Reason.MALFORMED, message)


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"event","name":"A","user_id":"u","properties":%b}',
        b'{"type":"event","name":"A","user_id":"u","time":%b}',
        b'{"type":"segmentation","user_id":"u","events":[{"name":"A","time":"2025-07-01T15:39:11Z","properties":%b}]}',
    ],
)
def test_at_the_limit_of_nesting_it_is_too_deep_or_was_looked_into(line):
    def message(depth: int) -> str:
        found = Decoder().decode(line % (b'{"a":' * depth + b"1" + b"}" * depth))
        return found.message if isinstance(found, Fault) else ""

    shallow = message(1)
    limit = bisect_left(range(100_000), True, key=lambda depth: message(depth) == "nested too deep")

    assert {message(depth) for depth in range(limit - 9, limit + 9)} == {shallow, "nested too deep"}


@pytest.mark.parametrize("text", [b"\\ud800", b"\\udc00 and more than six letters", b"\\ud800\\u0041"])
def test_half_a_surrogate_pair_is_malformed(text):
    line = b'{"type":"event","name":"A","user_id":"u","properties":{"a":"%b"}}'

    assert fault_of(line % text).reason is Reason.MALFORMED


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{}", "type: missing; add it to the line or say --type KIND"),
        (b'{"type":5}', "type: expected str"),
        (b'{"type":"x"}', f'type: unknown kind "x"; known: {", ".join(KINDS)}'),
        (b'{"type":"a\\nb\\u001b[0m"}', f'type: unknown kind "a?b?[0m"; known: {", ".join(KINDS)}'),
    ],
)
def test_a_line_of_no_known_kind(line, message):
    assert fault_of(line) == Fault(Reason.INVALID, message)


def test_a_long_name_is_cut():
    assert len(fault_of(b'{"type":"%b"}' % (b"x" * 10_000)).message) < 250


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"user_id": ""}, "user_id: expected str of length >= 1"),
        ({"user_id": None}, "user_id: expected str, got null"),
        ({"aliases": {}}, "aliases: expected array, got object"),
        ({"aliases": [{"id": "a", "tag": "t"}, 5]}, "aliases[1]: expected object, got int"),
        ({"aliases": [{"id": "a"}]}, "aliases[0].tag: missing"),
        ({"aliases": [{"id": "", "tag": "t"}]}, "aliases[0].id: expected str of length >= 1"),
        (
            {"aliases": [{"id": "a", "tag": "t", "priority": True}]},
            "aliases[0].priority: expected int, got bool",
        ),
        (
            {"aliases": [{"id": "a", "tag": "t", "priority": 1.5}]},
            "aliases[0].priority: expected int, got float",
        ),
        (
            {"aliases": [{"id": "a", "tag": "t", "priority": 2**31}]},
            "aliases[0].priority: expected int <= 2147483647",
        ),
        (
            {"aliases": [{"id": "a", "tag": "t", "prority": 1}]},
            'aliases[0].prority: unknown field; did you mean "priority"?',
        ),
        ({"aliases": [{"id": "a@b.example", "tag": "email_sha256"}]}, f"aliases[0].id: {HASH_FAULT}"),
        ({"aliases": [{"id": "a " * 32, "tag": "email_sha256"}]}, f"aliases[0].id: {HASH_FAULT}"),
        ({"aliases": [{"id": "é" * 64, "tag": "email_sha256"}]}, f"aliases[0].id: {HASH_FAULT}"),
        ({"aliases": [{"id": "a" * 63, "tag": "email_sha256"}]}, f"aliases[0].id: {HASH_FAULT}"),
        ({"colour": 1}, "colour: unknown field"),
        ({"colour - at `$.x`": 1}, "colour - at `$.x`: unknown field"),
        ({"workpsace": "w"}, 'workpsace: unknown field; did you mean "workspace"?'),
        ({"job_id": 1.5}, "job_id: expected int or str, got float"),
        ({"job_id": True}, "job_id: expected int or str, got bool"),
        ({"job_id": 2**63}, "job_id: expected int <= 9223372036854775807"),
        ({"destination": "schematic"}, "destination: unknown; known: permutive"),
    ],
)
def test_invalid_identify(fields, message):
    assert identify(**fields) == message


def test_missing_fields_are_named():
    assert invalid("identify", aliases=[]) == "user_id: missing"
    assert invalid("identify", user_id="u") == "aliases: missing"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"user_id": None}, "user_id: expected exactly one of user_id, alias, aliases"),
        ({"alias": {"id": "a", "tag": "t"}}, "user_id: expected exactly one of user_id, alias, aliases"),
        ({"user_id": None, "aliases": []}, "aliases: expected array of length >= 1"),
        ({"user_id": None, "alias": {"id": "a", "tag": "x_sha256"}}, f"alias.id: {HASH_FAULT}"),
        ({"user_id": None, "alias": {"id": "a", "tag": "t", "priority": 0}}, "alias.priority: unknown field"),
        ({"events": []}, "events: expected array of length >= 1"),
        (
            {"events": [EVENT, {**EVENT, "name": "a b"}]},
            "events[1].name: expected letters A-Z a-z, digits and _ only",
        ),
        ({"events": [{**EVENT, "name": ""}]}, "events[0].name: expected letters A-Z a-z, digits and _ only"),
        (
            {"events": [{**EVENT, "name": "a\n"}]},
            "events[0].name: expected letters A-Z a-z, digits and _ only",
        ),
        ({"events": [{**EVENT, "properties": []}]}, "events[0].properties: expected object"),
        ({"events": [{**EVENT, "properties": None}]}, "events[0].properties: expected object"),
        ({"events": [{"name": "A", "properties": {}}]}, "events[0].time: missing"),
        ({"events": [{**EVENT, "tme": 1}]}, 'events[0].tme: unknown field; did you mean "time"?'),
        ({"activations": "yes"}, "activations: expected bool, got str"),
    ],
)
def test_invalid_segmentation(fields, message):
    assert segmentation(**fields) == message


@pytest.mark.parametrize(
    "time",
    [
        "2025-07-01T15:39:11",
        "2025-07-01",
        "2025-02-30T00:00:00Z",
        "2025-07-01T25:00:00Z",
        "20250701T153911Z",
        "now",
        "",
        1751384351,
        None,
    ],
)
def test_a_time_without_a_zone_or_sense(time):
    assert segmentation(events=[{**EVENT, "time": time}]) == f"events[0].time: {TIME_FAULT}"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"user_id": None}, "user_id: missing; an event needs user_id or aliases"),
        ({"user_id": None, "aliases": []}, "aliases: expected array of length >= 1"),
        (
            {"time": EVENT["time"]},
            "time: not taken here, the API stamps its own; type segmentation takes one",
        ),
        ({"name": "a-b"}, "name: expected letters A-Z a-z, digits and _ only"),
        ({"properties": "x"}, "properties: expected object"),
        (
            {"properties": {"a": "x" * MAX_PROPERTIES_BYTES}},
            f"properties: {MAX_PROPERTIES_BYTES + 9} bytes, the API takes {MAX_PROPERTIES_BYTES}",
        ),
    ],
)
def test_invalid_event(fields, message):
    assert event(**fields) == message


def test_a_fault_keeps_a_valid_job_id():
    assert fault_of(b'{"type":"identify","job_id":"j"}').job_id == "j"
    assert fault_of(b'{"job_id":5}').job_id == 5
    assert fault_of(b'{"type":"identify","job_id":[5]}').job_id is None


def test_the_default_kind_names_lines_without_a_type():
    job = Decoder("identify").decode(b'{"user_id":"u","aliases":[]}')

    assert not isinstance(job, Fault)
    assert job.body(0) == b'{"user_id":"u","aliases":[]}'


def test_a_type_on_the_line_wins_over_the_default():
    job = Decoder("identify").decode(b'{"type":"event","user_id":"u","name":"A"}')

    assert job.kind == "event"


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        (b'{"aliases":[]}', "identify", "user_id: missing"),
        (b'{"type":"event","name":"A"}', "event", "user_id: missing; an event needs user_id or aliases"),
        (b'{"type":"x"}', "", f'type: unknown kind "x"; known: {", ".join(KINDS)}'),
    ],
)
def test_faults_with_a_default_kind(line, kind, message):
    assert fault_of(line, "identify") == Fault(Reason.INVALID, message, kind)


def test_an_unknown_default_kind_is_refused():
    with pytest.raises(ConfigurationError, match="known: identify, segmentation, event"):
        Decoder("identfy")
