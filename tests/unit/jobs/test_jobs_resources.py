"""Lines about cohorts and segments."""

import json

import pytest

from permutive_worker.jobs.decode import Decoder, Fault
from permutive_worker.model import Job


def job(kind: str, **fields: object) -> Job:
    decoded = Decoder().decode(json.dumps({"type": kind, **fields}).encode())
    assert not isinstance(decoded, Fault), decoded
    return decoded


def fault(kind: str, **fields: object) -> str:
    decoded = Decoder().decode(json.dumps({"type": kind, **fields}).encode())
    assert isinstance(decoded, Fault), decoded
    return decoded.message


def test_a_query_goes_out_byte_for_byte():
    line = b'{"type":"cohort.create","name":"VIP","query":{"a" :1.50,"b":[true, null]}}'

    decoded = Decoder().decode(line)

    assert decoded.body(0) == b'{"name":"VIP","query":{"a" :1.50,"b":[true, null]}}'


def test_null_deletes_a_description_and_nothing_else():
    assert job("cohort.update", id="i", description=None).body(0) == b'{"description":null}'
    nulls = dict.fromkeys(("query", "tags", "state", "name"))
    assert job("cohort.update", id="i", description="d", **nulls).body(0) == b'{"description":"d"}'


def test_no_price_is_made_up():
    assert job("segment.create", import_id="m", code="c", name="n").body(0) == b'{"code":"c","name":"n"}'
    assert job("segment.update", import_id="m", code="c", name="n").body(0) == b'{"name":"n"}'
    assert job("segment.update", import_id="m", code="c", cpm=0).body(0) == b'{"cpm":0.0}'


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("cohort.update", {"id": "i", "name": "n"}), ("cohort.delete", {"id": "i"})),
        (
            ("cohort.create", {"id": "i", "name": "n", "query": {}}),
            ("cohort.update", {"id": "i", "name": "n"}),
        ),
        (
            ("segment.create", {"import_id": "m", "code": "c", "name": "n"}),
            ("segment.update", {"import_id": "m", "code": "c", "name": "o"}),
        ),
        (
            ("segment.update", {"import_id": "m", "code": "c", "name": "o"}),
            ("segment.delete", {"import_id": "m", "code": "c"}),
        ),
        (
            ("segment.update", {"import_id": "m", "id": "s", "name": "o"}),
            ("segment.delete", {"import_id": "m", "id": "s"}),
        ),
    ],
)
def test_lines_about_one_thing_keep_their_order(one, other):
    assert job(one[0], **one[1]).user() == job(other[0], **other[1]).user()


def test_lines_about_two_things_need_not():
    assert job("cohort.create", name="n", query={}).user() is None
    codes = {job("segment.delete", import_id=m, code=c).user() for m in "ab" for c in "ab"}
    assert len(codes | {job("segment.delete", import_id="a", id="a").user()}) == 5


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("cohort.create", {"name": "n"}, "query: missing"),
        ("cohort.create", {"name": "n", "query": []}, "query: expected object"),
        ("cohort.create", {"name": "", "query": {}}, "name: expected str of length >= 1"),
        ("cohort.create", {"name": "n", "querry": {}}, 'querry: unknown field; did you mean "query"?'),
        (
            "cohort.update",
            {"id": "i"},
            "name: missing; an update needs name, description, query, tags or state",
        ),
        ("cohort.update", {"id": "i", "state": "On"}, "state: expected Enabled or Disabled"),
        ("cohort.update", {"id": "..", "name": "n"}, "id: . and .. cannot stand in a path"),
        ("cohort.delete", {}, "id: missing"),
        ("segment.create", {"import_id": "m", "name": "n"}, "code: missing"),
        (
            "segment.update",
            {"import_id": "m", "code": "c"},
            "name: missing; an update needs name, description, cpm or categories",
        ),
        ("segment.update", {"import_id": "m", "name": "n"}, "code: expected exactly one of code, id"),
        (
            "segment.delete",
            {"import_id": "m", "code": "c", "id": "i"},
            "code: expected exactly one of code, id",
        ),
        ("segment.delete", {"import_id": "m", "code": "."}, "code: . and .. cannot stand in a path"),
    ],
)
def test_what_is_wrong_is_told(kind, fields, message):
    assert fault(kind, **fields) == message
