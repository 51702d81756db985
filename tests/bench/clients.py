"""The clients that the worker is compared with, each in a process of its own.

    python tests/bench/clients.py bare|plain|lean|httpx|batch_identify URL REQUESTS
    python tests/bench/clients.py syslog_ng URL REQUESTS FILE

Each sends the same body as the worker, the way its documentation shows it. Prints nothing; any answer
but 200 ends it with an error.
"""

import asyncio
import importlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import jobs

TASKS: Final = 64
THREADS: Final = 4  # what PermutiveAPI's documentation recommends
HEADERS: Final = {"X-API-Key": jobs.KEY, "Content-Type": "application/json"}


async def bare(url: str, requests: int) -> None:
    """aiohttp's `session.post` in a loop: no input, no retries, no limits, no outcomes."""
    import aiohttp

    async def post() -> None:
        async with session.post(url, data=jobs.BODY) as response:
            await response.read()
            _expect_200(response.status)

    async with aiohttp.ClientSession(headers=HEADERS) as session:
        await _from_tasks(post, requests)


async def wire(kind: str, url: str, requests: int) -> None:
    """The worker's own wire and nothing else of the worker."""
    from permutive_worker.credentials import Keyring
    from permutive_worker.http.lean import LeanWire
    from permutive_worker.http.plain import PlainWire, open_session
    from permutive_worker.model import Request

    async def post() -> None:
        _expect_200((await one.send(request)).status)

    (credentials,) = Keyring.of_key(jobs.KEY)
    base_url, request = url.removesuffix(jobs.PATH), Request("POST", jobs.PATH, jobs.BODY, "identify")
    async with open_session(TASKS, 10.0) as session:
        one = {"plain": PlainWire, "lean": LeanWire}[kind](
            session, base_url, credentials, timeout_seconds=10.0
        )
        await _from_tasks(post, requests)
        if isinstance(one, LeanWire):
            one.close()


async def by_httpx(url: str, requests: int) -> None:
    import httpx

    async def post() -> None:
        _expect_200((await client.post(url, content=jobs.BODY)).status_code)

    limits = httpx.Limits(max_connections=TASKS, max_keepalive_connections=TASKS)
    async with httpx.AsyncClient(headers=HEADERS, limits=limits) as client:
        await _from_tasks(post, requests)


async def _from_tasks(post: Callable[[], Awaitable[None]], requests: int) -> None:
    async def post_all(turns: Iterator[int]) -> None:
        for _ in turns:
            await post()

    turns = iter(range(requests))
    async with asyncio.TaskGroup() as group:
        for _ in range(min(TASKS, requests)):
            group.create_task(post_all(turns))


def batch_identify(url: str, requests: int) -> None:
    """The PermutiveAPI package, its endpoint pointed at the sink."""
    from PermutiveAPI import Alias, Identity

    # The package re-exports the class under the module's name, so the module must be asked for by path.
    module = importlib.import_module("PermutiveAPI.Identify.Identity")
    vars(module)["_API_ENDPOINT"] = url
    alias = Alias(str(jobs.ALIAS["id"]), str(jobs.ALIAS["tag"]), 0)
    identities = [Identity(jobs.USER_ID, [alias]) for _ in range(requests)]
    responses, failures = Identity.batch_identify(identities, api_key=jobs.KEY, max_workers=THREADS)
    for response in responses:
        _expect_200(response.status_code)
    if failures:
        raise failures[0][1]


SYSLOG_NG: Final = """\
@version: 3.35
options { stats-freq(0); log-msg-size(1048576); };
log {
  source { file("%(file)s" flags(no-parse) log-fetch-limit(1000) log-iw-size(16000) follow-freq(0.1)); };
  destination {
    http(url("%(url)s") method("POST") body("${MSG}") workers(16) log-fifo-size(20000) persist-name("jobs")
         headers("Content-Type: application/json", "X-API-Key: %(key)s"));
  };
  flags(flow-control);
};
"""


def syslog_ng(url: str, requests: int, file: str) -> None:
    """A line a POST, as its documentation has it, until the sink has counted all of them."""
    told = url.removesuffix(jobs.PATH)
    Path("syslog-ng.conf").write_text(SYSLOG_NG % {"file": file, "url": url, "key": jobs.KEY})
    own = [f"--{name}=syslog-ng.{name}" for name in ("persist-file", "pidfile", "control")]
    command = ["syslog-ng", "--foreground", "--no-caps", "--cfgfile=syslog-ng.conf", *own]
    before = _requests(told)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and _requests(told) < before + requests:
            time.sleep(0.05)
        process.terminate()
    if _requests(told) != before + requests:
        raise SystemExit("syslog-ng did not deliver every line once")


def _requests(url: str) -> int:
    with urllib.request.urlopen(url) as answer:
        done: int = json.load(answer)["requests"]
    return done


def _expect_200(status: int) -> None:
    if status != 200:
        raise SystemExit(f"the sink answered {status}")


def main(name: str, url: str, requests: int, *more: str) -> None:
    endpoint = url + jobs.PATH
    if name == "syslog_ng":
        syslog_ng(endpoint, requests, *more)
        return
    if name == "batch_identify":
        batch_identify(endpoint, requests)
        return
    import uvloop

    client = {
        "bare": bare,
        "plain": partial(wire, "plain"),
        "lean": partial(wire, "lean"),
        "httpx": by_httpx,
    }[name]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(client(endpoint, requests))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
