"""The key and the identifiers stay where they belong, whatever fails, at debug level."""

import asyncio
import gzip
import json
import os
import re
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from support.faults import ended, lines, running, stopped
from support.program import KEY, program
from support.raw_server import close, hang, raw_server, reset, then

pytestmark = pytest.mark.process
IDENTIFIER = "marker-identifier-of-a-reader"
JOBS = lines(
    {"type": "identify", "user_id": IDENTIFIER, "aliases": [{"id": IDENTIFIER + "2", "tag": "t"}]},
    {"type": "event", "name": "Visited", "user_id": IDENTIFIER, "properties": {"at": IDENTIFIER}},
    {"type": "identify", "user_id": IDENTIFIER, "aliases": [{"id": IDENTIFIER, "tag": "t", "priority": "x"}]},
    {"type": "identify", IDENTIFIER: 1},
    {"type": IDENTIFIER},
    {"type": "identify", "user_id": IDENTIFIER, "workspace": IDENTIFIER},
    b'{"type":"identify","user_id":"' + IDENTIFIER.encode() * 200,
    b"\xff" + IDENTIFIER.encode(),
    b"{" + IDENTIFIER.encode(),
)
ECHO = json.dumps(
    {"error": {"message": f"bad key {KEY} of {IDENTIFIER}", "code": 1, "status": IDENTIFIER}, "k": KEY}
).encode()


def answer(status: str, body: bytes = ECHO, headers: bytes = b"") -> bytes:
    """An answer that says all it knows."""
    location = f"Location: https://{KEY}@example.com/{IDENTIFIER}?k={KEY}\r\n".encode()
    return b"HTTP/1.1 %b\r\n%b%bContent-Length: %d\r\n\r\n%b" % (
        status.encode(),
        location,
        headers,
        len(body),
        body,
    )


PACKED = gzip.compress(ECHO)
ANSWERS = {
    "200": answer("200 OK"),
    "400": answer("400 Bad"),
    "401": answer("401 No"),
    "403": answer("403 No"),
    "404": answer("404 Where"),
    "413": answer("413 Large"),
    "429": answer("429 Slow", headers=b"Retry-After: 86400\r\n"),
    "500": answer("500 Oops"),
    "redirect": answer("302 Elsewhere"),
    "wrong reason": answer(f"400 {KEY} {IDENTIFIER}"),
    "gzip": answer("400 Bad", PACKED, b"Content-Encoding: gzip\r\n"),
    "broken gzip": answer("400 Bad", PACKED[:-9] + b"garbage!!", b"Content-Encoding: gzip\r\n"),
    "garbage": f"{KEY} {IDENTIFIER}\r\n\r\n".encode(),
    "bad header": f"HTTP/1.1 200 OK\r\n{KEY} {IDENTIFIER}\r\n\r\n".encode(),
    "half": then(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + ECHO, reset),
    "reset": reset,
    "close": close,
    "hang": hang,
}


def assert_private(tmp_path, told):
    """The key is nowhere; an identifier is only in what is written down for the lines themselves."""
    said_text = told.text + told.stdout.decode(errors="replace")
    assert KEY not in said_text
    assert IDENTIFIER not in said_text
    for path in tmp_path.iterdir():
        kept = path.read_text(errors="replace")
        assert KEY not in kept, path.name
        assert path.stat().st_mode & 0o077 == 0
        assert path.name != "summary.json" or IDENTIFIER not in kept


@pytest.mark.parametrize("kind", ANSWERS)
async def test_neither_key_nor_identifier_is_told_whatever_the_server_does(tmp_path, kind):
    async with raw_server(ANSWERS[kind]) as server:
        told = await program(
            *("run", "--base-url", server.url, "--log-level", "debug", "--timeout", "0.3"),
            *("--max-attempts", "2", "--set", "delivery.backoff_initial_seconds=0.01"),
            *("--set", "delivery.max_halt_seconds=1", "--summary", "summary.json"),
            *("--results", "results.ndjson", "--set", "input.max_line_bytes=4000"),
            cwd=tmp_path,
            stdin=JOBS,
        )

    assert told.code in (0, 3, 75, 77, 78), told.text
    assert told.summary["read"] == 9
    assert_private(tmp_path, told)


async def test_what_an_answer_says_is_kept_without_the_key(tmp_path):
    async with raw_server(ANSWERS["400"]) as server:
        await program("run", "--base-url", server.url, cwd=tmp_path, stdin=JOBS)

    kept = (tmp_path / "dead-letters.ndjson").read_text()
    assert "bad key" in kept
    assert IDENTIFIER in kept, "it is the data"
    assert KEY not in kept


