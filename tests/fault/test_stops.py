"""A stop is prompt and honest, whatever the run is doing when it comes."""

import asyncio
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support.faults import assert_conserved, ended, identify, lines, running, said, stopped
from support.program import KEY, Ended, start
from support.raw_server import OK, hang, raw_server, reset
from support.worker import memory_worker

from permutive_worker.http.sweep import SUSPENDED_SECONDS
from permutive_worker.model import Response
from permutive_worker.sandbox.app import Sandbox
from permutive_worker.sandbox.options import SandboxOptions

pytestmark = pytest.mark.process
SIGNALS = (signal.SIGTERM, signal.SIGINT)  # SIGHUP: tests/integration/test_sighup.py
WAIT_LONG = b"HTTP/1.1 429 Slow\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n"
REFUSED = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
async def test_every_signal_drains_and_what_is_in_flight_is_delivered(tmp_path, number):
    answer = asyncio.Event()

    async def late(writer):
        await answer.wait()
        writer.write(OK)
        await writer.drain()

    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(100))))
    async with raw_server(late) as server:
        process = await running("--base-url", server.url, "--max-in-flight", "4", "jobs.ndjson", cwd=tmp_path)
        while len(server.requests) < 4:
            await asyncio.sleep(0.01)
        process.send_signal(number)
        await said(process, "run.stopping")
        answer.set()
        told = await ended(process)

    assert told.code == 75, told.text
    assert (told.summary["delivered"], told.summary["requests"], told.summary["ambiguous"]) == (4, 4, 0)
    assert_conserved(told.summary)
    assert len(server.requests) == 4, "nothing new was sent"


async def test_a_stop_after_which_all_is_done_ends_with_0():
    answer = asyncio.Event()

    class LateWire:
        async def send(self, request):
            await answer.wait()
            return Response(200, {}, b"{}")

    worker, outcomes = memory_worker([identify(1)], LateWire())
    delivering = asyncio.create_task(worker.run())
    while not (worker.look().total == 1 and worker.look().pending["in_flight"]):
        await asyncio.sleep(0)
    worker.stop()
    answer.set()
    summary = await delivering

    assert (summary.exit_code, summary.delivered, len(outcomes)) == (0, 1, 1)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
async def test_a_signal_while_the_interpreter_ends_does_not_change_the_exit_code(tmp_path, number):
    (tmp_path / "jobs.ndjson").write_bytes(lines(identify(1)))
    async with raw_server(OK) as server:
        # What is registered first is called last; from then on there are signals until the process is gone.
        program = f"""if 1:
            import atexit, os, subprocess
            from permutive_worker.cli.main import main
            signals = f"while kill -{int(number)} {{os.getpid()}} 2>/dev/null; do :; done"
            atexit.register(subprocess.Popen, ["sh", "-c", signals])
            main(["run", "--base-url", {server.url!r}, "jobs.ndjson"])"""
        environ = os.environ | {"PERMUTIVE_API_KEY": KEY}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, cwd=tmp_path, env=environ, stderr=asyncio.subprocess.PIPE
        )
        told = await ended(process)

    assert (told.code, told.summary["delivered"]) == (0, 1), told.text


async def test_answers_that_came_while_the_program_was_suspended_are_read(tmp_path):
    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(60))))
    async with Sandbox(SandboxOptions(latency_seconds=0.3)) as sandbox:
        options = ("--base-url", sandbox.url, "--rate", "50", "--burst", "1", "--timeout", "1")
        process = await running(*options, "jobs.ndjson", cwd=tmp_path)
        while sandbox.summary()["taken"] < 20:
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1 + SUSPENDED_SECONDS + 0.3)
        process.send_signal(signal.SIGCONT)
        told = await ended(process)

    assert (told.code, told.summary["delivered"], told.summary["ambiguous"]) == (0, 60, 0), told.text


