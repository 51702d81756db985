"""200,000 lines through an API that answers every tenth with 500, resets, hangs, throttles and breaks off."""

import json
import uuid

import pytest
from support.program import program
from support.sandbox_process import sandbox_process

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

LINES = 200_000
REJECTED_EVERY = 400  # these have a user_id that the API refuses
FAULTS = "500=0.1,reset=0.02,hang=0.01,429=0.01,truncate=0.001"


def _line(number):
    user = f"not-a-uuid-{number}" if number % REJECTED_EVERY == 0 else str(uuid.UUID(int=number))
    return b'{"type":"identify","user_id":"%s","aliases":[],"job_id":%d}\n' % (user.encode(), number)


def records(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


async def test_every_line_ends_where_it_should_and_the_dead_letters_are_the_rejected_ones(tmp_path):
    with (tmp_path / "jobs.ndjson").open("wb") as jobs:
        jobs.writelines(map(_line, range(1, LINES + 1)))
    async with sandbox_process(f"--faults={FAULTS}", "--strict-ids") as sandbox:
        ended = await program(
            "run",
            f"--base-url={sandbox.url}",
            "--timeout=1",
            "--results=results.ndjson",
            "--max-attempts=100",
            "jobs.ndjson",
            cwd=tmp_path,
        )
        ledger = await sandbox.ask("ledger")

    assert ended.code == 3, ended.text
    summary = ended.summary
    rejected = set(range(REJECTED_EVERY, LINES + 1, REJECTED_EVERY))
    assert summary["read"] == LINES == summary["delivered"] + summary["dead_lettered"]
    letters = records(tmp_path / "dead-letters.ndjson")
    assert {letter["reason"] for letter in letters} == {"rejected"}
    assert sorted(letter["job_id"] for letter in letters) == sorted(rejected)
    results = [record["job_id"] for record in records(tmp_path / "results.ndjson")]
    assert len(results) == len(set(results)) == LINES - len(rejected)
    assert ledger["unique"] == LINES - len(rejected), "what was called delivered is what the API has"
    assert ledger["duplicates"] <= summary["ambiguous"]
    assert ledger["faults"]["hang"] > 0
