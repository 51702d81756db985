"""The real program against an API that throttles; what left when is read from the API's own clock."""

import json

import pytest
from support.program import program

from permutive_worker.sandbox.app import Sandbox
from permutive_worker.sandbox.options import SandboxOptions

pytestmark = pytest.mark.process


async def deliver(tmp_path, jobs, *arguments, **options):
    """Send so many jobs; return (seconds since the first request, status) of each request."""
    with (tmp_path / "jobs.ndjson").open("w") as file:
        for number in range(jobs):
            line = {"type": "identify", "user_id": f"user-{number}", "aliases": []}
            file.write(json.dumps(line) + "\n")
    async with Sandbox(SandboxOptions(**options)) as sandbox:
        ended = await program("run", "--base-url", sandbox.url, *arguments, "jobs.ndjson", cwd=tmp_path)
        arrivals = sandbox.imitation.ledger.arrivals()
    assert ended.code == 0, ended.text
    assert ended.summary["delivered"] == jobs
    return [(at - arrivals[0][0], status) for at, status in arrivals]


def delivered_per_second(arrivals, begin, end):
    return sum(status == 200 for at, status in arrivals if begin <= at < end) / (end - begin)


async def test_a_pause_is_kept_and_ends_in_a_ramp(tmp_path):
    arrivals = await deliver(
        tmp_path, 250, "--rate", "400", rate_limit_per_second=200, burst=20, retry_after_seconds=3
    )

    refused_at = next(at for at, status in arrivals if status == 429)
    later = [at for at, _ in arrivals if at > refused_at + 0.5]
    assert later[0] >= refused_at + 3.0
    assert sum(at < later[0] + 1.0 for at in later) <= 0.6 * 400


async def test_a_hidden_limit_is_found_and_used(tmp_path):
    arrivals = await deliver(tmp_path, 5000, rate_limit_per_second=400, burst=40, latency_seconds=0.02)

    assert delivered_per_second(arrivals, 4, 11) >= 0.85 * 400
    assert sum(status == 429 for _, status in arrivals) <= 0.02 * len(arrivals)


async def test_throttles_that_say_nothing_of_the_rate_do_not_slow_it_down(tmp_path):
    arrivals = await deliver(tmp_path, 3500, "--rate", "400", faults="429=0.01", latency_seconds=0.02)

    assert delivered_per_second(arrivals, 3, 8) >= 0.8 * 400
