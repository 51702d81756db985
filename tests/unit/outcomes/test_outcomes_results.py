"""Result lines, and stdout as their file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.model import End
from permutive_worker.outcomes.results import ResultWriter, embeddable

IDENTIFY = b'{"type":"identify","job_id":7,"user_id":"u","aliases":[]}'
THREE_PARTS = json.dumps(
    {
        "type": "segmentation",
        "user_id": "u",
        "events": [{"name": "Pageview", "time": "2026-01-31T12:00:00Z", "properties": {}}] * 25,
    }
).encode()


def as_it_is(lines: bytes) -> bytes:
    return lines


async def write(path, entries, clock, scrub=as_it_is) -> bytes:
    writer = ResultWriter(str(path), scrub, clock)
    await writer.write(entries)
    await writer.close()
    return path.read_bytes()


async def test_a_result_says_what_was_delivered_and_what_it_took(tmp_path, make_entry, clock):
    entry = make_entry(IDENTIFY, End.DELIVERED, body=b'{"user_id": "r", "n": 1.00}')
    entry.attempts = 3

    line = await write(tmp_path / "results.ndjson", [entry], clock)

    assert line == (
        b'{"job_id":7,"type":"identify","position":"jobs.ndjson:17","status":200,"attempts":3,"requests":1,'
        b'"elapsed_seconds":1.5,"response":{"user_id": "r", "n": 1.00}}\n'
    )


async def test_a_job_without_id_has_none_and_a_job_of_three_parts_three_requests(tmp_path, make_entry, clock):
    entry = make_entry(THREE_PARTS, End.DELIVERED, body=b"", part=2)

    line = json.loads(await write(tmp_path / "results.ndjson", [entry], clock))

    assert "job_id" not in line
    assert line["requests"] == 3
    assert line["response"] is None


async def test_keys_are_scrubbed_from_the_group(tmp_path, make_entry, clock):
    entries = [make_entry(IDENTIFY, End.DELIVERED, body=b'{"said":"k-secret"}')] * 2

    lines = await write(
        tmp_path / "results.ndjson", entries, clock, lambda group: group.replace(b"k-secret", b"[key]")
    )

    assert [json.loads(line)["response"] for line in lines.splitlines()] == [{"said": "[key]"}] * 2


async def test_results_are_appended_and_can_be_synced_at_any_time(tmp_path, make_entry, clock):
    path = tmp_path / "results.ndjson"
    path.write_bytes(b"before\n")
    writer = ResultWriter(str(path), as_it_is, clock)
    await writer.open()
    await writer.sync()
    await writer.write([])
    assert path.read_bytes() == b"before\n"

    await writer.write([make_entry(IDENTIFY, End.DELIVERED, body=b"{}")])
    await writer.sync()
    await writer.sync()
    await writer.close()
    await writer.close()

    assert path.read_bytes().startswith(b'before\n{"job_id":7,')


@pytest.mark.parametrize(
    ("body", "embedded"),
    [
        (b'{"a" : 1.0}', b'{"a" : 1.0}'),
        (b'{\n "a": 12345678901234567890123, "b": "\\n"\r\n}\n', b'{"a":12345678901234567890123,"b":"\\n"}'),
        (b"<html>", b'"<html>"'),
        (b'{"broken', b'"{\\"broken"'),
        (b'"\xff"', '"\\"\ufffd\\""'.encode()),
        (b"NaN", b'"NaN"'),
        (b"[" * 100_000 + b"]" * 100_000, b'"' + b"[" * 100_000 + b"]" * 100_000 + b'"'),
        (b"", b"null"),
    ],
)
def test_an_answer_is_embedded_as_json_or_as_text(body, embedded):
    assert msgspec.json.encode(embeddable(body)) == embedded


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(JSON, st.sampled_from([None, 0, 2]), st.booleans())
def test_json_stays_the_same_json_on_one_line(value, indent, ascii_only):
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode(errors="replace")

    line = msgspec.json.encode(embeddable(body))

    assert json.loads(line) == json.loads(body)
    assert b"\n" not in line


@given(st.binary())
def test_any_bytes_are_embedded_as_one_line_of_json(body):
    line = msgspec.json.encode(embeddable(body))

    json.loads(line)
    assert b"\n" not in line


TO_STDOUT = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from conftest import StoppedClock, build_entry
from permutive_worker.errors import WorkerError
from permutive_worker.model import End
from permutive_worker.outcomes.results import ResultWriter

async def main():
    writer = ResultWriter("-", lambda lines: lines, StoppedClock())
    await writer.open()
    entry = build_entry(b'{"type":"identify","user_id":"u","aliases":[]}', End.DELIVERED, body=b"{}")
    await writer.write([entry] * int(sys.argv[2]))
    await writer.sync()
    await writer.close()

try:
    asyncio.run(main())
except (WorkerError, BrokenPipeError) as error:
    sys.stderr.write(f"{type(error).__name__}: {error}")
"""


def run_to_stdout(stdout: int | None, count: int, **options) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-c", TO_STDOUT, str(Path(__file__).parent), str(count)]
    return subprocess.Popen(
        arguments, stdout=stdout, stderr=subprocess.PIPE, env=environment, text=True, **options
    )


def test_stdout_gets_every_line_though_its_pipe_is_small_and_does_not_block():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = run_to_stdout(writer, 2000)
    os.close(writer)

    with open(reader, "rb") as pipe:
        lines = pipe.read().splitlines()

    assert process.communicate() == (None, "")
    assert [json.loads(line)["type"] for line in lines] == ["identify"] * 2000


def test_a_reader_that_left_stdout_is_told_as_a_broken_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    process = run_to_stdout(writer, 1)
    os.close(writer)

    assert process.communicate()[1].startswith("BrokenPipeError: ")


def test_a_stdout_that_cannot_be_written_is_an_output_error():
    with open("/dev/full", "wb") as full:
        process = run_to_stdout(full.fileno(), 1)

    assert process.communicate()[1].startswith("OutputError: cannot write results to stdout: No space left")


def test_a_closed_stdout_is_a_configuration_error():
    process = run_to_stdout(None, 1, preexec_fn=lambda: os.close(1))

    assert process.communicate()[1].startswith("ConfigurationError: stdout is closed")