async def test_what_was_read_until_the_stop_is_not_taken_for_the_whole_input(tmp_path):
    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(20_000))))
    async with raw_server(hang) as server:
        process = await running(
            "--base-url",
            server.url,
            "--progress",
            "json",
            "--set",
            "delivery.max_pending_bytes=1MiB",
            "jobs.ndjson",
            cwd=tmp_path,
        )
        await server.asked.wait()
        process.send_signal(signal.SIGTERM)
        await said(process, "run.stopping")
        told = await stopped(process)

    shown = [json.loads(line) for line in told.text.splitlines() if '"event":"progress"' in line]
    assert told.summary["read"] < 5_000
    assert shown[-1]["total"] > 15_000


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
async def test_a_second_signal_does_not_wait_and_says_what_may_have_been_taken(tmp_path, number):
    async with raw_server(hang) as server:
        process = await running(
            "--base-url", server.url, "--max-in-flight", "4", cwd=tmp_path, stdin=asyncio.subprocess.PIPE
        )
        process.stdin.write(lines(*map(identify, range(100))))
        while len(server.requests) < 4:
            await asyncio.sleep(0.01)
        process.send_signal(number)
        await said(process, "run.stopping")
        told = await stopped(process, number)

    summary = told.summary
    assert told.code == 75, told.text
    assert (summary["read"], summary["returned"], summary["ambiguous"]) == (100, 100, 4)
    assert (tmp_path / "dead-letters.returned.ndjson").read_bytes() == lines(*map(identify, range(100)))


async def test_a_second_signal_does_not_wait_for_the_end_of_a_line(tmp_path):
    async with raw_server(hang) as server:
        process = await running("--base-url", server.url, cwd=tmp_path, stdin=asyncio.subprocess.PIPE)
        process.stdin.write(lines(identify(1)) + b"{")
        await server.asked.wait()
        process.send_signal(signal.SIGTERM)
        await said(process, "run.stopping")
        told = await stopped(process)

    assert told.code == 75, told.text
    assert (tmp_path / "dead-letters.returned.ndjson").read_bytes() == lines(identify(1)) + b"{\n"


