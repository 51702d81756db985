"""`dead-letters summarize`: what failed, how often, where to look."""

import gzip
import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from permutive_worker.cli.dead_letters import dead_letters
from permutive_worker.errors import UsageError
from permutive_worker.jobs.dead_letter import DeadLetter
from permutive_worker.model import ErrorDetail


def build_letter(
    number: int, reason: str = "rejected", status: int | None = 400, code: int | None = 12, day: int = 30
) -> bytes:
    letter = DeadLetter(
        schema=1,
        id=str(number),
        run_id="run-1",
        at=datetime(2026, 1, day, 23, 59, tzinfo=UTC),
        type="identify",
        job=msgspec.Raw(b"{}"),
        source="file",
        position=f"jobs.ndjson:{number}",
        workspace=None,
        reason=reason,
        status=status,
        error=ErrorDetail("BadRequest", "no", code=code) if status else None,
        response=None,
        attempts=[],
        worker="host:7",
    )
    return msgspec.json.encode(letter) + b"\n"


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "letters.ndjson"
    path.write_bytes(
        build_letter(1, reason="malformed", status=None)
        + b"".join(build_letter(number) for number in range(2, 7))
        + build_letter(7, day=31)
        + build_letter(8, reason="exhausted", status=503, code=None)
    )
    return path


def summarize(*arguments: object):
    return CliRunner().invoke(dead_letters, ["summarize", *map(str, arguments)])


def test_the_largest_group_comes_first_with_three_examples(file):
    result = summarize(file)

    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "count  reason     status  code  day         examples",
        "5      rejected   400     12    2026-01-30  jobs.ndjson:2 jobs.ndjson:3 jobs.ndjson:4",
        "1      malformed  -       -     2026-01-30  jobs.ndjson:1",
        "1      rejected   400     12    2026-01-31  jobs.ndjson:7",
        "1      exhausted  503     -     2026-01-30  jobs.ndjson:8",
        "8 dead letters in 1 file",
    ]


def test_json_is_one_object(file, tmp_path):
    compressed = tmp_path / "more.ndjson.gz"
    compressed.write_bytes(gzip.compress(build_letter(9)))

    result = summarize("--json", file, compressed)

    summary = json.loads(result.stdout)
    assert (summary["total"], summary["torn"], summary["files"]) == (9, [], [str(file), str(compressed)])
    assert summary["groups"][0] == {
        "reason": "rejected",
        "status": 400,
        "code": 12,
        "day": "2026-01-30",
        "count": 6,
        "examples": ["jobs.ndjson:2", "jobs.ndjson:3", "jobs.ndjson:4"],
    }


def test_a_torn_last_line_is_mentioned_and_not_counted(file):
    file.write_bytes(file.read_bytes() + build_letter(9)[:50])

    result = summarize("--json", file)

    assert "the last line breaks off" in result.stderr
    assert (json.loads(result.stdout)["total"], json.loads(result.stdout)["torn"]) == (8, [str(file)])


def test_an_empty_file_has_no_dead_letters(tmp_path):
    (tmp_path / "empty").touch()

    assert summarize(tmp_path / "empty").output.splitlines()[-1] == "0 dead letters in 1 file"


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file or directory"), (b'{"type":"identify"}\n', "is no line of a dead-letter file")],
)
def test_what_is_no_dead_letter_file_is_a_usage_error_that_says_so(tmp_path, content, said):
    path = tmp_path / "letters.ndjson"
    if content is not None:
        path.write_bytes(content)

    error = summarize(path).exception

    assert isinstance(error, UsageError)
    assert error.exit_code == 64
    assert str(path) in str(error)
    assert said in str(error)


def test_what_a_terminal_would_obey_is_not_printed(tmp_path):
    path = tmp_path / "letters.ndjson"
    path.write_bytes(build_letter(1).replace(b"jobs.ndjson", b"\\u001b[2Jjobs"))

    assert "\N{REPLACEMENT CHARACTER}[2Jjobs:1" in summarize(path).output


def test_at_a_terminal_it_is_a_table(file):
    program = "from permutive_worker.cli.dead_letters import dead_letters; dead_letters()"
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm", "COLUMNS": "120"}
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program, "summarize", file], stdout=end, env={**os.environ, **environment}
    )
    os.close(end)

    assert process.wait() == 0
    shown = os.read(terminal, 65536).decode()
    os.close(terminal)
    assert "━" in shown
    assert "jobs.ndjson:4" in shown
    assert "8 dead letters in 1 file" in shown
