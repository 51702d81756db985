"""A refused key, kind or path: real processes against the sandbox, the key file swapped while they run."""

import asyncio
import json
import re

import aiohttp
import pytest
from support.program import KEY, Ended, program, start
from support.raw_server import raw_server

from permutive_worker.control.halt import PROBE_SECONDS
from permutive_worker.sandbox.app import Sandbox
from permutive_worker.sandbox.options import SandboxOptions

pytestmark = pytest.mark.process

OLD, NEW = "old-key-1b21f2a0-6d5c", "new-key-77c3e9d4-0a8e"
PLACES = 16


def identify(number):
    return {"type": "identify", "user_id": f"user-{number}", "aliases": []}


def event(number):
    return {"type": "event", "name": "Bought", "user_id": f"buyer-{number}"}


def write(path, jobs):
    path.write_text("".join(json.dumps(job) + "\n" for job in jobs))


@pytest.fixture
async def sandbox():
    async with Sandbox(SandboxOptions(keep_bodies=True, latency_seconds=0.01)) as started:
        yield started


@pytest.fixture
async def begin():
    """`start`, and nothing of it is left when a test fails."""
    begun = []

    async def begin(*arguments, **given):
        begun.append(await start(*arguments, **given))
        return begun[-1]

    yield begin
    for process in begun:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def admin_url(process):
    """Where it listens, and the log so far."""
    log = b""
    while not (found := re.search(rb"url=(http://\S+)|\"url\": ?\"(http://[^\"]+)", log)):
        line = await process.stderr.readline()
        assert line, log
        log += line
    return (found[1] or found[2]).decode(), log


async def until(condition):
    async with asyncio.timeout(40):
        while not await condition():
            await asyncio.sleep(0.05)


async def ended(process, log=b""):
    stdout, stderr = await process.communicate()
    return Ended(process.returncode, stdout, log + stderr)


async def test_a_key_file_that_is_replaced_resumes_the_run_without_a_restart(tmp_path, sandbox, begin):
    write(tmp_path / "jobs.ndjson", map(identify, range(1500)))
    (tmp_path / "key").write_text(OLD)
    (tmp_path / "key").chmod(0o600)
    sandbox.imitation.set_keys([OLD])
    process = await begin(
        *("run", "--base-url", sandbox.url, "--rate", "500", "--max-in-flight", PLACES),
        *("--admin", "127.0.0.1:0", "jobs.ndjson"),
        cwd=tmp_path,
        env={"PERMUTIVE_API_KEY_FILE": str(tmp_path / "key")},
    )
    url, log = await admin_url(process)
    ledger = sandbox.imitation.ledger

    async def some_delivered():
        return ledger.taken >= 200

    await until(some_delivered)
    sandbox.imitation.set_keys([NEW])
    async with aiohttp.ClientSession() as http:

        async def page(path):
            async with http.get(url + path) as answer:
                return answer.status, await answer.text()

        async def is_halted():
            return await page("/readyz") == (503, "halted\n")

        await until(is_halted)
        status = json.loads((await page("/status"))[1])
        assert [(halt["kind"], halt["status"]) for halt in status["lanes"][0]["halts"]] == [(None, 401)]
        metrics = (await page("/metrics"))[1]
        assert "permutive_worker_credentials_valid 0.0" in metrics
        assert (await page("/livez"))[0] == 200
    refused = ledger.by_status[401]
    assert refused <= PLACES + 2
    swapped_at = asyncio.get_running_loop().time()
    (tmp_path / "key.new").write_text(NEW)
    (tmp_path / "key.new").rename(tmp_path / "key")

    run = await ended(process, log)

    assert run.code == 0, run.text
    assert (run.summary["delivered"], run.summary["dead_lettered"]) == (1500, 0)
    resumed_at = min(at for at, code in ledger.arrivals() if code == 200 and at > swapped_at)
    assert resumed_at - swapped_at < 2 * PROBE_SECONDS
    assert (ledger.by_status[401] - refused) <= 3
    assert ledger.duplicates == 0
    assert OLD not in run.text
    assert NEW not in run.text


