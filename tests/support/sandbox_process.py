"""The sandbox as a process of its own, so that it does not share a core with the test."""

import asyncio
import json
import re
import sys
import urllib.request
from contextlib import asynccontextmanager, suppress


class SandboxProcess:
    """Where it listens, and what it has seen."""

    def __init__(self, url):
        self.url = url

    async def ask(self, path, body=None):
        """GET `/_sandbox/<path>`, or POST `body` to it."""
        data = None if body is None else json.dumps(body).encode()

        def call():
            with urllib.request.urlopen(f"{self.url}/_sandbox/{path}", data) as told:
                return told.read()

        return json.loads(await asyncio.to_thread(call) or b"null")


@asynccontextmanager
async def sandbox_process(*options):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "permutive_worker",
        "sandbox",
        "--port=0",
        *options,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        first_line = (await process.stderr.readline()).decode()
        drained = asyncio.create_task(process.stderr.read())  # or its pipe fills up
        yield SandboxProcess(re.findall(r"http://[0-9.:]+", first_line)[0])
        drained.cancel()
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
