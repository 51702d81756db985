"""What every queue promises, asked of the one in memory and of each real broker."""

import asyncio
import random

import pytest
from support.brokers import BROKERS
from support.memory_queue import MemoryQueue
from support.receiving import settle

from permutive_worker.model import Settlement
from permutive_worker.sources import queue as queue_module

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

COUNT = 300
LINES = [b'{"type":"identify","user_id":"user-%d","aliases":[]}' % number for number in range(COUNT)]
WAIT_SECONDS = 40.0  # for what must happen, on a machine that is busy with other things
QUIET_SECONDS = 1.5  # for what must not


@pytest.fixture(params=["memory", *BROKERS])
async def broker(request, tmp_path):
    started = MemoryQueue() if request.param == "memory" else BROKERS[request.param](tmp_path)
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def opened(broker):
    """Opens sources of the broker and closes them at the end."""
    sources = []

    async def open_one(**options):
        sources.append(broker.source(**options))
        await sources[-1].open()
        return sources[-1]

    yield open_one
    for source in sources:
        await source.close()


async def receive(source, count=COUNT, max_bytes=10_000):
    """Receive until there are so many different ones."""
    received = []
    async with asyncio.timeout(WAIT_SECONDS):
        while len({delivery.raw for delivery in received}) < count:
            received += await source.receive(max_bytes)
    return received


async def receives_nothing(source):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(QUIET_SECONDS):
            got = await source.receive(10_000)
            raise AssertionError([delivery.raw for delivery in got])


async def until(condition):
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.05)


def raws(deliveries):
    return {delivery.raw for delivery in deliveries}


async def stop(source):
    source.interrupt()
    assert await source.receive(1_000) == []
    await source.flush()
    await source.close()


async def test_gives_every_message_once_and_never_again_after_it_was_settled(broker, opened):
    source = await opened()
    await broker.publish(LINES)

    received = await receive(source)
    settle(source, received)
    await stop(source)

    assert sorted(delivery.raw for delivery in received) == sorted(LINES)
    assert [delivery.number for delivery in received] == list(range(1, COUNT + 1))
    assert len({delivery.position for delivery in received}) == COUNT
    assert all(delivery.position.startswith(f"{source.kind}:") for delivery in received)
    assert (source.unconfirmed, source.redeliveries) == (0, 0)
    await receives_nothing(await opened())


async def test_settles_out_of_order(broker, opened):
    source = await opened()
    await broker.publish(LINES)
    received = await receive(source)
    random.Random(1).shuffle(received)

    settle(source, received[:100])
    settle(source, received[200:], Settlement.RETRY)
    settle(source, received[100:200])
    await stop(source)

    other = await opened()
    again = await receive(other, 100)
    assert raws(again) >= raws(received[200:])
    if source.kind != "kafka":  # what lies above the first one that is not settled comes again there
        assert raws(again) == raws(received[200:])
    settle(other, again)


async def test_what_is_returned_goes_to_another_worker_at_once(broker, opened):
    source, other = await opened(), None
    await broker.publish(LINES)
    received = await receive(source)

    settle(source, received[50:])
    settle(source, received[:50], Settlement.RETRY)
    await stop(source)
    other = await opened()

    again = await receive(other, 50)
    assert raws(again) >= raws(received[:50])
    settle(other, again)


async def test_a_stop_leaves_nothing_behind_that_others_cannot_take(broker, opened):
    source = await opened()
    await broker.publish(LINES)
    received = list(await source.receive(1))  # the rest is fetched ahead

    settle(source, received)
    await stop(source)

    other = await opened()
    again = await receive(other, COUNT - len(received))
    assert raws(again) == raws_of_lines_without(received)
    settle(other, again)


def raws_of_lines_without(received):
    return set(LINES) - raws(received)


async def test_what_a_killed_worker_held_is_delivered_again(broker, opened):
    await broker.publish(LINES)
    await broker.orphan(100)

    source = await opened()
    received = await receive(source)

    assert raws(received) == set(LINES)
    settle(source, received)
    await stop(source)