@pytest.mark.parametrize(
    ("answers", "asked", "arguments"),
    [
        ([WAIT_LONG], 1, []),
        ([OK, REFUSED], 2, []),
        ([reset], 21, ["--set", "delivery.backoff_initial_seconds=0.001"]),
        (
            [b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"],
            1,
            ["--set", "delivery.backoff_initial_seconds=60"],
        ),
    ],
    ids=["paused", "halted", "breaker open", "asleep"],
)
async def test_what_waits_is_returned_at_once(tmp_path, answers, asked, arguments):
    async with raw_server(*answers) as server:
        process = await running(
            "--base-url",
            server.url,
            "--max-in-flight",
            "1",
            *arguments,
            cwd=tmp_path,
            stdin=asyncio.subprocess.PIPE,
        )
        process.stdin.write(lines(*map(identify, range(50))))
        while len(server.requests) < asked:
            await asyncio.sleep(0.01)
        told = await stopped(process)

    summary = told.summary
    assert told.code == 75, told.text
    assert_conserved(summary)
    assert summary["dead_lettered"] == 0
    assert summary["returned"] >= 49 - (answers[0] == OK)
    kept = (tmp_path / "dead-letters.returned.ndjson").read_bytes().splitlines()
    assert [json.loads(line)["job_id"] for line in kept] == [f"job-{n}" for n in range(50)][-len(kept) :]


async def test_a_stop_while_nothing_comes_from_the_pipe(tmp_path):
    async with raw_server(OK) as server:
        process = await running(
            "--base-url", server.url, "--log-level", "debug", cwd=tmp_path, stdin=asyncio.subprocess.PIPE
        )
        process.stdin.write(lines(identify(1)))
        await server.asked.wait()
        told = await stopped(process)

    assert (told.code, told.summary["read"], told.summary["delivered"]) == (75, 1, 1), told.text


async def test_a_stop_while_the_host_is_tried(tmp_path):
    process = await running(
        "--base-url",
        "http://127.0.0.1:9",
        "--timeout",
        "60",
        cwd=tmp_path,
        stdin=asyncio.subprocess.PIPE,
    )
    await said(process, "host.unreachable")
    told = await stopped(process)

    assert (told.code, told.summary["read"], told.summary["exit_code"]) == (75, 0, 75), told.text
    assert "Traceback" not in told.text


async def test_an_unreachable_host_is_warned_of_once_and_then_one_sentence_says_that_nothing_was_read(
    tmp_path,
):
    process = await running("--base-url", "http://127.0.0.1:9", "--timeout", "2", cwd=tmp_path)
    told = await ended(process)

    warning, sentence = told.text.strip().splitlines()
    assert told.code == 69
    assert "host.unreachable" in warning
    assert sentence.endswith("it was tried for 2 s, and nothing was read")


async def test_a_stop_while_nobody_reads_the_results(tmp_path):
    read_fd, write_fd = os.pipe()
    try:
        async with raw_server(OK) as server:
            process = await running(
                "--base-url",
                server.url,
                "--results",
                "-",
                "--set",
                "delivery.drain_seconds=1",
                cwd=tmp_path,
                stdin=asyncio.subprocess.PIPE,
                stdout=write_fd,
            )
            process.stdin.write(lines(*map(identify, range(3000))))
            await server.asked.wait()
            before = -1
            while before != len(server.requests):  # until its pipe is full and its senders wait
                before = len(server.requests)
                await asyncio.sleep(0.5)
            told = await stopped(process)
    finally:
        os.close(read_fd)
        os.close(write_fd)

    summary = told.summary
    assert told.code == 74, told.text
    assert_conserved(summary)
    kept = (tmp_path / "dead-letters.returned.ndjson").read_bytes()
    assert summary["returned"] == kept.count(b"\n") > 0
    assert "nobody reads it" in told.text


async def test_a_stop_while_a_named_pipe_has_no_reader(tmp_path):
    os.mkfifo(tmp_path / "results")
    async with raw_server(OK) as server:
        process = await running(
            "--base-url", server.url, "--results", "results", cwd=tmp_path, stdin=asyncio.subprocess.PIPE
        )
        process.stdin.write(lines(*map(identify, range(10))))
        while len(server.requests) < 10:
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        await said(process, "run.stopping")
        told = await stopped(process)

    assert (told.code, told.summary["returned"]) == (74, 10), told.text


async def test_a_reader_of_results_that_goes_away_stops_the_run_quietly(tmp_path):
    read_fd, write_fd = os.pipe()
    async with raw_server(OK) as server:
        process = await running(
            "--base-url",
            server.url,
            "--results",
            "-",
            cwd=tmp_path,
            stdin=asyncio.subprocess.PIPE,
            stdout=write_fd,
        )
        os.close(write_fd)
        os.close(read_fd)
        process.stdin.write(lines(*map(identify, range(10))))
        told = await ended_without_end_of_input(process)

    assert told.code == 75, told.text
    assert told.text.startswith('{"run_id"'), "nothing but the summary"
    assert_conserved(told.summary)


async def ended_without_end_of_input(process):
    async with asyncio.timeout(15):
        stderr = await process.stderr.read()
        code = await process.wait()
    return Ended(code, b"", stderr)


async def test_a_log_that_nobody_reads_changes_nothing_of_the_end(tmp_path):
    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(10)), b"no job"))
    read_fd, write_fd = os.pipe()
    async with raw_server(OK) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "permutive_worker", "run", "--base-url", server.url, "jobs.ndjson"),
            *("--summary", "summary.json"),
            cwd=tmp_path,
            env={**os.environ, "PERMUTIVE_API_KEY": KEY},
            stderr=write_fd,
        )
        os.close(write_fd)
        os.close(read_fd)
        code = await process.wait()

    assert code == 3
    assert json.loads((tmp_path / "summary.json").read_bytes())["delivered"] == 10


