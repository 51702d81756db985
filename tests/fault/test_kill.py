"""A worker that is killed, or stopped, again and again: nothing is missing, and little or nothing comes twice.

`kills` is the number of kills in one case; each comes at a random moment, after at least
`PROGRESS` more jobs were taken. The sandbox's ledger says what arrived.
"""

import asyncio
import gzip
import json
import random
import signal

import pytest
from support.program import start

from permutive_worker.sandbox.app import Sandbox
from permutive_worker.sandbox.options import SandboxOptions

pytestmark = pytest.mark.process

PROGRESS = 1_000
RATE = 5_000
IN_FLIGHT = 64
# What one kill may repeat: what is in flight, and what was answered since the last checkpoint: 20 ms for the
# settler's group and 50 ms for the checkpoint, and as much again for a machine that is busy.
TWICE_AT_MOST = IN_FLIGHT + int(RATE * 0.07 * 2)


def job_lines(count):
    for number in range(count):
        yield b'{"type":"identify","user_id":"u%d","aliases":[],"job_id":%d}\n' % (number, number)


def write_jobs(path, count, pack=bytes):
    path.write_bytes(pack(b"".join(job_lines(count))))


class Run:
    """One worker over one input, started as often as it takes."""

    def __init__(self, sandbox, folder, name, *more, between=2 * PROGRESS):
        self.sandbox = sandbox
        self.folder = folder
        self.arguments = ("run", name, "--base-url", sandbox.url, "--rate", RATE, "--burst", 100, *more)
        self.between = between  # jobs from one stop to the next, less what starting takes
        self.stops = 0

    async def until_killed(self, how, chance):
        """One life; True if it ended by itself. A life that is cut short has made progress."""
        taken = self.sandbox.summary()["taken"]
        enough = taken + chance.randrange(PROGRESS, max(self.between - PROGRESS, PROGRESS + 1))
        process = await start(*self.arguments, "--max-in-flight", IN_FLIGHT, cwd=self.folder)
        ended = asyncio.create_task(process.communicate())
        while not ended.done() and self.sandbox.summary()["taken"] < enough:
            await asyncio.sleep(0.005)
        if not ended.done():
            process.send_signal(how)
            self.stops += 1
        _, told = await ended
        if how == signal.SIGTERM:
            assert process.returncode in (0, 3, 75), told.decode()
        else:
            assert process.returncode in (0, 3, -how), told.decode()
        assert self.sandbox.summary()["taken"] >= taken + PROGRESS, (
            "it was stopped too soon to prove anything"
        )
        return process.returncode in (0, 3)

    async def to_the_end(self, how, kills):
        chance = random.Random(kills)
        for _ in range(kills):
            assert not await self.until_killed(how, chance), "it was done before it was killed"
        process = await start(*self.arguments, cwd=self.folder)
        _, told = await process.communicate()
        assert process.returncode in (0, 3), told.decode()
        return told.decode()


@pytest.fixture
async def sandbox():
    async with Sandbox(SandboxOptions()) as started:
        yield started


def job_ids(path):
    return [json.loads(line)["job_id"] for line in path.read_bytes().splitlines()]


