"""What tests of a stop need: lines, a process that is running, and its end."""

import asyncio
import json
import signal
from pathlib import Path

from support.program import Ended, start


def identify(number, **more):
    return {"type": "identify", "user_id": f"user-{number}", "aliases": [], "job_id": f"job-{number}", **more}


def lines(*jobs):
    return b"".join((job if isinstance(job, bytes) else json.dumps(job).encode()) + b"\n" for job in jobs)


def assert_conserved(summary):
    ends = ("delivered", "dead_lettered", "skipped", "returned")
    assert summary["read"] == sum(summary[end] for end in ends), summary


async def running(*arguments, cwd: Path, **given):
    """Start the program with the limits a test can wait for."""
    return await start("run", "--progress", "off", *arguments, cwd=cwd, **given)


async def ended(process, stdin: bytes | None = None) -> Ended:
    """Wait for the end, which must come long before a drain is over."""
    async with asyncio.timeout(15):
        stdout, stderr = await process.communicate(stdin)
    return Ended(process.returncode, stdout or b"", stderr)


async def stopped(process, number=signal.SIGTERM) -> Ended:
    process.send_signal(number)
    return await ended(process)


async def said(process, text: str) -> None:
    """Wait until the process says `text` in its log."""
    while text.encode() not in (line := await process.stderr.readline()):
        assert line, f"it ended without saying {text!r}"
