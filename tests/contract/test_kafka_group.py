"""What only a group of Kafka has: partitions that move, pause, and stay."""

import asyncio
import gc
import weakref
from contextlib import suppress

import pytest
from support.brokers import Kafka
from support.receiving import receive, settle

from permutive_worker.errors import ConfigurationError
from permutive_worker.model import Settlement
from permutive_worker.sources import kafka as kafka_module
from permutive_worker.worker.queues import open_publisher

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

COUNT = 400
LINES = [b'{"type":"identify","user_id":"user-%d","aliases":[]}' % number for number in range(COUNT)]
OFFSET_FETCH, GROUP_AUTHORIZATION_FAILED = 9, 30  # numbers of Kafka's protocol


class Spread(Kafka):
    partitions = 4
    session_seconds = 6.0


@pytest.fixture
async def broker(tmp_path):
    started = Spread(tmp_path)
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def opened(broker):
    sources = []

    async def open_one():
        sources.append(broker.source())
        await sources[-1].open()
        return sources[-1]

    yield open_one
    for source in sources:
        await source.close()


async def until(condition):
    async with asyncio.timeout(40):
        while not condition():
            await asyncio.sleep(0.05)


def partitions_of(source):
    return set(source._broker._partitions)


async def drain(broker, source, opened):
    """Open another member, and return it when `source` drains what is to go there.

    The imitation turns a member away that hears of its part after the leader has dealt out the parts. That one joins
    again at once, and while members join the imitation takes no commits: what a drain ends would come again. Kafka
    does neither. With slow answers the leader, which asks once more before it deals, is the last.
    """
    other = await opened()
    broker.mock.delay(0.5)
    await until(source._broker._drains.is_set)
    broker.mock.delay(0)
    return other


async def test_a_partition_moves_when_what_is_in_hand_of_it_is_done(broker, opened):
    source = await opened()
    await broker.publish(LINES)
    received = await receive(source, COUNT)
    other = await drain(broker, source, opened)
    taking = asyncio.create_task(other.receive(10_000))

    assert not partitions_of(other)
    settle(source, received)

    await until(lambda: len(partitions_of(source)) == len(partitions_of(other)) == 2)
    await broker.publish([b"one more"])
    keeping = asyncio.create_task(source.receive(10_000))
    async with asyncio.timeout(40):
        await asyncio.wait((taking, keeping), return_when=asyncio.FIRST_COMPLETED)
    got = [delivery for task in (taking, keeping) if task.done() for delivery in task.result()]
    assert [delivery.raw for delivery in got] == [b"one more"]
    assert source.unconfirmed == 0
    taking.cancel()
    keeping.cancel()


async def test_a_partition_that_moves_too_early_is_committed_to_the_first_gap_and_what_is_done_above_it_is_told(
    broker, opened, monkeypatch
):
    monkeypatch.setattr(kafka_module, "DRAIN_SECONDS", 0.2)
    source = await opened()
    await broker.publish(LINES)
    received = await receive(source, COUNT)
    left, done = received[::10], [delivery for index, delivery in enumerate(received) if index % 10]
    settle(source, done)
    await source.flush()

    other = await drain(broker, source, opened)
    again = await receive(other, 1)
    await until(lambda: len(partitions_of(source)) == len(partitions_of(other)) == 2)
    moved = {delivery.raw for delivery in left if delivery.place[0] in partitions_of(other)}
    again += await receive(other, len(moved) - len(again))

    assert {delivery.raw for delivery in again} == moved
    assert len(again) == len(moved) == other.redeliveries
    settle(source, left)
    await source.flush()
    assert source.unconfirmed == len(moved)


async def test_a_drain_does_not_wait_for_a_commit_that_waits_for_the_drain(broker, opened, monkeypatch):
    monkeypatch.setattr(kafka_module, "DRAIN_SECONDS", 60.0)  # longer than `until` waits
    monkeypatch.setattr(kafka_module, "COMMIT_SECONDS", 2.0)
    source = await opened()
    await broker.publish(LINES)
    received = await receive(source, COUNT)
    other = await opened()
    taking = asyncio.create_task(other.receive(10_000))

    left = list(received)
    while not source._broker._drains.is_set():  # so that there is a commit under way when it begins
        settle(source, [left.pop()])
        await asyncio.sleep(0.05)
    settle(source, left)

    await until(lambda: len(partitions_of(source)) == len(partitions_of(other)) == 2)
    await source.flush()
    assert source.unconfirmed == 0
    taking.cancel()


async def test_a_member_that_nobody_asks_for_messages_stays_and_keeps_its_own(broker, opened):
    source = await opened()
    await broker.publish(LINES)
    received = await receive(source, 1)
    source.hold()
    settle(source, received)

    await asyncio.sleep(1.5 * broker.session_seconds)
    assert len(partitions_of(source)) == 4
    source.resume()
    received += await receive(source, COUNT - len(received))

    assert {delivery.raw for delivery in received} == set(LINES)
    assert len(received) == len({delivery.place for delivery in received})
    settle(source, received)


async def share(source, other):
    """Wait until both have their part."""
    taking = [asyncio.create_task(one.receive(10_000)) for one in (source, other)]
    await until(lambda: len(partitions_of(source)) == len(partitions_of(other)) == 2)
    for task in taking:
        task.cancel()


