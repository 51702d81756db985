"""What the API may have taken without saying so: counted, and never repeated if that was asked for."""

import asyncio
import json
import signal

import pytest
from support.program import program, start

from permutive_worker.sandbox.app import Sandbox
from permutive_worker.sandbox.options import SandboxOptions

pytestmark = pytest.mark.process

NO_REPEATS = ("--set", "delivery.ambiguous=dead_letter")


def identify(number):
    return json.dumps({"type": "identify", "user_id": f"user-{number}", "aliases": []}) + "\n"


def segmentation(number):
    events = [{"name": f"E{n}", "time": "2026-01-01T00:00:00Z", "properties": {}} for n in range(25)]
    return json.dumps({"type": "segmentation", "user_id": f"user-{number}", "events": events}) + "\n"


def letters(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("job", [identify, segmentation])
async def test_nothing_ambiguous_is_repeated_within_a_run(tmp_path, job):
    (tmp_path / "jobs.ndjson").write_text("".join(map(job, range(500))))
    async with Sandbox(SandboxOptions(faults="reset=0.05,500=0.02,502=0.02,504=0.02,503=0.05")) as sandbox:
        run = await program(
            *("run", "--base-url", sandbox.url, *NO_REPEATS, "--max-failure-ratio", "1", "jobs.ndjson"),
            *("--set", "delivery.backoff_initial_seconds=0.05"),
            cwd=tmp_path,
        )
        ledger = sandbox.imitation.ledger
    dead = letters(tmp_path / "dead-letters.ndjson")

    assert run.code == 3, run.text
    assert ledger.duplicates == 0
    assert {letter["reason"] for letter in dead} == {"ambiguous"}
    faults = sum(ledger.faults[kind] for kind in ("reset", "500", "502", "504"))
    assert run.summary["ambiguous"] == run.summary["dead_lettered"] == len(dead) == faults
    assert run.summary["retries"] == ledger.faults["503"]


@pytest.mark.parametrize(("flags", "reason"), [(NO_REPEATS, "ambiguous"), ((), None)])
async def test_an_attempt_cut_by_a_stop_is_returned_or_a_dead_letter_as_was_asked(tmp_path, flags, reason):
    async with Sandbox(SandboxOptions(latency_seconds=30)) as sandbox:  # taken at once, answered too late
        process = await start(
            *("run", "--base-url", sandbox.url, "--max-in-flight", "4", *flags),
            *("--set", "delivery.drain_seconds=0.2"),
            cwd=tmp_path,
            stdin=asyncio.subprocess.PIPE,
        )
        process.stdin.write("".join(map(identify, range(50))).encode())
        await process.stdin.drain()
        ledger = sandbox.imitation.ledger
        async with asyncio.timeout(30):
            while ledger.taken < 4:
                await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, stderr = await process.communicate()
    returned = (tmp_path / "dead-letters.returned.ndjson").read_text().splitlines()
    dead = letters(tmp_path / "dead-letters.ndjson") if reason else []

    assert process.returncode == 75, stderr
    assert b'"ambiguous":4' in stderr.replace(b" ", b"")
    assert b'"requests":4' in stderr.replace(b" ", b"")  # they were sent, and the API counts them too
    assert [letter["reason"] for letter in dead] == [reason] * (4 if reason else 0)
    assert len(returned) + len(dead) == 50
