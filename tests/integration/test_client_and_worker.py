"""A client and a worker in one process: the same keys, connections and gates."""

import asyncio
from contextlib import aclosing

import pytest
from support.jump_loop import run_jumping
from support.scripted_api import answered, scripted
from support.worker import KEY, LoopClock, assert_conserved, identify, memory_worker

from permutive_worker import Settings, deliver, stream
from permutive_worker.config import Delivery
from permutive_worker.control.pace import Pace
from permutive_worker.credentials import Keyring
from permutive_worker.destinations.memory import MemoryWire
from permutive_worker.errors import ConfigurationError
from permutive_worker.http.gate import Gate
from permutive_worker.limits.local import LocalLimiter
from permutive_worker.permutive import AuthenticationError, PermutiveClient, RateLimitError
from permutive_worker.sandbox.app import Sandbox
from permutive_worker.sandbox.options import SandboxOptions
from permutive_worker.sources.memory import MemorySource

USER = "2008c38f-dece-4570-976d-87593ed001c3"


@pytest.mark.parametrize("by_keyword", [True, False])
async def test_deliver_through_a_client(by_keyword):
    async with (
        Sandbox(SandboxOptions(api_keys=frozenset({KEY}))) as sandbox,
        PermutiveClient(api_key=KEY, base_url=sandbox.url) as permutive,
    ):
        jobs = [identify(number) for number in range(200)]
        jobs.append({"type": "cohort.create", "name": "VIP", "query": {}})
        jobs.append({"type": "segment.delete", "import_id": "none", "code": "c"})
        told = []
        given = {"client": permutive} if by_keyword else {"settings": permutive}

        outcomes = await deliver(jobs, **given, max_in_flight=8, on_progress=told.append)

        assert [outcome.index for outcome in outcomes] == list(range(202))
        assert all(outcome.delivered for outcome in outcomes[:201])
        assert (outcomes[201].reason, outcomes[201].status) == ("rejected", 404)
        assert outcomes[200].response["name"] == "VIP"
        assert (told[-1].completed, told[-1].total, told[-1].errors) == (202, 202, 1)
        (gate,) = permutive.gates.values()
        assert (gate.in_flight, gate.watchers) == (0, [])
        assert await permutive.users.create()  # the worker has not closed what is not its own


async def test_stream_through_a_client():
    async def jobs():
        for number in range(20):
            yield identify(number)

    async with (
        Sandbox() as sandbox,
        PermutiveClient(api_key=KEY, base_url=sandbox.url) as permutive,
        aclosing(stream(jobs(), client=permutive)) as outcomes,
    ):
        found = {outcome.job_id async for outcome in outcomes}

    assert found == set(range(20))


async def test_a_client_brings_its_own_keys():
    async with PermutiveClient(api_key=KEY, wire=MemoryWire(lambda _: answered(200))) as permutive:
        with pytest.raises(ConfigurationError, match="not both"):
            await deliver([], client=permutive, keyring=Keyring.of_key(KEY))


async def test_max_in_flight_without_a_client():
    flying = highest = 0

    class Wire:
        async def send(self, request):
            nonlocal flying, highest
            flying += 1
            highest = max(highest, flying)
            await asyncio.sleep(0)
            flying -= 1
            return answered(200, {})

    settings = Settings(delivery=Delivery(max_attempts=2))
    await deliver(
        map(identify, range(100)), settings, keyring=Keyring.of_key(KEY), wire=Wire(), max_in_flight=3
    )

    assert highest == 3


def test_a_pause_of_the_worker_holds_the_client_and_the_other_way_round():
    async def run():
        loop, times = asyncio.get_running_loop(), []

        def answer(request):
            times.append((loop.time(), request.kind))
            first_of_kind = [kind for _, kind in times].count(request.kind) == 1
            if request.kind == "identify" and first_of_kind:
                return answered(429, Retry_After="30")
            return answered(200, {"id": USER, "user_id": USER})

        permutive, wire = scripted(answer)
        worker, outcomes = memory_worker([identify(0)], wire, gates=permutive.gates)
        running = asyncio.create_task(worker.run())
        while not times:
            await asyncio.sleep(0.01)
        await asyncio.gather(running, *(permutive.users.create() for _ in range(3)))
        return times, outcomes

    times, outcomes = run_jumping(run())
    assert outcomes[0].delivered
    assert len(times) == 5
    assert min(at for at, _ in times[1:]) >= 30


