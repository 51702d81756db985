"""Three real workers at one queue: one killed, one stopped, one that came late."""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress

import pytest
from support.brokers import BROKERS
from support.program import KEY, start

from permutive_worker.sandbox.app import Sandbox
from permutive_worker.sandbox.options import SandboxOptions

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]

# QUEUE_JOBS=20000 is the whole proof; in CI fewer show the same.
JOBS = int(os.environ.get("QUEUE_JOBS", "3000"))
IN_FLIGHT = 32
RATE = JOBS / 10  # of one worker: the whole takes some seconds, so that there is a middle
# Answered and not acknowledged yet when the process dies: groups of 20 ms, and one round trip; a loaded machine is slower.
UNTOLD_SECONDS = 0.1
UNTOLD = int(RATE * UNTOLD_SECONDS)


def job(number):
    line = {"type": "identify", "user_id": f"user-{number}", "aliases": [], "job_id": f"job-{number}"}
    return json.dumps(line).encode()


@pytest.fixture(params=BROKERS)
async def broker(request, tmp_path):
    (tmp_path / "broker").mkdir()
    started = BROKERS[request.param](tmp_path / "broker")
    started.serve_many()
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def sandbox(broker):
    options = SandboxOptions(latency_seconds=0.01, retry_after_seconds=3 * broker.lease_seconds)
    async with Sandbox(options) as started:
        yield started


@pytest.fixture
async def worker(tmp_path, broker, sandbox):
    """Starts workers, and leaves none behind."""
    processes = []

    rate = min(JOBS, broker.most_jobs) / 10

    async def start_one():
        name = f"worker-{len(processes)}"
        log = (tmp_path / f"{name}.log").open("wb")
        process = await start(
            *("run", broker.url, "--create", "--base-url", sandbox.url, "--rate", f"{rate:g}"),
            *(
                "--max-in-flight",
                IN_FLIGHT,
                "--dead-letters",
                f"{name}.ndjson",
                "--results",
                f"{name}.results",
            ),
            cwd=tmp_path,
            env={"PERMUTIVE_API_KEY": KEY, **broker.keys},
            stderr=log,
        )
        log.close()
        processes.append(process)
        return process

    yield start_one
    for process in processes:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def taken(sandbox, count):
    """Wait until the sandbox took so many different jobs."""
    best, waited = 0, 0.0
    while (unique := sandbox.summary()["unique"]) < count:
        waited = 0.0 if unique > best else waited + 0.1
        best = max(best, unique)
        assert waited < 60, f"stuck at {unique} of {count}"
        await asyncio.sleep(0.1)


def delivered(results):
    if not results.exists():  # on a busy machine the others can be done before it has begun
        return set()
    return {json.loads(line)["job_id"] for line in results.read_text().splitlines()}


async def test_nothing_is_lost_and_little_is_sent_twice(broker, sandbox, worker, tmp_path):
    jobs = min(JOBS, broker.most_jobs)
    for begin in range(0, jobs, 1000):
        await broker.publish([job(number) for number in range(begin, min(jobs, begin + 1000))])
    killed, stopped = await worker(), await worker()

    await taken(sandbox, jobs // 3)
    late = await worker()
    await taken(sandbox, jobs // 2)
    killed.send_signal(signal.SIGKILL)
    stopped.send_signal(signal.SIGTERM)
    assert await stopped.wait() in (0, 75)
    await taken(sandbox, jobs)
    late.send_signal(signal.SIGTERM)
    assert await late.wait() in (0, 75)

    ledger = sandbox.summary()
    print(f"{broker.url.partition(':')[0]}: {jobs} jobs, {ledger['duplicates']} sent twice", file=sys.stderr)
    assert ledger["unique"] == jobs
    moved = len(delivered(tmp_path / "worker-1.results") & delivered(tmp_path / "worker-2.results"))
    assert moved <= broker.moved_duplicates
    assert ledger["duplicates"] - moved <= IN_FLIGHT + (broker.more_duplicates or UNTOLD)
    assert not list(tmp_path.glob("worker-*.ndjson*"))
    source = broker.source()
    await source.open()
    with pytest.raises(TimeoutError):  # nothing is left, nothing was forgotten
        async with asyncio.timeout(3 * broker.lease_seconds + 1):
            raise AssertionError(len(await source.receive(1000)))
    await source.close()


async def test_a_pause_longer_than_any_lease_delivers_nothing_twice(broker, sandbox, worker):
    jobs = min(1000, broker.most_jobs)
    await broker.publish([job(number) for number in range(jobs)])
    workers = [await worker() for _ in range(broker.calm_workers)]
    await taken(sandbox, 100)

    sandbox.imitation.set_limit(0.001, 1)
    async with asyncio.timeout(30):
        while sum(status == 429 for _, status in sandbox.imitation.ledger.arrivals()) < 2:
            await asyncio.sleep(0.05)
    sandbox.imitation.set_limit(0)
    await taken(sandbox, jobs)
    for process in workers:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() in (0, 75)

    assert sandbox.summary()["duplicates"] == 0