async def test_pages_metrics_and_status_hold_neither(tmp_path):
    answers = [ANSWERS["400"], ANSWERS["500"], ANSWERS["401"]]
    async with raw_server(*answers) as server:
        process = await running(
            *("--base-url", server.url, "--log-level", "debug", "--admin", "127.0.0.1:0"),
            *("--set", "delivery.backoff_initial_seconds=60", "--max-in-flight", "1"),
            cwd=tmp_path,
            stdin=asyncio.subprocess.PIPE,
        )
        url = await admin_url(process)
        process.stdin.write(JOBS)
        await server.asked.wait()
        pages = [await asyncio.to_thread(get, url + path) for path in ("/metrics", "/status", "/", "/readyz")]
        process.send_signal(signal.SIGTERM)
        told = await ended(process)

    assert_private(tmp_path, told)
    for page in pages:
        assert KEY not in page
        assert IDENTIFIER not in page


INJECTED = """
import sys
from permutive_worker.cli.main import main
from permutive_worker.destinations.permutive import PermutiveDestination
from permutive_worker.delivery.intake import Intake
from permutive_worker.delivery.settler import Settler
from permutive_worker.http.lean import LeanWire
from permutive_worker.http.plain import PlainWire
from permutive_worker.outcomes.dead_letters import DeadLetterWriter
from permutive_worker.sources.stdin import StdinSource

def fail(self, *arguments, **named):
    local = "{key}", arguments
    try:
        raise KeyError("{key} {identifier}")
    except KeyError as error:
        error.add_note("{identifier}")
        raise RuntimeError("{identifier}", arguments) from error

async def fail_async(self, *arguments, **named):
    fail(self, *arguments, **named)

place, name = sys.argv.pop(1).split(".")
is_async = name in ("_settle_group", "send", "write", "receive")
setattr(globals()[place], name, fail_async if is_async else fail)
main()
""".replace("{key}", KEY).replace("{identifier}", IDENTIFIER)


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("PermutiveDestination.request", 3),
        ("PermutiveDestination.judge", 3),
        ("PlainWire.send", 3),
        ("LeanWire.send", 3),
        ("Intake._read", 1),
        ("StdinSource.receive", 1),
        ("StdinSource.settle", 1),
        ("Settler._count", 1),
        ("Settler._settle_group", 1),
        ("DeadLetterWriter.write", 1),
    ],
)
async def test_a_bug_tells_where_it_is_and_not_whom_it_met(tmp_path, place, code):
    async with raw_server(ANSWERS["200"]) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-W", "ignore", "-c", INJECTED, place),
            *("run", "--base-url", server.url, "--log-level", "debug", "--progress", "off"),
            *("--set", f"http.wire={'plain' if place.startswith('PlainWire') else 'auto'}"),
            cwd=tmp_path,
            env={**os.environ, "PERMUTIVE_API_KEY": KEY, "PYTHONFAULTHANDLER": "1"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        told = await ended(process, JOBS)

    assert told.code == code, told.text
    assert "RuntimeError" in told.text
    assert_private(tmp_path, told)


async def test_a_full_disk_tells_neither(tmp_path):
    (tmp_path / "results").symlink_to("/dev/full")
    async with raw_server(ANSWERS["200"]) as server:
        told = await program(
            *("run", "--base-url", server.url, "--log-level", "debug", "--results", "results"),
            cwd=tmp_path,
            stdin=JOBS,
        )
    (tmp_path / "results").unlink()

    assert told.code == 74, told.text
    assert_private(tmp_path, told)


def told_by_the_kernel(pid) -> tuple[bytes, str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes(), Path(f"/proc/{pid}/limits").read_text()


async def test_a_running_process_shows_no_key_and_would_leave_no_core(tmp_path):
    async with raw_server(hang) as server:
        process = await running("--base-url", server.url, cwd=tmp_path, stdin=asyncio.subprocess.PIPE)
        process.stdin.write(JOBS)
        await server.asked.wait()
        shown, limits = told_by_the_kernel(process.pid)
        await stopped(process)

    assert b"run" in shown
    assert KEY.encode() not in shown
    assert re.search(r"^Max core file size +0 ", limits, re.MULTILINE)


async def test_a_key_is_not_taken_from_the_command_line_nor_repeated(tmp_path):
    told = await program("run", f"--api-key={KEY}", cwd=tmp_path, env={})
    assert told.code == 64
    assert KEY not in told.text


async def admin_url(process) -> str:
    while line := await process.stderr.readline():
        for word in line.decode().replace('"', " ").split():
            if word.startswith("http://"):
                return word.rstrip("/")
    raise AssertionError("it did not say where it listens")


def get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as page:
            return page.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.read().decode()
