"""Cancelled at every await: places, permits and connections come back, and every line is settled once."""

import asyncio
from contextlib import suppress

import pytest
from support.jump_loop import run_jumping
from support.wires import WIRES, wire_to
from support.worker import assert_conserved, identify, memory_worker

from permutive_worker.config import Delivery, Guard, RateLimit, Settings
from permutive_worker.errors import TransportError
from permutive_worker.model import Request, Response
from permutive_worker.sources.memory import MemorySource

STEPS = range(160)  # the whole run takes about so many turns of the loop; the last ones cancel nothing


class SlowWire:
    """Waits twice in each attempt; every third is throttled, every fifth is lost."""

    def __init__(self):
        self.started = self.ended = 0

    async def send(self, request):
        self.started += 1
        number = self.started
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
        finally:
            self.ended += 1
        if number % 5 == 0:
            raise TransportError("reset", sent=True)
        return Response(429 if number % 3 == 0 else 200, {}, b"{}")


class SlowWriter:
    """Waits in every write, as a disk does."""

    def __init__(self):
        self.written = []

    async def open(self):
        pass

    async def write(self, entries):
        await asyncio.sleep(0)
        self.written += [entry.delivery.place for entry in entries]
        await asyncio.sleep(0.001)

    async def close(self):
        pass


async def _cancelled_after(steps, again_after=None):
    wire, writer = SlowWire(), SlowWriter()
    settings = Settings(
        rate_limit=RateLimit(rate_per_second=2000, burst=3),
        delivery=Delivery(max_in_flight=4),
        guard=Guard(max_failure_ratio=1),
    )
    jobs = [identify(number, user=f"u{number % 9}") for number in range(40)]
    worker, _ = memory_worker(jobs, wire, settings=settings)
    worker.writers = dict.fromkeys(worker.writers, writer)
    running = asyncio.create_task(worker.run())
    for turns in (steps, again_after):
        for _ in range(turns or 0):
            await asyncio.sleep(0)
        if turns is not None:
            running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    return worker, wire, writer


@pytest.mark.parametrize("again_after", [None, 0, 1, 3, 7])
def test_a_run_that_is_cancelled_anywhere_settles_every_line_once_and_holds_nothing(again_after):
    cut = 0
    for steps in STEPS:
        worker, wire, writer = run_jumping(_cancelled_after(steps, again_after))

        assert_conserved(worker)
        assert sum(worker.look().pending.values()) == 0, steps
        assert worker.look().pending_bytes == 0, steps
        assert wire.started == wire.ended, steps
        assert [lane.gate.in_flight for lane in worker._workspaces.lanes.values()] in ([0], []), steps
        places = [delivery.place for delivery, _ in worker._source.settled]
        assert len(places) == len(set(places)) == worker.counts.read, steps
        assert sorted(writer.written) == sorted(places), steps
        cut += bool(worker.counts.returned["stop"])
    assert cut > len(STEPS) // 3, "few of the cancellations came while there was work"


@pytest.mark.parametrize("kind", WIRES)
async def test_a_wire_that_is_cancelled_anywhere_gives_its_connection_back(kind):
    served, serving = 0, set()

    async def serve(reader, writer):
        nonlocal served
        serving.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(2)
                served += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{")
                await asyncio.sleep(0)
                writer.write(b"}")
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        serving.discard(writer)

    server = await asyncio.start_server(serve, "127.0.0.1")
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, wire_to(kind, url, connections=2) as wire:
        request = Request("POST", "/v2.0/identify", b"{}", "identify")
        for steps in range(60):
            sending = asyncio.create_task(wire.send(request))
            for _ in range(steps):
                await asyncio.sleep(0)
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
        async with asyncio.timeout(5):  # both are free: nobody waits for a connection that is gone
            answers = await asyncio.gather(*(wire.send(request) for _ in range(4)))
        assert [(answer.status, answer.body) for answer in answers] == [(200, b"{}")] * 4
        assert served >= 4
    while serving:  # the connections are closed, all of them
        await asyncio.sleep(0.01)


class DeafSource(MemorySource):
    """Its broker does not hear."""

    async def flush(self):
        await asyncio.Event().wait()


def test_who_hurries_does_not_wait_for_a_broker_that_does_not_hear():
    async def main():
        loop = asyncio.get_running_loop()
        worker, outcomes = memory_worker([], SlowWire(), source=DeafSource([identify(1)], record=True))
        delivering = asyncio.create_task(worker.run())
        await asyncio.sleep(10)
        assert outcomes
        assert not delivering.done()

        began = loop.time()
        worker.hurry()
        summary = await delivering

        assert loop.time() - began < 1
        assert (summary.read, summary.delivered) == (1, 1)

    run_jumping(main())
