"""Python objects as jobs."""

import asyncio
import gc

import msgspec
import pytest

from permutive_worker.model import Settlement
from permutive_worker.sources.memory import MAX_JOBS, UNENCODABLE, MemorySource


class Job(msgspec.Struct):
    user_id: str


async def opened(jobs, **options):
    source = MemorySource(jobs, **options)
    await source.open()
    return source


async def receive_raws(source, max_bytes=100_000):
    return [delivery.raw for delivery in await source.receive(max_bytes)]


async def test_jobs_of_every_form_become_lines():
    jobs = [b'{"a":1}\n', bytearray(b"{}"), '{"ä":1}\r\n', {"a": [1]}, Job("x"), b""]

    assert await receive_raws(await opened(jobs)) == [
        b'{"a":1}',
        b"{}",
        '{"ä":1}'.encode(),
        b'{"a":[1]}',
        b'{"user_id":"x"}',
        b"",
    ]


async def test_a_job_that_cannot_be_encoded_is_one_bad_line():
    endless = {}
    endless["self"] = endless

    raws = await receive_raws(await opened([object(), "\ud800", {"a": "\ud800"}, endless, {"a": 1}]))

    assert raws == [UNENCODABLE] * 4 + [b'{"a":1}']


async def test_places_are_indices():
    source = await opened(["a", "b"])
    await source.receive(1)

    (second,) = await source.receive(1)

    assert (second.place, second.number, second.position) == (1, 2, "jobs[1]")


async def test_nothing_is_pulled_before_it_is_received():
    pulled = []
    source = await opened(pulled.append(number) or b"{}" for number in range(10_000))
    assert pulled == []

    assert len(await source.receive(100_000)) == MAX_JOBS
    assert len(await source.receive(10)) == 5
    assert len(pulled) == MAX_JOBS + 5
    assert source.bytes_read() == 2 * len(pulled)
    assert source.bytes_total() is None


async def test_an_async_iterator_is_pulled_no_further_than_asked():
    pulled = []

    async def jobs():
        for number in range(10_000):
            pulled.append(number)
            yield b"{}"

    source = await opened(jobs())
    await asyncio.sleep(0)
    assert pulled == []

    assert len(await source.receive(100_000)) == MAX_JOBS
    assert len(await source.receive(10)) == 5
    assert len(pulled) == MAX_JOBS + 5
    await source.close()


async def test_an_async_iterator_gives_what_is_there():
    more = asyncio.Queue()

    async def jobs():
        while True:
            yield await more.get()

    source = await opened(jobs())
    for job in (b"1", b"2"):
        more.put_nowait(job)

    assert await receive_raws(source) == [b"1", b"2"]
    await source.close()


async def test_a_value_that_comes_between_receives_is_kept():
    more = asyncio.Queue()

    async def jobs():
        while True:
            yield await more.get()

    source = await opened(jobs())
    receiving = asyncio.create_task(source.receive(1_000))
    await asyncio.sleep(0)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    more.put_nowait(b"1")
    await asyncio.sleep(0)

    assert await receive_raws(source) == [b"1"]
    await source.close()


async def test_an_interrupt_ends_a_wait_for_an_async_iterator():
    never = asyncio.Event()
    closed = []

    async def jobs():
        try:
            yield b"1"
            await never.wait()
        finally:
            closed.append(True)

    source = await opened(jobs())
    assert await receive_raws(source) == [b"1"]
    receiving = asyncio.create_task(receive_raws(source))
    await asyncio.sleep(0)

    source.interrupt()

    assert await receiving == []
    never.set()
    assert await receive_raws(source) == []
    await source.close()
    assert closed == [True]


async def test_a_value_after_the_interrupt_is_not_given():
    more = asyncio.Queue()

    async def jobs():
        while True:
            yield await more.get()

    source = await opened(jobs())
    receiving = asyncio.create_task(receive_raws(source))
    await asyncio.sleep(0)
    source.interrupt()
    assert await receiving == []

    more.put_nowait(b"late")
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert await receive_raws(source) == []
    await source.close()


def failing():
    yield b"1"
    raise LookupError("the jobs are gone")


async def failing_async():
    for job in failing():
        yield job


@pytest.mark.parametrize("jobs", [failing, failing_async])
async def test_an_iterator_that_raises_does_so_after_what_it_gave(jobs):
    source = await opened(jobs())

    assert await receive_raws(source) == [b"1"]
    with pytest.raises(LookupError, match="the jobs are gone"):
        await source.receive(1_000)
    assert await receive_raws(source) == []
    await source.close()


async def test_close_closes_an_async_generator_that_was_never_pulled():
    async def jobs():
        yield b"1"

    generator = jobs()
    source = await opened(generator)

    await source.close()

    with pytest.raises(StopAsyncIteration):
        await anext(generator)


async def test_what_was_settled_is_kept_only_if_asked_for():
    for record in (False, True):
        source = await opened([b"1"], record=record)
        settled = [(delivery, Settlement.RETRY) for delivery in await source.receive(1_000)]

        source.settle(settled)

        assert source.settled == (settled if record else [])


async def test_deliveries_are_not_held():
    source = await opened(b"%d" % number for number in range(10))
    await source.receive(1_000)
    gc.collect()

    assert [held for held in gc.get_referrers(source._origin) if type(held).__name__ == "Delivery"] == []


@pytest.mark.parametrize("job", ['{"a":1}', b'{"a":1}', {"a": 1}])
def test_a_single_job_is_no_iterable_of_jobs(job):
    with pytest.raises(TypeError, match="put it into a list"):
        MemorySource(job)
