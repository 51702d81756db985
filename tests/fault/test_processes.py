"""One run in several processes: killed, stopped, refused; and what it tells is of one moment."""

import asyncio
import os
import pty
import random
import signal
import socket
import sys
from contextlib import suppress

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.arrivals import most_in_a_second
from support.members import FleetRun, alive, children_of, job_ids, state_of, until, write_files
from support.program import KEY

from permutive_worker.sandbox.app import Sandbox
from permutive_worker.sandbox.options import SandboxOptions
from permutive_worker.sources.tracked import CheckpointStore

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

FILES, LINES = 4, 1500
ALL = FILES * LINES
RATE, BURST = 1500, 60
PLACES = 64
# As in test_kill.py: in flight, and answered since the last checkpoint, on a machine that is busy.
TWICE_AT_MOST = PLACES + int(RATE * 0.07 * 2)
STEADY = ("--rate", RATE, "--burst", BURST, "--max-in-flight", PLACES)


@pytest.fixture
async def sandbox():
    async with Sandbox(SandboxOptions()) as started:
        yield started


@pytest.fixture
async def begin(tmp_path):
    """`FleetRun.begin`, and nothing of it is left when a test fails."""
    begun = []

    async def begin(sandbox, *more, **given):
        begun.append(await FleetRun.begin(sandbox, tmp_path, *more, **given))
        return begun[-1]

    yield begin
    for run in begun:
        await run.kill()


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def taken(sandbox):
    return sandbox.summary()["taken"]


def assert_conserved(summary):
    ends = ("delivered", "dead_lettered", "skipped", "returned")
    assert summary["read"] == sum(summary[end] for end in ends), summary


async def test_the_processes_deliver_every_line_once_and_speak_as_one(tmp_path, begin):
    write_files(tmp_path, FILES, LINES)
    async with Sandbox(SandboxOptions(faults="400=0.01,500=0.03")) as sandbox:
        run = await begin(sandbox, "--results", "results.ndjson", "--summary", "summary.json", *STEADY)
        ended = await run.end()
        ledger = sandbox.summary()

    summary = ended.summary
    dead, done = job_ids(tmp_path / "dead-letters.ndjson"), job_ids(tmp_path / "results.ndjson")
    assert ended.code == summary["exit_code"] == 3, ended.text
    assert (summary["read"], summary["dead_lettered"]) == (ALL, len(dead))
    assert sorted(dead + done) == list(range(ALL))
    assert summary["requests"] == ledger["requests"]
    assert ended.text.count('"run_id"') == 1
    assert_conserved(summary)


async def test_a_process_that_is_killed_again_and_again_is_replaced_and_nothing_is_missing(
    tmp_path, sandbox, begin
):
    kills, chance = 5, random.Random(5)
    write_files(tmp_path, FILES, LINES)
    run = await begin(sandbox, "--results", "results.ndjson", *STEADY)
    for number in range(kills):
        await until(lambda: taken(sandbox) >= (number + 0.5) * ALL / (kills + 1))  # noqa: B023
        members = await run.working(2)
        os.kill(chance.choice(members), signal.SIGKILL)
        await until(lambda: len(run.members) < 2)
    ended = await run.end()

    summary = ended.summary
    assert ended.code == 0, ended.text
    assert ended.text.count("process.died") == kills
    assert set(job_ids(tmp_path / "results.ndjson")) == set(range(ALL))
    assert sandbox.summary()["unique"] == ALL
    assert sandbox.summary()["duplicates"] <= kills * TWICE_AT_MOST
    assert summary["delivered"] >= ALL  # what a process did is counted, although it died
    assert_conserved(summary)


