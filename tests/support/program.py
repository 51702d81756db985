"""The real program as a process, as a user starts it."""

import asyncio
import json
import os
import sys
from pathlib import Path

KEY = "marker-key-f9975143-2d88-46dc-9247"


class Ended:
    """What a process left behind."""

    def __init__(self, code: int, stdout: bytes, stderr: bytes) -> None:
        self.code = code
        self.stdout = stdout
        self.stderr = stderr

    @property
    def text(self) -> str:
        return self.stderr.decode()

    @property
    def summary(self) -> dict:
        for line in reversed(self.text.splitlines()):
            if line.startswith('{"run_id"'):
                return json.loads(line)
        raise AssertionError(f"no summary in: {self.text}")


async def start(
    *arguments: str,
    cwd: Path,
    env: dict | None = None,
    stdin=asyncio.subprocess.DEVNULL,
    stdout=asyncio.subprocess.PIPE,
    stderr=asyncio.subprocess.PIPE,
    new_session=False,
):
    """`new_session`: without the terminal of whoever runs the tests, as a service is."""
    environ = {
        name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "PYTHONPATH")
    }
    environ |= {"PERMUTIVE_API_KEY": KEY} if env is None else env
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "permutive_worker",
        *map(str, arguments),
        cwd=cwd,
        env=environ,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=new_session,
    )


async def program(*arguments: str, cwd: Path, env: dict | None = None, stdin: bytes | None = None) -> Ended:
    """Run to the end, of the test at the latest."""
    process = await start(
        *arguments,
        cwd=cwd,
        env=env,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
    )
    try:
        stdout, stderr = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ended(process.returncode, stdout, stderr)
