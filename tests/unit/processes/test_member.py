"""A member whose process is a small program of the test's."""

import asyncio
import os
import sys

import pytest

from permutive_worker.config import Settings
from permutive_worker.delivery.stop import Stop
from permutive_worker.processes import member as member_module
from permutive_worker.processes.member import MOST_DEATHS, Member
from permutive_worker.processes.messages import Command, Order, Pause
from permutive_worker.telemetry.counts import Counts

IMPORTS = """
import os, socket, sys
from datetime import UTC, datetime
from permutive_worker.processes.messages import Farewell, Pause, Report, frame
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.status import Status
sock = socket.socket(fileno=int(sys.argv[-1]))
assert sock.recv(100_000)
counts = Counts("file", ["identify"])
def report():
    pending = counts.read - counts.ended
    status = Status("running", "run", datetime.now(UTC), 1.0, [], pending, 0, 0, 5, 10, 100)
    sock.sendall(frame(Report(vars(counts), status)))
"""


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(member_module, "BACKOFF_SECONDS", 0.001)


def member(program, paused=lambda *_: None):
    order = Order(1, "run", Settings(), [b"jobs.ndjson"])
    command = [sys.executable, "-c", IMPORTS + program]
    return Member(
        order,
        10,
        command,
        Counts("file", ["identify"]),
        Stop(),
        greeting=list,
        on_report=lambda: None,
        on_pause=paused,
    )


async def test_one_that_dies_at_once_again_and_again_stops_the_run_with_its_code():
    dying = member("os._exit(9)")
    await dying.run()

    (error,) = dying._stop.errors
    assert (error.exit_code, dying.restarts) == (9, MOST_DEATHS - 1)
    assert "process 1 died 5 times in a row" in str(error)


async def test_one_that_is_killed_again_and_again_can_be_resumed():
    killed = member("os.kill(os.getpid(), 9)")
    await killed.run()

    (error,) = killed._stop.errors
    assert error.exit_code == 75
    assert "SIGKILL" in str(error)


async def test_one_that_cannot_be_started_stops_the_run_and_says_why(tmp_path):
    missing = member("")
    missing._command = [str(tmp_path / "missing")]
    await missing.run()

    (error,) = missing._stop.errors
    assert error.exit_code == missing.exit_code == 75
    assert "process 1 could not be started: No such file or directory" in str(error)


async def test_one_that_does_something_before_it_dies_is_started_again_and_again(tmp_path):
    lives = tmp_path / "lives"
    living = member(f"""
with open({str(lives)!r}, "ab+") as file:
    file.write(b".")
    file.flush()
    life = file.tell()
counts.read, counts.kinds["identify"].delivered = 10, 7
report()
if life < 9:
    os.kill(os.getpid(), 9)
counts.kinds["identify"].delivered = 10
report()
sock.sendall(frame(Farewell(0)))
""")
    await living.run()

    assert living.farewell.exit_code == 0
    assert living.restarts == 8
    assert (living.past.read, living.past.delivered, living.past.returned["stop"]) == (80, 56, 24)
    assert living.past.read == living.past.ended
    assert living.lines == 56 + 100


async def test_what_it_logs_is_passed_on_in_whole_lines(capsys):
    chatty = member("""
sys.stderr.write("half a"); sys.stderr.flush()
sys.stderr.write(" line\\nanother\\nlast"); sys.stderr.flush()
sock.sendall(frame(Farewell(0)))
""")
    await chatty.run()

    assert capsys.readouterr().err == "half a line\nanother\nlast\n"


async def test_a_pause_is_told_to_who_passes_it_on():
    heard = []
    paused = member(
        """
sock.sendall(frame(Pause("news", 12.5)) + frame(Farewell(0)))
""",
        lambda who, pause: heard.append((who, pause.workspace, pause.until)),
    )
    await paused.run()

    assert heard == [(paused, "news", 12.5)]


async def test_one_that_did_not_read_for_long_still_hears_everything(tmp_path):
    """Stopped by a debugger, or hung in a write: what it was told meanwhile must not be lost."""
    go, told = tmp_path / "go", 3000
    started = asyncio.Event()
    deaf = member(
        f"""
import pathlib, time
from permutive_worker.processes.messages import Command, Frames
sock.sendall(frame(Pause("started", 1.0)))
while not pathlib.Path({str(go)!r}).exists() and os.getppid() == {os.getpid()}:
    time.sleep(0.01)
sock.settimeout(10)
frames, heard = Frames(Command, Pause), []
while not heard or not isinstance(heard[-1], Command):
    data = sock.recv(100_000)
    assert data
    heard += frames.feed(data)
sock.sendall(frame(Farewell(len(heard) - 1)))
""",
        lambda *_: started.set(),
    )
    running = asyncio.create_task(deaf.run())
    await started.wait()
    for number in range(told):
        deaf.tell(Pause("news", float(number)))
    deaf.tell(Command("stop"))
    go.touch()
    await running

    assert deaf.farewell.exit_code == told


async def test_one_that_hangs_after_a_stop_is_killed_and_what_it_had_is_returned(monkeypatch):
    monkeypatch.setattr(member_module, "PATIENCE_SECONDS", 0.1)
    hanging = member(
        "counts.read, counts.kinds['identify'].delivered = 9, 4; report(); import signal; signal.pause()"
    )
    running = asyncio.create_task(hanging.run())
    while hanging.report is None:
        await asyncio.sleep(0.01)

    hanging._stop.request()
    hanging.tell(Command("stop", hurry=True))
    await running

    assert hanging.farewell is None
    assert (hanging.past.read, hanging.past.ended) == (9, 9)
    assert hanging.exit_code == 75