async def test_nohup_is_obeyed(tmp_path):
    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(10))))
    async with raw_server(hang) as server:
        process = await asyncio.create_subprocess_exec(
            *("nohup", sys.executable, "-m", "permutive_worker", "run", "--base-url", server.url),
            *("--set", "delivery.drain_seconds=0", "jobs.ndjson"),
            cwd=tmp_path,
            env={**os.environ, "PERMUTIVE_API_KEY": KEY},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        await server.asked.wait()
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        told = await ended(process)

    assert told.code == 75, told.text
    assert told.text.count("run.stopping") == 1


NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child")


def child_of(pid) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


@pytest.fixture
def namespace() -> tuple[str, ...]:
    """What makes the program after it process 1."""
    if shutil.which("unshare") is None or subprocess.run([*NAMESPACE, "true"], check=False).returncode:
        pytest.skip("only root may make a process 1")
    return NAMESPACE


async def test_a_process_1_drains_too(tmp_path, namespace):
    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(10))))
    async with raw_server(hang) as server:
        process = await asyncio.create_subprocess_exec(
            *(*namespace, sys.executable, "-m", "permutive_worker", "run", "--base-url", server.url),
            *("--set", "delivery.drain_seconds=0", "jobs.ndjson"),
            cwd=tmp_path,
            env={**os.environ, "PERMUTIVE_API_KEY": KEY},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        while len(server.requests) < 10:
            await asyncio.sleep(0.01)
        os.kill(child_of(process.pid), signal.SIGTERM)
        told = await ended(process)

    assert told.code == 75, told.text
    assert told.summary["ambiguous"] == 10


def in_a_terminal(command, cwd) -> tuple[int, int]:
    """Start a shell command as the foreground of a new terminal; the process and our end of the terminal."""
    pid, master_fd = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.environ["PERMUTIVE_API_KEY"] = KEY
        os.execvp("sh", ["sh", "-c", command])
    return pid, master_fd


def read_terminal(master_fd) -> str:
    told = b""
    try:
        while block := os.read(master_fd, 4096):
            told += block
    except OSError:  # so Linux tells the end of a terminal
        pass
    return told.decode()


async def test_ctrl_c_at_a_terminal_reaches_the_whole_pipe_and_nothing_is_lost(tmp_path):
    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(10))))
    async with raw_server(hang) as server:
        program = f"{sys.executable} -m permutive_worker run --progress off --base-url {server.url}"
        pid, master_fd = in_a_terminal(
            f"cat jobs.ndjson - | {program} --set delivery.drain_seconds=0 --summary summary.json", tmp_path
        )
        while len(server.requests) < 10:
            await asyncio.sleep(0.01)
        os.write(master_fd, termios.tcgetattr(master_fd)[6][termios.VINTR])
        told = await asyncio.to_thread(read_terminal, master_fd)
        await asyncio.to_thread(os.waitpid, pid, 0)
        os.close(master_fd)

    summary = json.loads((tmp_path / "summary.json").read_bytes())
    assert summary["exit_code"] == 75, told
    assert (summary["read"], summary["returned"]) == (10, 10)
    assert (tmp_path / "dead-letters.returned.ndjson").read_bytes() == lines(*map(identify, range(10)))


async def test_a_terminal_that_is_lost_ends_a_run_like_sigterm(tmp_path):
    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(10))))
    async with raw_server(hang) as server:
        program = f"{sys.executable} -m permutive_worker run --base-url {server.url}"
        pid, master_fd = in_a_terminal(
            f"exec {program} --set delivery.drain_seconds=0 --summary summary.json jobs.ndjson", tmp_path
        )
        while len(server.requests) < 10:
            await asyncio.sleep(0.01)
        os.close(master_fd)
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)

    assert os.waitstatus_to_exitcode(status) == 75
    assert json.loads((tmp_path / "summary.json").read_bytes())["returned"] == 10


