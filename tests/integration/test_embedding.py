"""The worker inside another program: `deliver`, `stream`, `Worker`."""

import asyncio
import contextlib
import logging
import signal

import pytest
from support.worker import KEY, identify

import permutive_worker
from permutive_worker import Settings, Worker, deliver, stream
from permutive_worker.config import Delivery, Http, Output
from permutive_worker.credentials import Keyring
from permutive_worker.destinations.memory import MemoryWire
from permutive_worker.errors import ConfigurationError, TransportError, UsageError
from permutive_worker.model import Response
from permutive_worker.sandbox.app import Sandbox

KEYRING = Keyring.of_key(KEY)
FAST = Settings(delivery=Delivery(backoff_initial_seconds=0.001, max_attempts=3))


def ok(request):
    return Response(200, {}, b'{"user_id":"resolved"}')


async def test_deliver_returns_outcomes_in_input_order_and_failures_as_values():
    def answer(request):
        if b"user-3" in request.body:
            return Response(
                400, {}, b'{"request_id":"r","error":{"code":1002,"message":"no","status":"BadRequest"}}'
            )
        if b"user-4" in request.body:
            raise TransportError("connect", sent=False)
        return ok(request)

    jobs = [*map(identify, range(6)), {"type": "nonsense", "job_id": "x"}, "not json", b'{"type":"identify"}']

    outcomes = await deliver(jobs, FAST, keyring=KEYRING, wire=MemoryWire(answer))

    assert [outcome.index for outcome in outcomes] == list(range(9))
    assert [outcome.delivered for outcome in outcomes] == [True] * 3 + [False] * 2 + [True] + [False] * 3
    assert outcomes[0].response == {"user_id": "resolved"}
    assert (outcomes[3].reason, outcomes[3].status, outcomes[3].error.code) == ("rejected", 400, 1002)
    assert (outcomes[4].reason, outcomes[4].attempts) == ("exhausted", 3)
    assert [outcome.reason for outcome in outcomes[6:]] == ["invalid", "malformed", "invalid"]
    assert outcomes[5].job_id == 5


async def test_deliver_of_nothing_is_nothing():
    assert await deliver([], keyring=KEYRING, wire=MemoryWire(ok)) == []


async def test_deliver_takes_an_async_iterable_and_tells_progress():
    async def jobs():
        for number in range(3000):
            yield identify(number)

    told = []
    outcomes = await deliver(jobs(), keyring=KEYRING, wire=MemoryWire(ok), on_progress=told.append)

    assert len(outcomes) == 3000
    assert told[-1].completed == told[-1].total == 3000
    assert [step.completed for step in told] == sorted(step.completed for step in told)
    assert told[-1].errors == 0
    assert told[-1].average_per_thousand_seconds > 0


async def test_a_thousand_failures_do_not_trip_a_guard_nobody_asked_for():
    outcomes = await deliver(
        map(identify, range(1000)), keyring=KEYRING, wire=MemoryWire(lambda _: Response(400, {}, b""))
    )
    assert {outcome.reason for outcome in outcomes} == {"rejected"}


async def test_a_refused_key_returns_the_jobs_as_values():
    outcomes = await deliver(
        map(identify, range(5)), keyring=KEYRING, wire=MemoryWire(lambda _: Response(401, {}, b""))
    )
    assert {outcome.end for outcome in outcomes} == {"returned"}
    assert len(outcomes) == 5


async def test_stream_yields_as_jobs_complete_and_holds_few():
    pulled = 0

    async def jobs():
        nonlocal pulled
        for number in range(60_000):
            pulled = number + 1
            yield identify(number)

    seen = set()
    async for outcome in stream(jobs(), keyring=KEYRING, wire=MemoryWire(ok)):
        seen.add(outcome.index)
        if len(seen) == 5:
            await asyncio.sleep(0.2)
            assert pulled < 40_000, "the byte budget bounds what is read ahead of the reader"
    assert len(seen) == 60_000


