"""Dead letters: what a record says, and that it can be sent again."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.errors import OutputError, UsageError
from permutive_worker.jobs.decode import Decoder, Fault
from permutive_worker.model import End, ErrorDetail, Reason
from permutive_worker.outcomes.dead_letters import (
    DeadLetter,
    DeadLetterWriter,
    parse_dead_letter,
    read_dead_letters,
)

IDENTIFY = b'{"type":"identify","job_id":"j-1","user_id":"u","aliases":[]}'
EVENT = {"name": "Pageview", "time": "2026-01-31T12:00:00Z", "properties": {"n": 1}}


def build_writer(path: Path, clock, scrub=lambda found: found, on_error=lambda: None) -> DeadLetterWriter:
    return DeadLetterWriter(
        path, run_id="run-1", worker="host:7", source="file", scrub=scrub, clock=clock, on_error=on_error
    )


async def write_one(path: Path, entry, clock, **options) -> dict:
    writer = build_writer(path, clock, **options)
    await writer.open()
    await writer.write([entry])
    await writer.close()
    return read_record(path)


def read_record(path: Path) -> dict:
    (line,) = path.read_bytes().splitlines()
    return json.loads(line)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "dead-letters.ndjson"


async def test_a_rejected_job_says_all_there_is_to_know(path, make_entry, clock):
    entry = make_entry(IDENTIFY, End.DEAD_LETTERED, body=b'{"error":"no"}', status=400)
    entry.workspace = "main"
    entry.error = ErrorDetail("BadRequest", "no", code=12, request_id="r-1")
    entry.trail = [(datetime(2026, 1, 31, tzinfo=UTC).timestamp(), 0.25, 503)]

    record = await write_one(path, entry, clock)

    assert len(record.pop("id")) == 32
    assert list(record.items()) == [
        ("schema", 1),
        ("run_id", "run-1"),
        ("at", "2026-01-31T12:00:00.250000Z"),
        ("type", "identify"),
        ("job", json.loads(IDENTIFY)),
        ("job_id", "j-1"),
        ("source", "file"),
        ("position", "jobs.ndjson:17"),
        ("workspace", "main"),
        ("reason", "rejected"),
        ("status", 400),
        ("error", {"type": "BadRequest", "message": "no", "code": 12, "request_id": "r-1"}),
        ("response", '{"error":"no"}'),
        ("attempts", [{"at": "2026-01-31T00:00:00Z", "elapsed_seconds": 0.25, "status": 503}]),
        ("worker", "host:7"),
    ]


async def test_what_is_not_known_is_null(path, make_entry, clock):
    record = await write_one(path, make_entry(b"no json", End.DEAD_LETTERED), clock)

    assert record["raw"] == "no json"
    assert [record[name] for name in ("type", "workspace", "status", "error", "response")] == [None] * 5
    assert record["attempts"] == []
    assert not {"job", "job_id", "raw_base64", "oversize_bytes", "delivered_events"} & record.keys()


async def test_what_the_api_did_not_say_of_an_error_is_null_too(path, make_entry, clock):
    entry = make_entry(IDENTIFY, End.DEAD_LETTERED)
    entry.error = ErrorDetail("timeout", "the API did not answer")

    record = await write_one(path, entry, clock)

    expected = {"type": "timeout", "message": "the API did not answer", "code": None, "request_id": None}
    assert record["error"] == expected


async def test_the_job_keeps_its_bytes(path, make_entry, clock):
    line = b'{ "type":"identify", "user_id":"\\u00fc\xc3\xbc", "aliases":[], "priority":1.00 }'
    await write_one(path, make_entry(line, End.DEAD_LETTERED), clock)

    assert b'"job":' + line in path.read_bytes()


async def test_a_job_with_returns_in_its_white_space_stays_one_line(path, make_entry, clock):
    record = await write_one(path, make_entry(b'{"type":"identify",\r "x":1.00}\r', End.DEAD_LETTERED), clock)

    assert record["job"] == {"type": "identify", "x": 1.0}
    assert b'"job":{"type":"identify","x":1.00}' in path.read_bytes()


async def test_a_job_in_parts_holds_only_what_was_not_delivered(path, make_entry, clock):
    job = {"type": "segmentation", "user_id": "u", "events": [EVENT | {"view_id": str(n)} for n in range(25)]}
    entry = make_entry(json.dumps(job).encode(), End.DEAD_LETTERED, part=2)

    record = await write_one(path, entry, clock)

    assert record["delivered_events"] == 20
    assert record["job"] == job | {"events": job["events"][20:]}


@pytest.mark.parametrize(
    ("line", "job_id"),
    [(b'{"type":"nothing","job_id":5}', 5), (b'{"job_id":{"a":1}}', None), (b"{}", None)],
)
async def test_an_object_that_is_no_job_is_kept_as_an_object(path, make_entry, clock, line, job_id):
    record = await write_one(path, make_entry(line, End.DEAD_LETTERED), clock)

    assert record["job"] == json.loads(line)
    assert record.get("job_id") == job_id


async def test_a_line_that_is_not_utf8_is_kept_in_base64(path, make_entry, clock):
    record = await write_one(path, make_entry(b'{"type":"\xff"}', End.DEAD_LETTERED), clock)

    assert record["raw_base64"] == "eyJ0eXBlIjoi/yJ9"
    assert "raw" not in record


async def test_of_a_large_line_the_beginning_is_kept_up_to_its_last_whole_character(path, make_entry, clock):
    entry = make_entry("{'ä".encode()[:-1], End.DEAD_LETTERED, oversize_bytes=2_000_000)
    entry.reason = Reason.TOO_LARGE

    record = await write_one(path, entry, clock)

    assert record["raw"] == "{'"
    assert record["oversize_bytes"] == 2_000_000
    (letter,) = read_dead_letters(path)
    assert not letter.whole


async def test_an_answer_is_kept_up_to_4_kib(path, make_entry, clock):
    record = await write_one(path, make_entry(IDENTIFY, End.DEAD_LETTERED, body=b"x" * 5000), clock)

    assert record["response"] == "x" * 4096


@pytest.mark.parametrize(
    ("line", "body"),
    [
        (IDENTIFY.replace(b"j-1", b"k-secret"), b"k-secret"),
        (b"no json k-secret", b""),
        (b"\xff k-secret", b""),
        (IDENTIFY, b"x" * 4092 + b"k-secret"),
    ],
)
async def test_no_part_of_a_key_reaches_the_file(path, make_entry, clock, line, body):
    record = await write_one(
        path,
        make_entry(line, End.DEAD_LETTERED, body=body),
        clock,
        scrub=lambda found: found.replace(b"k-secret", b"[key]"),
    )

    raw = msgspec.convert(record.get("raw_base64", ""), bytes, strict=False)
    assert "k-se" not in json.dumps(record)
    assert b"k-se" not in raw


async def test_a_group_that_cannot_be_written_is_counted_and_raised(tmp_path, make_entry, clock):
    errors = []
    writer = build_writer(tmp_path / "gone" / "letters.ndjson", clock, on_error=lambda: errors.append(1))

    with pytest.raises(OutputError):
        await writer.write([make_entry(IDENTIFY, End.DEAD_LETTERED)] * 2)

    assert errors == [1]


async def test_a_record_can_be_read_by_what_it_is_asked_for(path, make_entry, clock):
    entries = [make_entry(IDENTIFY, End.DEAD_LETTERED, status=status, body=b"") for status in (400, 503)]
    writer = build_writer(path, clock)
    await writer.write(entries)

    letters = list(read_dead_letters(path))

    assert [(letter.reason, letter.status, letter.at) for letter in letters] == [
        ("rejected", 400, clock.utc_now()),
        ("rejected", 503, clock.utc_now()),
    ]
    assert len({letter.id for letter in letters}) == 2
    assert [letter.line() for letter in letters] == [IDENTIFY, IDENTIFY]


def reread(entry, clock) -> DeadLetter:
    writer = build_writer(Path("unused"), clock)
    record = writer._dead_letter(entry, clock.utc_now())
    return parse_dead_letter(msgspec.json.encode(record))


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b'{"user_id":"u","aliases":[]}', "identify"),
        (b' { "user_id":"u", "aliases":[]}', "identify"),
        (b'{"name":"Pageview","user_id":"u"}', "event"),
    ],
)
def test_a_line_without_type_gets_it_from_the_record(make_entry, clock, line, kind):
    sent_again = reread(make_entry(line, End.DEAD_LETTERED, kind=kind), clock).line()

    job = Decoder().decode(sent_again)
    assert not isinstance(job, Fault), job
    assert job == Decoder(kind).decode(line)


def test_an_empty_object_gets_its_type_too(make_entry, clock):
    entry = make_entry(b"{}", End.DEAD_LETTERED, kind="identify")
    entry.kind = "identify"

    assert reread(entry, clock).line() == b'{"type":"identify"}'


JSON_LINES = st.builds(
    lambda value, indent: json.dumps(value, indent=indent).replace("\n", "\r").encode(),
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from([None, 1]),
)


@given(line=st.binary().map(lambda line: line.replace(b"\n", b"")) | JSON_LINES)
def test_any_line_becomes_one_record_that_gives_it_back(make_entry, clock, line):
    entry = make_entry(line, End.DEAD_LETTERED)
    record = msgspec.json.encode(build_writer(Path("unused"), clock)._dead_letter(entry, clock.utc_now()))

    assert b"\n" not in record
    json.loads(record)
    again = parse_dead_letter(record).line()
    assert again == line or json.loads(again) == json.loads(line)


@pytest.fixture
def record(make_entry, clock) -> bytes:
    entry = make_entry(IDENTIFY, End.DEAD_LETTERED)
    return msgspec.json.encode(build_writer(Path("unused"), clock)._dead_letter(entry, clock.utc_now()))


@pytest.mark.parametrize("torn_bytes", [1, 5, 15, 200])
@pytest.mark.parametrize("whole_lines", [0, 2])
def test_a_torn_last_line_is_told_and_left_out(path, record, torn_bytes, whole_lines):
    path.write_bytes((record + b"\n") * whole_lines + record[:torn_bytes])
    torn = []

    assert len(list(read_dead_letters(path, torn.append))) == whole_lines
    assert torn == [path]


def test_a_last_line_that_only_lacks_its_end_counts(path, record):
    path.write_bytes(record + b"\n\n" + record)
    torn = []

    assert len(list(read_dead_letters(path, torn.append))) == 2
    assert torn == []


def test_a_compressed_file_is_read_as_far_as_it_goes(tmp_path, record):
    path = tmp_path / "letters.ndjson.gz"
    path.write_bytes(gzip.compress((record + b"\n") * 3))
    assert len(list(read_dead_letters(path))) == 3

    path.write_bytes(path.read_bytes()[:-20])
    torn = []
    assert len(list(read_dead_letters(path, torn.append))) < 3
    assert torn == [path]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"type":"identify"}\n', ":1 is no line of a dead-letter file: it is no dead letter"),
        (b"x", "no line of a dead-letter file"),
        (b"\xff\xfe\n", "no line of a dead-letter file"),
        (b"[" * 5000, "no line of a dead-letter file"),
    ],
)
def test_a_file_of_something_else_is_a_usage_error(path, content, said):
    path.write_bytes(content)

    with pytest.raises(UsageError, match=said):
        list(read_dead_letters(path))


def test_a_record_of_a_newer_version_is_refused(record):
    with pytest.raises(ValueError, match="schema 2, which a newer version wrote"):
        parse_dead_letter(record.replace(b'"schema":1', b'"schema":2'))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.ndjson", None, "No such file or directory"),
        ("letters.ndjson.gz", b"plain", "is no gzip file"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(UsageError, match=said):
        list(read_dead_letters(tmp_path / name))
