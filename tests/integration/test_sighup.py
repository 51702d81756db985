"""SIGHUP at a real run without a terminal, by what the sandbox and the log say."""

import asyncio
import json
import os
import pty
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support.arrivals import most_in_a_second
from support.faults import assert_conserved, ended, identify, lines
from support.program import KEY, start
from support.raw_server import OK, raw_server
from support.sandbox_process import sandbox_process

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]
NEW_KEY = "marker-key-00000000-1111-2222-3333"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(20_000))))
    return tmp_path


def configure(folder, text):
    """As an editor does it: the file is whole at every moment."""
    (folder / "new.toml").write_text(text)
    (folder / "new.toml").rename(folder / "worker.toml")


async def running(folder, url, *arguments):
    return await start(
        *("run", "--progress", "off", "--log-format", "json", "--base-url", url),
        *("--config", "worker.toml", *arguments, "jobs.ndjson"),
        cwd=folder,
        env={"PERMUTIVE_API_KEY_FILE": str(folder / "key")},
        new_session=True,
    )


async def told(process, event):
    """The next line of the log that is such an event."""
    seen = []
    while line := await process.stderr.readline():
        seen.append(line)
        if (entry := json.loads(line)).get("event") == event:
            return entry
    raise AssertionError(f"it ended without {event}: {seen}")


async def test_the_rate_follows_the_file_and_no_second_has_more(folder):
    configure(folder, "[rate_limit]\nrate_per_second = 200\n")
    async with sandbox_process() as sandbox:
        process = await running(folder, sandbox.url)

        async def arrivals():
            return [at for at, _ in await sandbox.ask("ledger/arrivals")]

        async def sent(count):
            while len(await arrivals()) < count:
                await asyncio.sleep(0.1)
            return await arrivals()

        await sent(500)
        configure(folder, "[rate_limit]\nrate_per_second = 50\n")
        process.send_signal(signal.SIGHUP)
        assert (await told(process, "config.reloaded"))["changed"] == ["rate_limit.rate_per_second"]
        fast = await arrivals()
        slow = (await sent(len(fast) + 200))[len(fast) :]
        configure(folder, "[rate_limit]\nrate_per_second = 400\nburst = 40\n")
        process.send_signal(signal.SIGHUP)
        changed = (await told(process, "config.reloaded"))["changed"]
        before = len(await arrivals())
        again = (await sent(before + 1200))[before:]
        process.send_signal(signal.SIGTERM)
        end = await ended(process)

    assert changed == ["rate_limit.rate_per_second", "rate_limit.burst"]
    assert most_in_a_second(fast) <= 200 + 10
    assert most_in_a_second(slow) <= 50 + 2.5
    assert most_in_a_second(again) <= 400 + 40
    assert (len(again) - 1) / (again[-1] - again[0]) > 300
    assert end.code == 75
    assert_conserved(end.summary)


async def test_a_key_that_was_swapped_is_used_at_once_and_what_is_under_way_goes_on(folder):
    configure(folder, "")
    answer = asyncio.Event()

    async def late(writer):
        await answer.wait()
        writer.write(OK)
        await writer.drain()

    async with raw_server(late) as server:
        process = await running(folder, server.url, "--max-in-flight", "4")
        while len(server.requests) < 4:
            await asyncio.sleep(0.01)
        (folder / "key").write_text(NEW_KEY)
        process.send_signal(signal.SIGHUP)
        await told(process, "credentials.reloaded")
        answer.set()
        while len(server.requests) < 20:
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        end = await ended(process)

    keys = [NEW_KEY if NEW_KEY.encode() in request else KEY for request in server.requests]
    assert keys == [KEY] * 4 + [NEW_KEY] * (len(keys) - 4)
    assert end.code == 75
    assert_conserved(end.summary)