def test_they_share_the_places():
    async def run():
        flying = highest = 0
        permutive, wire = scripted(answered(200, {"id": USER}), max_in_flight=4)
        send = wire.send

        async def slow(request):
            nonlocal flying, highest
            flying += 1
            highest = max(highest, flying)
            await asyncio.sleep(1)
            flying -= 1
            return await send(request)

        wire.send = slow
        worker, _ = memory_worker(map(identify, range(40)), wire, gates=permutive.gates)
        calls = (permutive.users.create() for _ in range(40))
        await asyncio.gather(worker.run(), *calls)
        assert_conserved(worker)
        return highest, wire.requests, asyncio.get_running_loop().time()

    highest, sent, seconds = run_jumping(run())
    assert highest == 4
    assert seconds == pytest.approx(20, abs=1)  # 80 requests of a second each, four at a time
    kinds = [request.kind for request in sent]
    assert len(kinds) == 80
    for begin in range(8, 44, 12):  # neither starves while the other has much to do
        assert 2 <= kinds[begin : begin + 12].count("identify") <= 10


class Steady(Pace):
    """A pace that has found its rate."""

    def _tick(self, now):
        pass


def steady(rate):
    pace = Steady()
    pace.target = rate
    pace._starting = False
    return pace


@pytest.mark.parametrize("given", [{"limiter": 20}, {"pace": 20}], ids=["ceiling", "pace"])
def test_they_share_the_rate(given):
    async def run():
        gate = (
            Gate(32, LocalLimiter(20), Pace(20))
            if "limiter" in given
            else Gate(32, None, steady(given["pace"]))
        )
        permutive, wire = scripted(answered(200, {"id": USER}), gates={"default": gate})
        worker, _ = memory_worker(map(identify, range(60)), wire, gates=permutive.gates)
        running = asyncio.create_task(worker.run())
        while not wire.requests:
            await asyncio.sleep(0.01)
        await asyncio.gather(*(permutive.users.create() for _ in range(20)))
        kinds = [request.kind for request in wire.requests]
        await running
        return kinds.count("identify"), asyncio.get_running_loop().time()

    jobs_meanwhile, seconds = run_jumping(run())
    assert 4 <= jobs_meanwhile <= 40
    assert seconds == pytest.approx(4, abs=0.5)  # 80 requests


def test_what_the_worker_was_refused_the_client_does_not_ask():
    async def run():
        permutive, wire = scripted(answered(429, Retry_After="600"))
        worker, _ = memory_worker([identify(0)], wire, gates=permutive.gates)
        running = asyncio.create_task(worker.run())
        while not wire.requests:
            await asyncio.sleep(0.01)
        with pytest.raises(RateLimitError):
            await permutive.users.create()
        worker.stop()
        await running
        return len(wire.requests)

    assert run_jumping(run()) == 1


@pytest.mark.parametrize("worker_first", [True, False])
def test_a_key_that_one_was_refused_with_the_other_only_probes_with(worker_first):
    async def run():
        loop, times = asyncio.get_running_loop(), []

        def answer(_):
            times.append(loop.time())
            return answered(401) if loop.time() < 22 else answered(200, {"id": USER})

        permutive, wire = scripted(answer)
        source = MemorySource(map(identify, range(50)))
        source.finite = False  # a finite run would give up
        worker, outcomes = memory_worker(None, wire, gates=permutive.gates, source=source)
        if not worker_first:
            with pytest.raises(AuthenticationError):
                await permutive.users.create()
        running = asyncio.create_task(worker.run())
        while loop.time() < 21:
            with pytest.raises(AuthenticationError):
                await permutive.users.create()
            await asyncio.sleep(0.5)
        await running
        await permutive.users.create()
        return sum(at < 22 for at in times), outcomes

    refused, outcomes = run_jumping(run())
    assert all(outcome.delivered for outcome in outcomes)
    assert refused <= 32 + 7 if worker_first else refused <= 7  # what was in flight, and a probe in 5 s


def test_the_clock_is_one():
    async def run():
        assert LoopClock().monotonic() == asyncio.get_running_loop().time()

    run_jumping(run())