async def test_a_kind_that_is_forbidden_is_probed_while_the_others_are_delivered(tmp_path, sandbox, begin):
    sandbox.imitation.set_faults("event:403=1")
    write(tmp_path / "jobs.ndjson", [make(n) for n in range(300) for make in (identify, event)])
    process = await begin(
        *("run", "--base-url", sandbox.url, "--max-in-flight", PLACES, "jobs.ndjson"), cwd=tmp_path
    )
    ledger = sandbox.imitation.ledger

    async def all_of_the_other_kind():
        return ledger.by_kind["identify"] == 300

    await until(all_of_the_other_kind)
    assert ledger.by_status[403] <= PLACES + 2
    sandbox.imitation.set_faults("none")
    run = await ended(process)

    assert run.code == 0, run.text
    assert (run.summary["delivered"], run.summary["dead_lettered"]) == (600, 0)


async def test_a_job_that_is_always_forbidden_is_rejected_and_nobody_else_is_held(tmp_path, sandbox):
    sandbox.imitation.set_faults('@"user-7":403=1,@"user-400":403=1')
    write(tmp_path / "jobs.ndjson", map(identify, range(1000)))

    run = await program("run", "--base-url", sandbox.url, "--rate", "300", "jobs.ndjson", cwd=tmp_path)

    assert run.code == 3, run.text
    assert (run.summary["delivered"], run.summary["dead_lettered"]) == (998, 2)
    letters = [json.loads(line) for line in (tmp_path / "dead-letters.ndjson").read_text().splitlines()]
    assert {(letter["reason"], letter["status"]) for letter in letters} == {("rejected", 403)}
    assert [letter["job"]["user_id"] for letter in letters] == ["user-7", "user-400"]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_never_worked_ends_after_one_probe(tmp_path, sandbox, status):
    sandbox.imitation.set_faults(f"{status}=1")
    write(tmp_path / "jobs.ndjson", map(identify, range(100)))

    run = await program("run", "--base-url", sandbox.url, "--max-in-flight", "1", "jobs.ndjson", cwd=tmp_path)

    assert run.code == 77, run.text
    assert (run.summary["dead_lettered"], run.summary["requests"]) == (0, 2)


async def test_a_halt_that_lasts_too_long_ends_by_the_clock_while_its_probe_hangs(tmp_path, sandbox, begin):
    write(tmp_path / "jobs.ndjson", map(identify, range(2000)))
    process = await begin(
        *("run", "--base-url", sandbox.url, "--rate", "200", "jobs.ndjson"),
        *("--set", "delivery.max_halt_seconds=2", "--set", "delivery.drain_seconds=0.2"),
        cwd=tmp_path,
    )
    ledger = sandbox.imitation.ledger

    async def some_delivered():
        return ledger.taken >= 50

    async def refused():
        return ledger.by_status[401] >= 1

    await until(some_delivered)
    sandbox.imitation.set_keys([])
    await until(refused)
    sandbox.imitation.set_keys(None)
    sandbox.imitation.set_faults("hang=1")
    run = await ended(process)

    assert run.code == 77, run.text
    assert run.summary["dead_lettered"] == 0
    assert run.summary["read"] == run.summary["delivered"] + run.summary["returned"]


async def test_a_redirect_is_not_followed_and_what_it_echoes_is_not_shown(tmp_path):
    write(tmp_path / "jobs.ndjson", map(identify, range(3)))
    async with raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as elsewhere:
        location = f"{elsewhere.url}/?k={KEY}".encode()
        head = b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % location
        async with raw_server(head) as server:
            run = await program(
                *("run", "--base-url", server.url, "--log-level", "debug", "jobs.ndjson"), cwd=tmp_path
            )
        assert elsewhere.requests == []
    assert run.code == 78, run.text
    assert "http.base_url" in run.text
    assert KEY not in run.text
    assert run.summary["dead_lettered"] == 0
