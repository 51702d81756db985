"""A run in several processes, and its processes as the system knows them."""

import asyncio
import json
import os
import signal
from contextlib import suppress
from pathlib import Path

from support.program import Ended, start


def write_files(folder, files, lines):
    """`files` files of `lines` lines each; job ids count through all of them."""
    for number in range(files):
        jobs = (
            {"type": "identify", "user_id": f"user-{one}", "aliases": [], "job_id": one}
            for one in range(number * lines, (number + 1) * lines)
        )
        (folder / f"jobs-{number}.ndjson").write_text("".join(json.dumps(job) + "\n" for job in jobs))


def job_ids(path):
    return [json.loads(line)["job_id"] for line in path.read_bytes().splitlines()] if path.exists() else []


def alive(pid):
    """Whether a process runs; one that only waits to be asked for its exit code does not."""
    return state_of(pid) not in ("Z", "")


def state_of(pid):
    """The letter that `ps` shows; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def children_of(pid):
    """Its worker processes, the oldest first."""
    try:
        pids = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    except OSError:
        return []
    return [pid for pid in pids if alive(pid)]


async def until(condition):
    async with asyncio.timeout(40):
        while not condition():
            await asyncio.sleep(0.01)


class FleetRun:
    """`run --processes` over the files of a folder."""

    def __init__(self, process):
        self.process = process
        self._ended = asyncio.create_task(process.communicate())

    @classmethod
    async def begin(cls, sandbox, folder, *more, processes=2, inputs=("jobs-*.ndjson",), **given):
        base = ("run", "--processes", processes, "--base-url", sandbox.url, "--progress", "off")
        return cls(await start(*base, *more, *inputs, cwd=folder, **given))

    @property
    def members(self):
        return children_of(self.process.pid)

    async def working(self, count):
        """Return its worker processes, once there are so many."""
        await until(lambda: self._ended.done() or len(self.members) == count)
        return self.members

    async def end(self):
        stdout, stderr = await self._ended
        return Ended(self.process.returncode, stdout, stderr)

    async def kill(self):
        """Leave nothing behind, whatever a test found."""
        for pid in [*self.members, self.process.pid]:
            if self.process.returncode is None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        await self._ended
