"""The status page in a real browser: first beside a run against the sandbox, then in states that are set up."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest
from support.brokers import free_port
from support.browser import Tab, chromium
from support.program import KEY, start
from support.sandbox_process import sandbox_process

from permutive_worker.admin.server import AdminServer
from permutive_worker.model import Reason
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.metrics import build_registry
from permutive_worker.telemetry.status import HaltStatus, LaneStatus, LetterStatus, Status

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

NOW = datetime.now(UTC)
LANE = LaneStatus("", 1200, 3, 0, 2, 64, 500.0, 500.0, None, None, "closed", credentials_valid=True)
RUNNING = Status("running", "run-1", NOW, 8.0, [LANE], 0, 300, 1024, 5, 10, 6)
NARROW = 360  # pixels, of a small phone
SENTENCE = "document.getElementById('now').textContent"
SHOWN = "!document.getElementById('all').hidden"
HTML = "<img src=x onerror=alert(1)>"


def shown(id_: str) -> str:
    return f"document.getElementById('{id_}').textContent"


def number(id_: str) -> str:
    return f"Number({shown(id_)}.replaceAll(',', ''))"


class Shown:
    """A worker that is only looked at; tests change `status` and `counts`."""

    def __init__(self) -> None:
        self.counts = Counts("file", ["identify"])
        self.status = RUNNING

    def look(self) -> Status:
        return self.status

    async def serve(self, port: int) -> AdminServer:
        registry = build_registry(self.counts, self.look, "1")
        server = AdminServer(str(port), registry, self.look, self.counts)
        await server.start()
        return server


def lane(**changes) -> LaneStatus:
    return msgspec.structs.replace(LANE, **changes)


def written(folder: Path, lines: int) -> str:
    job = {"type": "identify", "aliases": []}
    text = "".join(json.dumps(job | {"user_id": f"user-{number}"}) + "\n" for number in range(lines))
    (folder / "jobs.ndjson").write_text(f"no job {HTML}\n{text}")
    return "jobs.ndjson"


async def assert_accessible(tab: Tab) -> None:
    """What axe finds wrong is named: roles, names, landmarks, contrast."""
    await tab.run((files("axe_core_python") / "axe.min.js").read_text() + "; 0")
    found = await tab.run(
        "axe.run().then(told => told.violations.map(one => "
        "one.id + ': ' + one.nodes.map(node => node.html + ' ' + node.failureSummary).join(' | ')))"
    )
    assert found == [], "\n".join(found)


async def assert_fits(tab: Tab, width: int) -> None:
    assert await tab.run("document.documentElement.scrollWidth") <= width


async def test_the_page_follows_a_run_through_a_pause_and_a_refused_key_to_its_end_and_finds_the_next(
    tmp_path,
):
    port = free_port()
    run = ("run", "--admin", port, "--rate", 200, "--progress", "off", written(tmp_path, 20_000))
    env = {"PERMUTIVE_API_KEY": KEY}
    async with sandbox_process("--retry-after=6") as sandbox, chromium(tmp_path) as browser:
        worker = await start(*run, "--base-url", sandbox.url, cwd=tmp_path, env=env)
        try:
            tab = await browser.open("about:blank")
            await tab.until_open(f"http://127.0.0.1:{port}/")
            first = await tab.until(number("delivered"))
            await tab.until(f"{number('delivered')} > {first + 100}")
            assert await tab.run(shown("dead")) == "1"
            assert "malformed" in await tab.run(shown("reasons"))

            await sandbox.ask("limit", {"rate_limit": 1})
            await tab.until(f"{SENTENCE}.match(/Paused by the API .Retry-After. for another [1-6] s/)")
            await sandbox.ask("limit", {"rate_limit": 0})
            await sandbox.ask("keys", {"api_keys": []})
            await tab.until(f"{SENTENCE}.match(/The key is refused .401.: no request is accepted since/)")
            await tab.until(f"{SENTENCE}.includes('Replace the key')")
            assert tab.complaints == []

            worker.terminate()
            await tab.until(f"{SENTENCE}.includes('The worker has ended (exit 75)')")
            await worker.wait()
            first_run = (await tab.run(shown("run"))).split()[1]
            assert not await tab.run("document.body.classList.contains('stale')")

            await sandbox.ask("keys", {"api_keys": None})
            worker = await start(*run, "--base-url", sandbox.url, cwd=tmp_path, env=env)
            await tab.until(f"!{shown('run')}.includes('{first_run}') && {number('delivered')} > 0")
            assert all(url.startswith(f"http://127.0.0.1:{port}/") for url in tab.requested)
        finally:
            if worker.returncode is None:
                worker.kill()
            await worker.communicate()


@pytest.mark.parametrize("dark", [False, True])
async def test_in_every_state_the_page_fits_a_phone_and_can_be_read_by_all(tmp_path, dark):
    looked = Shown()
    looked.counts.read = 1_234_567
    looked.counts.dead_lettered[Reason.REJECTED] = 1_204
    looked.counts.kinds["identify"].answered(400, 0.02)
    letter = LetterStatus(NOW, "identify", "rejected", 400, 4001, f"exports/{'a' * 80}.ndjson:17")
    server = await looked.serve(0)
    halt = [HaltStatus(None, 401, NOW, 3)]
    refused = lane(workspace="a-long-name-of-a-workspace", halts=halt, credentials_valid=False)
    states = {
        "Delivering": [LANE],
        "Paused": [lane(paused_until=datetime.now(UTC) + timedelta(seconds=90), pause_reason="retry_after")],
        "workspace: The key is refused": [refused, *(lane(workspace=f"workspace-{n}") for n in range(6))],
    }
    async with chromium(tmp_path) as browser:
        tab = await browser.open("about:blank")
        await tab.screen(NARROW, dark=dark)
        await tab.until_open(server.url)
        for sentence, lanes in states.items():
            looked.status = msgspec.structs.replace(RUNNING, lanes=lanes, last_dead_letters=[letter])
            await tab.until(f"{SENTENCE}.includes('{sentence}') && {SHOWN}")
            await assert_fits(tab, NARROW)
            await assert_accessible(tab)
        position = await tab.run("document.querySelector('#letters td:last-child').textContent")
        assert position == f"…{'a' * 29}.ndjson:17"  # twenty whole ones would be many screens
        await server.close()
        assert tab.complaints == []


async def test_text_from_outside_stays_text(tmp_path):
    looked = Shown()
    letter = LetterStatus(NOW, HTML, "rejected", 400, 4001, f"{HTML}:1")
    lanes = [lane(workspace=HTML), lane(workspace="eu")]
    looked.status = msgspec.structs.replace(
        RUNNING, lanes=lanes, last_dead_letters=[letter], source_lag=12_345
    )
    server = await looked.serve(0)
    async with chromium(tmp_path) as browser:
        tab = await browser.open("about:blank")
        await tab.until_open(server.url)
        await tab.until(SHOWN)

        text = await tab.text()
        assert text.count(HTML) == 2
        assert "12,345" in text
        assert await tab.run("document.images.length") == 0
        paths = {"/", "/page.css", "/page.js", "/icon.png", "/events"}
        assert set(tab.requested) <= {server.url + path for path in paths}
        await server.close()


async def test_a_connection_that_is_lost_is_said_and_tried_again(tmp_path):
    looked = Shown()
    server = await looked.serve(0)
    port = int(server.url.rpartition(":")[2])
    async with chromium(tmp_path) as browser:
        tab = await browser.open("about:blank")
        await tab.until_open(server.url)
        await tab.until(SHOWN)
        await server.close()  # without an end: the process was killed

        await tab.until(f"{SENTENCE}.includes('Connection lost, trying again')")
        await tab.until("document.body.classList.contains('stale')")
        assert "What is below is from" in await tab.run(SENTENCE)

        server = await looked.serve(port)
        await tab.until("!document.body.classList.contains('stale')")
        assert "Delivering" in await tab.until(f"{SENTENCE}.includes('Delivering') && {SENTENCE}")
        await server.close()


async def test_without_javascript_the_page_names_the_status(tmp_path):
    server = await Shown().serve(0)
    async with chromium(tmp_path) as browser:
        tab = await browser.open("about:blank")
        await tab.call("Emulation.setScriptExecutionDisabled", value=True)
        await tab.until_open(server.url)
        async with asyncio.timeout(30):
            while "needs JavaScript" not in await tab.text():
                await asyncio.sleep(0.05)
        assert "at status, as JSON" in await tab.text()
        await server.close()