async def test_leaving_a_stream_early_ends_the_run():
    before = len(asyncio.all_tasks())
    async with contextlib.aclosing(
        stream(map(identify, range(100_000)), keyring=KEYRING, wire=MemoryWire(ok))
    ) as outcomes:
        async for outcome in outcomes:
            assert outcome.delivered
            break
    assert len(asyncio.all_tasks()) == before


async def test_an_error_before_the_first_outcome_comes_out_of_the_stream():
    unreachable = Settings(http=Http(base_url="http://127.0.0.1:9", timeout_seconds=0.1))
    with pytest.raises(permutive_worker.errors.UnreachableError):
        async for _ in stream([identify(1)], unreachable, keyring=KEYRING):
            pass


async def test_an_iterable_that_raises_ends_the_run_and_loses_nothing_before_it():
    def jobs():
        yield identify(1)
        yield identify(2)
        raise RuntimeError("from the caller's own generator")

    delivered = []
    worker = Worker(
        Settings(),
        source=permutive_worker.sources.memory.MemorySource(jobs(), record=True),
        writers={},
        keyring=KEYRING,
        wire=MemoryWire(lambda request: delivered.append(request) or ok(request)),
    )
    summary = await worker.run()

    assert summary.exit_code == 1
    assert summary.read == summary.delivered + summary.returned == 2
    assert isinstance(worker.errors()[0], RuntimeError)


async def test_worker_runs_files_against_a_real_server(tmp_path):
    (tmp_path / "jobs.ndjson").write_bytes(b'{"type":"identify","user_id":"u","aliases":[]}\n' * 10)
    async with Sandbox() as sandbox:
        settings = Settings(
            http=Http(base_url=sandbox.url), output=Output(dead_letters=str(tmp_path / "dead.ndjson"))
        )
        worker = Worker(settings, [str(tmp_path / "jobs.ndjson")], keyring=KEYRING)
        summary = await worker.run()
    assert (summary.exit_code, summary.delivered) == (0, 10)
    assert KEY not in repr(worker) + repr(settings) + repr(worker.look())


async def test_a_cancelled_run_settles_what_it_read():
    asked = asyncio.Event()

    class Hanging:
        async def send(self, request):
            asked.set()
            await asyncio.Event().wait()

    source = permutive_worker.sources.memory.MemorySource(map(identify, range(500)), record=True)
    worker = Worker(Settings(), source=source, writers={}, keyring=KEYRING, wire=Hanging())
    running = asyncio.create_task(worker.run())
    await asked.wait()

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert len(source.settled) == worker.counts.read == sum(worker.counts.returned.values())
    assert sum(worker.look().pending.values()) == 0


async def test_embedding_touches_nothing_of_the_process():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    loggers = list(logging.root.handlers)

    await deliver([identify(1)], keyring=KEYRING, wire=MemoryWire(ok))

    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert list(logging.root.handlers) == loggers


async def test_wrong_settings_are_value_errors():
    with pytest.raises(ValueError, match="max_in_flight"):
        Settings(delivery=Delivery(max_in_flight=0))
    with pytest.raises(ConfigurationError):
        Worker(Settings(), ["x"], keyring=None)
    with pytest.raises(UsageError):
        Worker(Settings(), ["missing.ndjson"], keyring=KEYRING)


async def test_half_an_input_does_not_look_like_a_whole_one():
    def jobs():
        yield identify(1)
        raise ValueError("from the caller's own generator")

    with pytest.raises(ValueError, match="own generator"):
        await deliver(jobs(), keyring=KEYRING, wire=MemoryWire(ok))


async def test_a_stop_before_the_end_of_the_input_is_no_success():
    worker = Worker(
        Settings(),
        source=permutive_worker.sources.memory.MemorySource(map(identify, range(100))),
        writers={},
        keyring=KEYRING,
        wire=MemoryWire(ok),
    )
    worker.stop()
    assert (await worker.run()).exit_code == 75