async def test_a_lost_terminal_that_is_told_of_twice_cuts_nothing(tmp_path):
    """The system tells the foreground, and a shell tells its jobs once more."""
    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(10))))
    answer, log = asyncio.Event(), tmp_path / "log"

    async def late(writer):
        await answer.wait()
        writer.write(OK)

    async with raw_server(late) as server:
        program = f"{sys.executable} -m permutive_worker run --base-url {server.url}"
        pid, master_fd = in_a_terminal(f"exec {program} --summary summary.json jobs.ndjson 2>log", tmp_path)
        while len(server.requests) < 10:
            await asyncio.sleep(0.01)
        os.close(master_fd)
        while "run.stopping" not in log.read_text():
            await asyncio.sleep(0.01)
        os.kill(pid, signal.SIGHUP)
        while waits_for_a_signal(pid):
            await asyncio.sleep(0.01)
        answer.set()
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)

    summary = json.loads((tmp_path / "summary.json").read_bytes())
    assert os.waitstatus_to_exitcode(status) == summary["exit_code"], log.read_text()
    assert (summary["delivered"], summary["ambiguous"]) == (10, 0)


def waits_for_a_signal(pid):
    """Whether one was sent that has not been taken yet."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return any(line.startswith(("SigPnd:", "ShdPnd:")) and int(line.split()[1], 16) for line in status)


async def test_input_stops_within_a_second_though_the_writer_goes_on(tmp_path):
    async with raw_server(OK) as server:
        process = await start(
            "run",
            "--progress",
            "off",
            "--base-url",
            server.url,
            "--rate",
            "50",
            cwd=tmp_path,
            stdin=asyncio.subprocess.PIPE,
        )
        feeding = asyncio.create_task(feed(process))
        await server.asked.wait()
        process.send_signal(signal.SIGTERM)
        told = await ended_without_end_of_input(process)
        count = await feeding

    assert told.code == 75, told.text
    assert_conserved(told.summary)
    assert told.summary["read"] < count
    kept = (tmp_path / "dead-letters.returned.ndjson").read_bytes()
    assert kept.count(b"\n") == told.summary["returned"]


async def feed(process) -> int:
    """Write lines until nobody reads them; how many there were."""
    count = 0
    began = time.monotonic()
    try:
        while time.monotonic() < began + 15:
            process.stdin.write(lines(*map(identify, range(count, count + 100))))
            await process.stdin.drain()
            count += 100
    except ConnectionError:
        pass
    return count


async def test_a_stop_while_nobody_reads_a_log_that_is_full(tmp_path):
    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(100))))
    read_fd, write_fd = os.pipe()
    try:
        async with raw_server(hang) as server:
            process = await running(
                *("--base-url", server.url, "--set", "delivery.drain_seconds=0", "--summary", "summary.json"),
                "jobs.ndjson",
                cwd=tmp_path,
                stderr=write_fd,
            )
            await server.asked.wait()
            os.set_blocking(write_fd, False)
            with suppress(BlockingIOError):
                while True:
                    os.write(write_fd, b"-" * 4096)
            os.set_blocking(write_fd, True)  # for the program's is the same
            process.send_signal(signal.SIGTERM)
            await ended(process)
    finally:
        os.close(read_fd)
        os.close(write_fd)

    summary = json.loads((tmp_path / "summary.json").read_bytes())
    assert process.returncode == summary["exit_code"] == 75
    assert summary["returned"] == summary["read"] == 100


async def test_a_summary_that_nobody_reads_is_not_waited_for(tmp_path):
    (tmp_path / "jobs.ndjson").write_bytes(lines(identify(1)))
    os.mkfifo(tmp_path / "summary")
    async with raw_server(OK) as server:
        process = await running("--base-url", server.url, "--summary", "summary", "jobs.ndjson", cwd=tmp_path)
        told = await ended(process)

    assert (told.code, told.summary["delivered"]) == (74, 1), told.text
    assert "summary cannot be written" in told.text