async def test_when_the_first_process_is_killed_the_others_drain_and_any_number_resumes(
    tmp_path, sandbox, begin
):
    write_files(tmp_path, FILES, LINES)
    for processes, enough in ((2, ALL // 4), (4, ALL // 2)):
        run = await begin(sandbox, *STEADY, processes=processes)
        members = await run.working(processes)
        await until(lambda: taken(sandbox) >= enough)  # noqa: B023
        os.kill(run.process.pid, signal.SIGKILL)
        await until(lambda: not any(map(alive, members)))  # noqa: B023
        await run.end()

    ended = await (await begin(sandbox, *STEADY, processes=1)).end()

    assert ended.code == 0, ended.text
    assert (sandbox.summary()["unique"], sandbox.summary()["duplicates"]) == (ALL, 0)


@pytest.mark.parametrize("everybody", [False, True])
async def test_a_signal_drains_all_of_them_once_even_if_all_of_them_get_it(
    tmp_path, sandbox, begin, everybody
):
    write_files(tmp_path, FILES, LINES)
    run = await begin(sandbox, *STEADY)
    members = await run.working(2)
    await until(lambda: taken(sandbox) >= ALL // 4)
    for pid in [*(members if everybody else []), run.process.pid]:  # as systemd does
        os.kill(pid, signal.SIGTERM)
    stopped = await run.end()
    ended = await (await begin(sandbox, *STEADY, processes=3)).end()

    assert (stopped.code, ended.code) == (75, 0), stopped.text + ended.text
    assert not any(map(alive, members))
    assert_conserved(stopped.summary)
    assert stopped.summary["delivered"] + ended.summary["delivered"] == ALL
    assert (sandbox.summary()["unique"], sandbox.summary()["duplicates"]) == (ALL, 0)


def begin_at_a_terminal(sandbox, folder):
    """Start a run whose terminal this is; give its pid and the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ |= {"PERMUTIVE_API_KEY": KEY, "TERM": "xterm"}
        run = ("-m", "permutive_worker", "run", "--processes", 2, "--base-url", sandbox.url, *STEADY)
        os.execv(sys.executable, [sys.executable, *map(str, run), "jobs-*.ndjson"])
    return pid, terminal


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Ctrl-Z suspends the first process only")
@pytest.mark.parametrize("then", [signal.SIGCONT, signal.SIGKILL], ids=lambda number: number.name)
async def test_ctrl_z_suspends_all_of_them_and_leaves_nobody_behind(tmp_path, sandbox, begin, then):
    lines = 500
    write_files(tmp_path, FILES, lines)
    pid, terminal = begin_at_a_terminal(sandbox, tmp_path)
    asyncio.get_running_loop().add_reader(terminal, read_away, terminal)
    await until(lambda: taken(sandbox) >= lines)
    members = children_of(pid)
    os.write(terminal, b"\x1a")
    await until(lambda: all(state_of(one) == "T" for one in (pid, *members)))
    suspended_at = taken(sandbox)
    await asyncio.sleep(0.3)
    assert taken(sandbox) <= suspended_at + PLACES  # what was on its way
    os.kill(pid, then)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    await until(lambda: not any(map(alive, members)))
    ended = await (await begin(sandbox, *STEADY, processes=1)).end()

    assert os.waitstatus_to_exitcode(status) == (0 if then is signal.SIGCONT else -signal.SIGKILL)
    assert ended.text.count("already delivered") == (FILES if then is signal.SIGCONT else 0)
    assert (sandbox.summary()["unique"], sandbox.summary()["duplicates"]) == (FILES * lines, 0)


def read_away(terminal):
    with suppress(OSError):  # so Linux tells the end of a terminal
        if os.read(terminal, 65536):
            return
    asyncio.get_running_loop().remove_reader(terminal)
    os.close(terminal)


@pytest.mark.parametrize("early", [True, False])
async def test_a_second_signal_does_not_wait_for_what_is_in_flight(tmp_path, begin, port, early):
    write_files(tmp_path, 2, 100)
    async with Sandbox(SandboxOptions(latency_seconds=100)) as slow:
        run = await begin(slow, "--timeout", 200, "--set", "delivery.drain_seconds=100", "--admin", port)
        await run.working(2)  # and they have not read their orders yet
        while not early and await in_flight(port) < 4:
            await asyncio.sleep(0.05)
        for _ in range(2):
            run.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.2)
        ended = await run.end()

    assert ended.code == 75, ended.text
    assert ended.summary["delivered"] == 0
    assert_conserved(ended.summary)


async def in_flight(port):
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/status") as answer:
        return (await answer.json())["pending"]["in_flight"]


async def test_together_they_keep_the_rate_and_use_it(tmp_path, sandbox, begin):
    rate, burst = 200, 10
    write_files(tmp_path, 4, 400)
    run = await begin(sandbox, "--rate", rate, "--burst", burst, processes=4)
    ended = await run.end()
    arrivals = [at for at, _ in sandbox.imitation.ledger.arrivals()]

    assert ended.code == 0, ended.text
    assert most_in_a_second(arrivals) <= rate + burst


async def test_a_pause_the_api_asked_one_for_is_kept_by_all(tmp_path, begin):
    pause = 2
    write_files(tmp_path, 4, 200)
    async with Sandbox(SandboxOptions(rate_limit_per_second=100, retry_after_seconds=pause)) as strict:
        run = await begin(strict, "--rate", 300, "--max-in-flight", 8, processes=4)
        ended = await run.end()
        arrivals = strict.imitation.ledger.arrivals()

    first_refusal = next(at for at, status in arrivals if status == 429)
    meanwhile = [at for at, _ in arrivals if first_refusal + 0.25 < at < first_refusal + pause - 0.1]
    assert ended.code == 0, ended.text
    assert meanwhile == []


async def scrape(session):
    async with session.get("/metrics") as answer:
        families = list(text_string_to_metric_families(await answer.text()))
    samples = [sample for family in families for sample in family.samples]

    def total(name):
        return sum(one.value for one in samples if one.name == f"permutive_worker_{name}")

    ends = ("jobs_delivered_total", "jobs_dead_lettered_total", "jobs_skipped_total", "jobs_returned_total")
    return total("jobs_read_total"), sum(map(total, ends)) + total("jobs_pending"), total("jobs_pending")


async def test_one_metrics_page_is_conserved_in_every_sample_while_processes_die(
    tmp_path, sandbox, begin, port
):
    write_files(tmp_path, FILES, LINES)
    run = await begin(sandbox, "--admin", port, *STEADY)
    seen, killed = [], False
    await run.working(2)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        while taken(sandbox) < ALL * 3 // 4:
            read, accounted, pending = await scrape(session)
            seen.append((read, pending))
            assert read == accounted
            if not killed and taken(sandbox) > ALL // 4:
                killed = True
                os.kill(run.members[0], signal.SIGKILL)
            async with session.get("/readyz") as ready, session.get("/status") as status:
                document = await status.json()
                assert document["counts"]["read"] >= read
                assert ready.status == 200 or document["state"] in ("starting", "running")
            await asyncio.sleep(0.2)  # the admin server is not asked as often as it could answer
    ended = await run.end()

    assert ended.code == 0, ended.text
    assert killed
    reads = [read for read, _ in seen]
    assert reads == sorted(reads)  # a counter never falls
    assert any(pending for _, pending in seen)


@pytest.mark.parametrize("kind", ["refused key", "guard", "unreachable"])
async def test_what_stops_one_stops_all_and_is_said_once(tmp_path, begin, kind):
    write_files(tmp_path, FILES, LINES)
    options, more, code, words = {
        "refused key": ({"api_keys": frozenset(["another"])}, (), 77, "key"),
        "guard": ({"faults": "400=0.5"}, ("--max-failures", 30, "--max-failure-ratio", 1), 4, "guard"),
        "unreachable": ({}, ("--timeout", 0.5), 69, "not"),
    }[kind]
    async with Sandbox(SandboxOptions(**options)) as sandbox:
        if kind == "unreachable":
            await sandbox.close()
        run = await begin(sandbox, "--rate", 300, *more)
        ended = await run.end()

    told = [line for line in ended.text.splitlines() if line.startswith("permutive-worker: ")]
    assert ended.code == code, ended.text
    assert len(told) == len(set(told)) == 1, told
    assert words in told[0]
    if kind == "guard":
        assert 30 < ended.summary["dead_lettered"] < 30 + 300


async def test_what_cannot_be_is_refused_before_any_process_starts(tmp_path, sandbox, begin):
    write_files(tmp_path, 1, 1)
    for more, given, code, words in (
        ((), {"inputs": ("missing.ndjson",)}, 64, "does not exist"),
        ((), {"inputs": ("-",)}, 64, "--processes is for files"),
        ((), {"inputs": ("redis://localhost/0?stream=jobs",)}, 64, "--processes is for files"),
        (("--follow",), {}, 64, "--processes is for files"),
        (("--results", "-"), {}, 64, "stdout"),
        (("--dead-letters", "nowhere/dead"), {}, 78, "cannot write"),
        (("--dead-letters", "same", "--results", "same"), {}, 78, "same file"),
        (("--processes", "0"), {}, 64, "--processes"),
        ((), {"env": {}}, 78, "key"),
    ):
        ended = await (await begin(sandbox, *more, **given)).end()
        lines = ended.text.splitlines()
        assert (ended.code, len(lines)) == (code, 1), ended.text
        assert words in lines[0]
    assert not (tmp_path / ".permutive-worker").exists()


async def test_of_runs_that_begin_at_once_on_the_same_files_one_goes_on(tmp_path, sandbox, begin):
    write_files(tmp_path, 4, 300)
    runs = [await begin(sandbox, "--rate", 600) for _ in range(3)]
    codes = [(await run.end()).code for run in runs]

    assert 0 in codes, codes
    assert set(codes) <= {0, 64}  # one that begins late finds all delivered
    assert (sandbox.summary()["unique"], sandbox.summary()["duplicates"]) == (1200, 0)


async def test_another_run_in_several_processes_is_refused_by_the_first_file(tmp_path, sandbox, begin):
    write_files(tmp_path, 4, 20)
    store = CheckpointStore(tmp_path / ".permutive-worker", f"{sandbox.url} default")
    with store.alone_with([tmp_path / "jobs-0.ndjson"]):
        refused = await (await begin(sandbox, inputs=("jobs-3.ndjson", "jobs-0.ndjson"))).end()
        other = await (await begin(sandbox, inputs=("jobs-1.ndjson", "jobs-2.ndjson"))).end()

    assert refused.code == 64, refused.text
    assert "another worker is delivering jobs-0.ndjson" in refused.text
    assert (other.code, taken(sandbox)) == (0, 40)
    assert list((tmp_path / ".permutive-worker").glob("*.processes")) == []


async def test_files_that_were_delivered_are_named_once_and_restart_sends_them_again(
    tmp_path, sandbox, begin
):
    write_files(tmp_path, 3, 20)
    first = await (await begin(sandbox)).end()
    write_files(tmp_path, 4, 20)
    (tmp_path / "jobs-4.ndjson").write_text("")
    second = await (await begin(sandbox)).end()
    third = await (await begin(sandbox, "--restart")).end()

    assert (first.code, second.code, third.code) == (0, 0, 0), first.text + second.text + third.text
    assert [one.summary["read"] for one in (first, second, third)] == [60, 20, 80]
    assert second.text.count("already delivered") == 3
    assert sandbox.summary()["unique"] == 80


async def test_fewer_processes_than_asked_for_are_said_with_the_reason(tmp_path, sandbox, begin):
    write_files(tmp_path, 1, 20)
    ended = await (await begin(sandbox, processes=4)).end()

    assert ended.code == 0
    assert "processes.fewer" in ended.text
    assert "there is 1 file to deliver, and a file is read by one process; `split -n l/4 FILE`" in ended.text


async def test_a_reload_reaches_every_process_and_the_sum_keeps_the_rate(tmp_path, sandbox, begin):
    write_files(tmp_path, 2, 1500)
    config = tmp_path / "worker.toml"
    config.write_text("[rate_limit]\nrate_per_second = 100\nburst = 4\n")
    run = await begin(sandbox, "--config", config, new_session=True)
    await until(lambda: taken(sandbox) >= 60)
    config.write_text("[rate_limit]\nrate_per_second = 800\nburst = 8\n")
    run.process.send_signal(signal.SIGHUP)
    await until(lambda: taken(sandbox) >= 900)
    config.write_text("[rate_limit]\nrate_per_second = 0.5\n")
    run.process.send_signal(signal.SIGHUP)
    ended = await run.end()

    assert ended.code == 0, ended.text
    assert "config.reloaded" in ended.text
    assert "is too small to be shared by 2 processes" in ended.text
    assert 104 < sandbox.summary()["peak_per_second"] <= 808