PLAIN, PACKED = ("jobs.ndjson", bytes), ("jobs.ndjson.gz", gzip.compress)
FAILING = "500=0.03,400=0.002"  # retries sleep and dead letters are written while the worker is killed


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "pack"), [PLAIN, PACKED])
async def test_a_worker_that_is_killed_twenty_times_goes_on_where_it_was(tmp_path, name, pack):
    kills, count = 20, 100_000
    write_jobs(tmp_path / name, count, pack)
    async with Sandbox(SandboxOptions(faults=FAILING)) as sandbox:
        run = Run(sandbox, tmp_path, name, "--results", "results.ndjson", between=count // kills)
        await run.to_the_end(signal.SIGKILL, kills)
        ledger = sandbox.summary()

    assert run.stops == kills
    dead = set(job_ids(tmp_path / "dead-letters.ndjson"))
    assert ledger["unique"] >= count - len(dead)
    assert set(job_ids(tmp_path / "results.ndjson")) | dead == set(range(count))  # nothing is missing
    assert ledger["duplicates"] <= kills * TWICE_AT_MOST


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "pack", "kills", "count"), [(*PLAIN, 20, 100_000), (*PACKED, 3, 10_000)])
async def test_a_worker_that_is_stopped_goes_on_and_repeats_nothing(tmp_path, name, pack, kills, count):
    write_jobs(tmp_path / name, count, pack)
    async with Sandbox(SandboxOptions(faults=FAILING)) as sandbox:
        run = Run(sandbox, tmp_path, name, "--results", "results.ndjson", between=count // kills)
        await run.to_the_end(signal.SIGTERM, kills)
        ledger = sandbox.summary()

    ended = job_ids(tmp_path / "results.ndjson") + job_ids(tmp_path / "dead-letters.ndjson")
    assert sorted(ended) == list(range(count))
    assert ledger["duplicates"] == 0


async def make_dead_letters(tmp_path, count):
    (tmp_path / "jobs.ndjson").write_bytes(b"".join(job_lines(count)))
    async with Sandbox(SandboxOptions(faults="400=1")) as refusing:
        more = ("--max-failure-ratio", 1, "--progress", "off")
        run = await start("run", "jobs.ndjson", "--base-url", refusing.url, *more, cwd=tmp_path)
        await run.communicate()
    assert run.returncode == 3


@pytest.mark.timeout(120)
async def test_a_replay_that_two_signals_end_while_it_puts_back_loses_and_repeats_nothing(tmp_path, sandbox):
    count = 20 * PROGRESS
    await make_dead_letters(tmp_path, count)
    arguments = ("replay", "dead-letters.ndjson", "--base-url", sandbox.url)
    process = await start(*arguments, "--rate", 200, cwd=tmp_path)
    ended = asyncio.create_task(process.communicate())
    while sandbox.summary()["taken"] < 100:
        await asyncio.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    while not (tmp_path / "dead-letters.ndjson").exists():  # the first of what is put back
        await asyncio.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    _, told = await ended
    assert process.returncode == 75, told.decode()
    assert (tmp_path / "dead-letters.ndjson.replaying").exists()
    cut = sandbox.summary()["taken"]

    for _ in range(2):  # what was left, then what had been put back
        process = await start(*arguments, cwd=tmp_path)
        _, told = await process.communicate()
        assert process.returncode == 0, told.decode()

    ledger = sandbox.summary()
    assert ledger["unique"] == count
    assert ledger["duplicates"] <= min(256, cut)  # the second signal cut what was in flight
    assert {path.name for path in tmp_path.iterdir()} == {".permutive-worker", "jobs.ndjson"}


@pytest.mark.timeout(120)
async def test_a_killed_replay_is_finished_where_it_was(tmp_path, sandbox):
    count = 4 * PROGRESS
    await make_dead_letters(tmp_path, count)
    replay = Run(sandbox, tmp_path, "dead-letters.ndjson")
    replay.arguments = ("replay", *replay.arguments[1:])

    await replay.to_the_end(signal.SIGKILL, 1)

    ledger = sandbox.summary()
    assert ledger["unique"] == count
    assert ledger["duplicates"] <= TWICE_AT_MOST
    left = {path.name for path in tmp_path.iterdir()} - {".permutive-worker"}
    assert left == {"jobs.ndjson"}
    assert not [path for path in (tmp_path / ".permutive-worker").iterdir() if "replaying" in path.name]


async def test_a_signal_ends_the_replay_of_all_files(tmp_path, sandbox):
    await make_dead_letters(tmp_path, 400)
    second = tmp_path / "second.ndjson"
    second.write_bytes((tmp_path / "dead-letters.ndjson").read_bytes())
    arguments = ("replay", "dead-letters.ndjson", "second.ndjson", "--base-url", sandbox.url)
    process = await start(*arguments, "--rate", 200, cwd=tmp_path)
    while sandbox.summary()["taken"] < 50:
        await asyncio.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, told = await process.communicate()

    assert process.returncode == 75, told.decode()
    assert b"not begun: second.ndjson\n" in told
    assert sandbox.summary()["taken"] < 400
    assert len(second.read_bytes().splitlines()) == 400
    assert not (tmp_path / "second.ndjson.replaying").exists()
