"""The rate by the server's own timestamps, with a fifth of all requests to be repeated."""

import json

import pytest
from support.program import program
from support.sandbox_process import sandbox_process

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

RATE, BURST, JOBS = 200, 10, 2400  # about 15 s


async def test_no_second_has_more_than_the_rate_and_a_burst_retries_included(tmp_path):
    jobs = [{"type": "identify", "user_id": f"user-{number}", "aliases": []} for number in range(JOBS)]
    (tmp_path / "jobs.ndjson").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    async with sandbox_process("--faults=500=0.15,reset=0.05") as sandbox:
        ended = await program(
            "run",
            f"--base-url={sandbox.url}",
            f"--rate={RATE}",
            f"--burst={BURST}",
            "--set=delivery.backoff_initial_seconds=0.2",
            "jobs.ndjson",
            cwd=tmp_path,
        )
        arrivals = [at for at, _ in await sandbox.ask("ledger/arrivals")]

    assert (ended.code, ended.summary["delivered"]) == (0, JOBS), ended.text
    assert ended.summary["retries"] > JOBS / 10
    oldest, most = 0, 0
    for newest, at in enumerate(arrivals):
        while arrivals[oldest] <= at - 1:
            oldest += 1
        most = max(most, newest - oldest + 1)
    assert most <= RATE + BURST
    # While there was work enough; at the end it waits for back-offs.
    busy = arrivals[: JOBS * 3 // 4]
    assert len(busy) / (busy[-1] - busy[0]) >= 0.9 * RATE