async def test_what_a_live_worker_holds_is_never_given_to_another(broker, opened):
    source = await opened()
    await broker.publish(LINES[:50])
    received = await receive(source, 50)
    other = await opened()

    await asyncio.sleep(2.5 * broker.lease_seconds)  # longer than what the broker waits for a sign of life
    await receives_nothing(other)

    settle(source, received)
    await stop(source)
    assert source.redeliveries == other.redeliveries == 0


async def test_a_broker_that_was_killed_and_restarted_loses_nothing(broker, opened):
    if not broker.survives:
        pytest.skip("this imitation of the broker forgets everything when it ends")
    source = await opened()
    await broker.publish(LINES[:200])
    received = await receive(source, 200)
    settle(source, received[:100])
    await source.flush()

    await broker.kill()
    await until(lambda: source.is_away)
    settle(source, received[100:150])
    await broker.start()
    await until(lambda: not source.is_away)
    await broker.publish(LINES[200:])
    after = []  # RabbitMQ gives what was in hand again
    async with asyncio.timeout(WAIT_SECONDS):
        while not raws(after) >= set(LINES[200:]):
            after += await source.receive(10_000)
    settle(source, received[150:])
    settle(source, after)
    await stop(source)

    assert raws(received) | raws(after) == set(LINES)
    other = await opened()
    if broker.keeps_acks and not source.unconfirmed and raws(after) == set(LINES[200:]):
        await receives_nothing(other)


async def test_a_hold_takes_nothing_and_gives_back_what_nobody_received(broker, opened):
    if not broker.hands_over:
        pytest.skip("a member of its groups that is on hold keeps what is its own")
    source, other = await opened(), await opened()
    source.hold()
    receiving = asyncio.create_task(source.receive(1_000))
    await broker.publish(LINES)

    received = await receive(other)
    assert not receiving.done()
    settle(other, received)
    await other.flush()
    source.resume()
    await broker.publish([b"after the hold"])

    while not receiving.done():  # one of the two gets it
        other_receiving = asyncio.create_task(other.receive(1_000))
        async with asyncio.timeout(WAIT_SECONDS):
            await asyncio.wait((receiving, other_receiving), return_when=asyncio.FIRST_COMPLETED)
        if other_receiving.done():
            settle(other, other_receiving.result())
            receiving.cancel()
            break
        other_receiving.cancel()
    if not receiving.cancelled() and receiving.done():
        settle(source, receiving.result())


async def test_lag_is_what_nobody_was_given(broker, opened, monkeypatch):
    if not broker.has_lag:
        pytest.skip("this broker cannot say")
    monkeypatch.setattr(queue_module, "LAG_SECONDS", 0.1)
    source = await opened()
    await until(lambda: source.lag() == 0)

    await broker.publish(LINES)
    await until(lambda: source.lag() == COUNT)
    received = await receive(source)
    await until(lambda: source.lag() == 0)

    settle(source, received)
    await stop(source)


async def test_a_message_that_is_too_large_is_cut_and_says_so(broker, opened):
    source = await opened(max_line_bytes=1_000)
    await broker.publish([b"x" * 50_000, b"" if broker.takes_empty else b" ", b"y\nz"])

    large, empty, two = sorted(await receive(source, 3), key=lambda delivery: delivery.number)

    assert (large.oversize_bytes, len(large.raw)) == (50_000, 4096)
    assert (empty.raw.strip(), two.raw) == (b"", b"y\nz")
    settle(source, [large, empty, two])


async def test_can_be_closed_at_any_time(broker):
    unopened = broker.source()
    await unopened.close()
    for receives in (0, 1):
        await broker.publish(LINES)
        source = broker.source()
        await source.open()
        for _ in range(receives):
            settle(source, await source.receive(1_000), Settlement.RETRY)
        await source.close()
        await source.close()
        source.interrupt()