async def test_a_member_that_pauses_for_longer_than_a_session_stays_while_another_works(broker, opened):
    source, other = await opened(), await opened()
    await share(source, other)
    own = partitions_of(source)
    await broker.publish(LINES)
    received = await receive(source, 1)  # and nothing is settled: the API said to wait

    others = []
    loop = asyncio.get_running_loop()
    until_at = loop.time() + 2 * broker.session_seconds
    while loop.time() < until_at:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                others += await other.receive(10_000)
                settle(other, others)
    assert partitions_of(source) == own
    received += await receive(source, COUNT - len(others) - len(received))

    settle(source, received)
    for one in (source, other):
        await one.flush()
    assert source.unconfirmed == other.unconfirmed == source.redeliveries == other.redeliveries == 0
    assert sorted(delivery.raw for delivery in received + others) == sorted(LINES)


async def test_partitions_move_during_a_hold_and_nothing_of_them_is_lost_or_comes_twice(broker, opened):
    source = await opened()
    await broker.publish(LINES)
    received = await receive(source, COUNT)
    source.hold()
    settle(source, received[::2])
    settle(source, received[1::2], Settlement.RETRY)
    await source.flush()

    other = await opened()
    others = await receive(other, 1)
    await until(lambda: len(partitions_of(source)) == len(partitions_of(other)) == 2)
    source.resume()
    again = []
    while len(again) + len(others) < COUNT // 2:
        for one, got in ((source, again), (other, others)):
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    got += await one.receive(10_000)

    assert sorted(delivery.raw for delivery in again + others) == sorted(
        delivery.raw for delivery in received[1::2]
    )
    assert {delivery.place[0] for delivery in others} == partitions_of(other)
    settle(source, again)
    settle(other, others)


async def test_a_hold_gives_back_and_a_resume_delivers_again(broker, opened):
    source = await opened()
    await broker.publish(LINES)
    received = await receive(source, COUNT)
    source.hold()
    settle(source, received[::2])
    settle(source, received[1::2], Settlement.RETRY)
    await source.flush()
    source.resume()

    again = await receive(source, COUNT // 2)

    assert {delivery.place for delivery in again} == {delivery.place for delivery in received[1::2]}
    assert source.redeliveries == COUNT // 2
    settle(source, again)


async def test_a_member_leaves_also_if_its_close_is_given_up(broker, opened):
    source = await opened()
    await broker.publish(LINES)
    received = await receive(source, COUNT)
    consumer = source._broker._member._consumer
    broker.mock.delay(0.5)  # its last commit is slower than the one who closes wants to wait
    settle(source, received)
    await asyncio.sleep(0.1)
    closing = asyncio.create_task(source._broker.close())
    await asyncio.sleep(0.1)
    closing.cancel()
    broker.mock.delay(0)

    def has_left():
        with suppress(RuntimeError):  # a consumer that is closed says so
            return consumer.assignment() is None
        return True

    await until(has_left)
    with pytest.raises(asyncio.CancelledError):
        await closing


async def test_a_member_that_nobody_closed_is_not_forgotten(broker):
    source = broker.source()
    await source._broker.connect()
    member, calls = weakref.ref(source._broker._member), weakref.ref(source._broker._calls)

    del source
    gc.collect()

    assert member() is not None
    await calls().run(member().close)
    calls().end()


async def test_no_more_is_in_hand_than_may_come_again(broker, opened):
    broker.max_uncommitted = 50
    source = await opened()
    await broker.publish(LINES)

    received = await receive(source, 50)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.5):
            raise AssertionError(len(await source.receive(10_000)))
    settle(source, received)
    received += await receive(source, 50)

    assert len({delivery.place for delivery in received}) == 100
    settle(source, received[50:])


async def test_the_jobs_of_one_user_are_in_one_partition(broker, opened):
    source = await opened()
    await broker.publish([LINES[7]] * 20 + LINES)

    received = await receive(source, COUNT + 20)

    assert len({delivery.place[0] for delivery in received if delivery.raw == LINES[7]}) == 1
    assert len({delivery.place[0] for delivery in received}) == 4
    settle(source, received)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda url: url.replace("/jobs", "/jbos"), "is not there"),
        (lambda url: url.replace("group=", "gruop="), "did you mean group"),
        (lambda url: url.replace("/jobs", "/jobs/more"), "the name of a topic"),
        (lambda url: f"{url}&tls=perhaps", "tls must be yes or no"),
        (lambda url: f"{url}&tls=yes&ca=/nowhere.pem", "check ?ca="),
    ],
)
async def test_says_what_is_wrong_at_the_start(broker, change, told):
    broker_url = broker.url
    type(broker).url = property(lambda _: change(broker_url))
    try:
        with pytest.raises(ConfigurationError) as caught:
            source = broker.source()
            try:
                source._broker._create = False
                await source.open()
            finally:
                await source.close()
        assert told in str(caught.value)
        assert "\n" not in str(caught.value)
    finally:
        type(broker).url = Kafka.url


async def test_says_that_it_may_not_join_the_group(broker):
    broker.mock.refuse(OFFSET_FETCH, *[GROUP_AUTHORIZATION_FAILED] * 5)
    source = broker.source()
    with pytest.raises(ConfigurationError, match="no permission for this group"):
        await source.open()
    await source.close()


async def test_a_publisher_needs_a_topic_that_is_there(broker):
    publisher = open_publisher(broker.url.replace("/jobs", "/jbos"), create=False)
    with pytest.raises(ConfigurationError, match="is not there"):
        await publisher.open()
    await publisher.close()