async def test_what_is_refused_held_or_needs_a_restart_is_said_and_changes_nothing(folder):
    configure(folder, "[rate_limit]\nrate_per_second = 20\n")
    async with sandbox_process() as sandbox:
        process = await running(folder, sandbox.url, "--max-in-flight", "4", "--admin", "127.0.0.1:0")
        listening = await told(process, "admin.listening")

        async def reload(text, event):
            configure(folder, text)
            process.send_signal(signal.SIGHUP)
            entry = await told(process, event)
            return entry, await metric(listening, "config_last_reload_successful")

        assert await metric(listening, "config_last_reload_successful") == 1
        refused, good = await reload("[rate_limit]\nrate_per_second = -1\n", "config.refused")
        assert "rate_limit.rate_per_second in worker.toml must be" in refused["reason"]
        assert (refused["level"], good) == ("error", 0)
        refused, good = await reload("[rate_limit]\nrat_per_second = 1\n", "config.refused")
        assert "did you mean rate_limit.rate_per_second" in refused["reason"]
        assert good == 0
        refused, good = await reload("no TOML", "config.refused")
        assert "is no TOML" in refused["reason"]
        assert await metric(listening, 'rate_per_second{kind="ceiling"}') == 20
        (folder / "worker.toml").unlink()
        process.send_signal(signal.SIGHUP)
        assert "cannot be read" in (await told(process, "config.refused"))["reason"]

        held, good = await reload("[delivery]\nmax_in_flight = 9\n", "config.held")
        assert (held["key"], held["by"], held["level"]) == (
            "delivery.max_in_flight",
            "--max-in-flight",
            "warning",
        )
        assert good == 1
        needs, good = await reload('[output]\nresults = "results.ndjson"\n', "config.needs_restart")
        assert (needs["key"], needs["level"], good) == ("output.results", "warning", 1)

        reloaded, _ = await reload('[log]\nlevel = "error"\n', "config.reloaded")
        assert reloaded["changed"] == ["log.level"]
        process.send_signal(signal.SIGTERM)
        end = await ended(process)

    assert "run.stopping" not in end.text
    assert end.code == 75
    assert not (folder / "results.ndjson").exists()


async def metric(listening, name):
    reader, writer = await asyncio.open_connection(*listening["url"].removeprefix("http://").split(":"))
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    page = (await reader.read()).decode()
    writer.close()
    (line,) = [line for line in page.splitlines() if line.startswith(f"permutive_worker_{name} ")]
    return float(line.rpartition(" ")[2])


async def test_at_a_terminal_sighup_ends_the_run(folder):
    async with raw_server(OK) as server:
        command = [sys.executable, "-m", "permutive_worker", "run", "--rate", "5", "--base-url", server.url]
        pid, master_fd = pty.fork()
        if pid == 0:
            os.chdir(folder)
            os.environ["PERMUTIVE_API_KEY"] = KEY
            os.execv(
                sys.executable, [*command, "--progress", "off", "--summary", "summary.json", "jobs.ndjson"]
            )
        await server.asked.wait()
        os.close(master_fd)  # the terminal is gone
        await asyncio.to_thread(os.waitpid, pid, 0)

    summary = json.loads((folder / "summary.json").read_bytes())
    assert summary["exit_code"] == 75
    assert_conserved(summary)


def catches(pid) -> bool:
    """Whether the process has got as far as to have a handler of SIGHUP."""
    (caught,) = re.findall(r"^SigCgt:\s+(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(caught, 16) & 1)  # SIGHUP is 1


async def test_a_signal_at_any_moment_but_the_first_does_not_change_the_exit_code(folder):
    configure(folder, "")
    (folder / "jobs.ndjson").write_bytes(lines(*map(identify, range(200))))
    async with raw_server(OK) as server:
        process = await running(folder, server.url)
        ending = asyncio.create_task(ended(process))
        while not catches(process.pid):
            await asyncio.sleep(0.001)
        while not ending.done():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGHUP)
            await asyncio.sleep(0.001)
        end = await ending

    assert end.code == 0, end.text
    assert end.summary["delivered"] == 200
