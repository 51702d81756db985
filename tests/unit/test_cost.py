"""What one job costs, in things that can be counted: a machine's load does not change them.

Calls of Python functions (a coroutine that goes on counts as one), tasks and timers for each job. The
bounds are a tenth or so above what was counted; who makes a job cheaper may lower them, who must make it dearer
says why. Times are measured by tests/bench/throughput.py.
"""

import asyncio
import sys
from collections import Counter
from functools import partial

from support.worker import KEY, identify

import permutive_worker
from permutive_worker.config import Http, RateLimit, Settings
from permutive_worker.credentials import Keyring
from permutive_worker.destinations.memory import MemoryWire
from permutive_worker.model import Response
from permutive_worker.sources.memory import MemorySource
from permutive_worker.worker import Worker

JOBS = 1000
OURS = permutive_worker.__path__[0]
NEVER_BINDS = RateLimit(rate_per_second=1e6)  # the search for an unknown limit goes by the clock
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Server(asyncio.Protocol):
    """Answers each body; what it costs itself is the same for every wire."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if data.endswith(b"}"):  # the plain wire may send the head apart
            self.transport.write(ANSWER)


class Cost:
    """For each job, beyond what a run without jobs costs."""

    def __init__(self, run):
        some, none = _count(run, JOBS), _count(run, 0)
        some.subtract(none)
        self._calls = some

    @property
    def calls(self):
        return self._calls.total() / JOBS

    def calls_of(self, *parts):
        """Of functions whose file has one of these in its path."""
        found = sum(count for (path, _), count in self._calls.items() if any(part in path for part in parts))
        return found / JOBS

    def calls_named(self, *names):
        return sum(count for (_, name), count in self._calls.items() if name in names) / JOBS

    def __str__(self):
        told = self._calls.most_common(70)
        return "\n".join(f"{count / JOBS:6.2f} {path[-40:]} {name}" for (path, name), count in told)


def _count(run, jobs):
    calls = Counter()

    def look(frame, event, _):
        if event == "call":
            calls[frame.f_code.co_filename, frame.f_code.co_name] += 1

    async def counted():
        sys.setprofile(look)
        try:
            await run(jobs)
        finally:
            sys.setprofile(None)

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:  # its calls are Python, and seen
        runner.run(counted())
    return calls


async def deliver(jobs, settings, **given):
    worker = Worker(
        settings,
        source=MemorySource([identify(number) for number in range(jobs)]),
        keyring=Keyring.of_key(KEY),
        **given,
    )
    summary = await worker.run()
    assert summary.delivered == jobs


async def in_memory(jobs):
    wire = MemoryWire(lambda _: Response(200, {}, b"{}"))
    await deliver(jobs, Settings(rate_limit=NEVER_BINDS), wire=wire, writers={})


async def over_loopback(kind, jobs):
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await deliver(jobs, Settings(http=Http(base_url=url, wire=kind), rate_limit=NEVER_BINDS), writers={})
    server.close()


def test_a_job_in_memory():
    cost = Cost(in_memory)
    assert cost.calls_of(OURS) < 45, cost
    assert cost.calls_named("create_task", "call_at") < 0.05, cost


def test_a_job_on_the_lean_wire():
    cost = Cost(partial(over_loopback, "lean"))
    assert cost.calls_of(OURS) < 56, cost
    assert cost.calls_of("aiohttp") < 36, cost  # 28 with 3.14
    assert cost.calls_named("create_task", "call_at") < 0.15, cost  # three for a connection, none for a job


def test_the_lean_wire_costs_much_less_than_the_plain_one():
    lean, plain = (Cost(partial(over_loopback, kind)) for kind in ("lean", "plain"))
    assert lean.calls < 0.6 * plain.calls
    assert lean.calls_of("aiohttp") < plain.calls_of("aiohttp") / 3
