"""What all queues have in common: fetching ahead, settling in groups, a link that breaks; in virtual time."""

import asyncio
from contextlib import suppress

import pytest
from support.jump_loop import JumpLoop, run_jumping
from support.memory_queue import MemoryBroker, MemoryQueue

from permutive_worker.errors import ConfigurationError, LinkError, UnreachableError
from permutive_worker.model import Delivery, Settlement
from permutive_worker.sources.link import CONNECT_SECONDS
from permutive_worker.sources.prefetch import MAX_COUNT, Prefetch
from permutive_worker.sources.queue import CANCEL_SECONDS, CANCELS, CLOSE_SECONDS, FLUSH_SECONDS, QueueSource


def lines(count):
    return [b"%d" % number for number in range(count)]


async def opened(queue, broker=None):
    await queue.start()
    source = QueueSource(broker or MemoryBroker(queue), 1_000_000, dice=lambda: 0.5)
    await source.open()
    return source


async def receive(source, count):
    received = []
    while len(received) < count:
        received += await source.receive(10_000)
    return received


def acked(source, deliveries):
    source.settle([(delivery, Settlement.ACK) for delivery in deliveries])


def test_nothing_is_fetched_before_the_first_receive():
    async def main():
        queue = MemoryQueue()
        source = await opened(queue)
        await queue.publish(lines(10))
        await asyncio.sleep(5)

        assert len(queue.waiting) == 10
        await source.close()

    run_jumping(main())


def test_no_more_is_fetched_ahead_than_is_good_for_others():
    async def main():
        queue = MemoryQueue()
        source = await opened(queue)
        await queue.publish(lines(5_000))
        received = await source.receive(1)
        await asyncio.sleep(5)

        assert len(received) == 1
        assert len(queue.leases) <= 1.5 * MAX_COUNT + 1
        acked(source, received)
        await source.close()
        assert not queue.leases  # a close gives back
        assert len(queue.waiting) == 4_999

    run_jumping(main())


def test_acknowledgements_go_in_groups():
    async def main():
        queue = MemoryQueue()
        broker = MemoryBroker(queue)
        source = await opened(queue, broker)
        await queue.publish(lines(2_500))
        received = await receive(source, 2_500)

        for delivery in received:
            acked(source, [delivery])
        await source.flush()

        assert [count for call, count in broker.calls if call == "acknowledge"] == [1000, 1000, 500]
        await source.close()

    run_jumping(main())


def test_what_is_in_hand_and_given_again_is_not_passed_on_again():
    async def main():
        queue = MemoryQueue()
        source = await opened(queue)
        await queue.publish(lines(20))
        received = await receive(source, 20)

        queue.waiting.extend(range(20))  # as a broker that has lost its patience
        await queue.publish([b"new"])
        again = await receive(source, 1)

        assert [delivery.raw for delivery in again] == [b"new"]
        acked(source, received + again)
        await source.close()

    run_jumping(main())


def test_what_was_given_back_comes_again():
    async def main():
        queue = MemoryQueue()
        source = await opened(queue)
        await queue.publish(lines(20))
        received = await receive(source, 20)

        source.settle([(delivery, Settlement.RETRY) for delivery in received])
        again = await receive(source, 20)

        assert {delivery.raw for delivery in again} == set(lines(20))
        assert source.redeliveries == 20
        acked(source, again)
        await source.close()

    run_jumping(main())


def test_what_comes_again_while_its_return_is_told_can_be_returned_again():
    async def main():
        queue = MemoryQueue()
        broker = MemoryBroker(queue)
        give_back = broker.give_back

        async def slowly(places):
            await give_back(places)
            await asyncio.sleep(0.2)  # done, and the answer takes its time

        broker.give_back = slowly
        source = await opened(queue, broker)
        await queue.publish(lines(1))
        first = await receive(source, 1)
        source.settle([(first[0], Settlement.RETRY)])
        again = await receive(source, 1)

        source.hold()
        source.settle([(again[0], Settlement.RETRY)])
        await asyncio.sleep(0.5)

        assert [call for call, _ in broker.calls] == ["give_back", "give_back"]
        assert list(queue.waiting) == [0]
        await source.close()

    run_jumping(main())


def test_leases_live_on_while_nobody_receives():
    async def main():
        queue = MemoryQueue()
        source, other = await opened(queue), await opened(queue)
        await queue.publish(lines(20))
        received = await receive(source, 20)
        other_receiving = asyncio.create_task(other.receive(1_000))

        await asyncio.sleep(3_600)

        assert not other_receiving.done()
        acked(source, received)
        other.interrupt()
        assert await other_receiving == []
        await source.close()
        await other.close()

    run_jumping(main())


def test_a_broker_that_went_away_is_found_again_and_hears_everything():
    async def main():
        queue = MemoryQueue()
        source = await opened(queue)
        await queue.publish(lines(20))
        received = await receive(source, 20)

        await queue.kill()
        acked(source, received)
        await asyncio.sleep(600)
        assert (source.is_away, source.lag()) == (True, None)
        await queue.start()
        await asyncio.sleep(5.1)

        assert not source.is_away
        await source.flush()
        assert source.unconfirmed == 0
        await source.close()

    run_jumping(main())


def test_what_a_broker_that_is_away_never_heard_is_counted():
    async def main():
        queue = MemoryQueue()
        source = await opened(queue)
        await queue.publish(lines(20))
        received = await receive(source, 20)
        await queue.kill()
        acked(source, received)
        began = asyncio.get_running_loop().time()

        source.interrupt()
        await source.flush()
        await source.close()

        assert source.unconfirmed == 20
        assert asyncio.get_running_loop().time() - began <= FLUSH_SECONDS + 1

    run_jumping(main())


def test_a_broker_that_is_not_there_at_the_start_is_waited_for_a_while():
    async def main():
        queue = MemoryQueue()
        loop = asyncio.get_running_loop()
        source = QueueSource(MemoryBroker(queue), 1000)
        with pytest.raises(UnreachableError, match="it is down"):
            await source.open()
        assert loop.time() == pytest.approx(CONNECT_SECONDS)
        await source.close()

        loop.call_later(4, lambda: setattr(queue, "up", True))
        source = QueueSource(MemoryBroker(queue), 1000)
        await source.open()
        await source.close()

    run_jumping(main())


def test_a_stop_does_not_wait_for_a_broker_that_is_not_there_at_the_start():
    async def main():
        source = QueueSource(MemoryBroker(MemoryQueue()), 1000)
        asyncio.get_running_loop().call_later(0.5, source.interrupt)

        await source.open()

        assert asyncio.get_running_loop().time() < 1
        assert await source.receive(1000) == []
        await source.flush()
        await source.close()

    run_jumping(main())


def test_a_broker_that_refuses_is_told_at_once():
    async def main():
        source = QueueSource(MemoryBroker(MemoryQueue(), refuse="wrong password"), 1000)
        with pytest.raises(ConfigurationError, match="wrong password"):
            await source.open()
        assert asyncio.get_running_loop().time() == 0
        await source.close()

    run_jumping(main())


@pytest.mark.parametrize("call", ["fetch", "acknowledge", "keep", "lag"])
def test_a_bug_in_a_broker_ends_the_run_instead_of_hanging_it(call):
    async def main():
        queue = MemoryQueue()
        broker = MemoryBroker(queue)

        async def broken(*arguments):
            raise ZeroDivisionError

        setattr(broker, call, broken)
        source = await opened(queue, broker)
        if call != "fetch":
            await queue.publish(lines(1))
        with pytest.raises(ZeroDivisionError):
            while True:
                acked(source, await source.receive(1_000))
        await source.close()

    run_jumping(main())


def test_a_broker_whose_library_swallows_cancellations_can_be_closed():
    async def main():
        queue = MemoryQueue()
        broker = MemoryBroker(queue)
        swallowed = []

        async def lag():
            for _ in range(2):
                try:
                    await asyncio.sleep(1e6)
                except asyncio.CancelledError:
                    swallowed.append(1)

        broker.lag = lag
        source = await opened(queue, broker)
        await asyncio.sleep(1)
        await source.close()
        assert len(swallowed) == 2

    run_jumping(main())


def test_one_break_that_several_calls_report_is_one():
    async def main():
        queue = MemoryQueue()
        broker = MemoryBroker(queue)
        connects = []
        connect = broker.connect

        async def counted():
            connects.append(1)
            await connect()

        broker.connect = counted
        source = await opened(queue, broker)
        generation = await source._link.up()
        for _ in range(3):
            source._link.lost(generation, LinkError("gone"))
        await asyncio.sleep(10)
        source._link.lost(generation, LinkError("late"))

        assert not source.is_away
        assert len(connects) == 2
        await source.close()

    run_jumping(main())


def test_prefetch_is_bounded_by_bytes_too():
    async def main():
        prefetch = Prefetch(max_count=100, max_bytes=10_000)
        prefetch.put([Delivery(b"x" * 6_000, None)])
        waiting = asyncio.create_task(prefetch.room())
        await asyncio.sleep(1)
        assert not waiting.done()

        assert len(await prefetch.take(1)) == 1
        assert 1 <= await waiting <= 100
        prefetch.put([Delivery(b"x" * 1_000, None)] * 64)
        taken = await prefetch.take(2_500)
        assert len(taken) == 2
        prefetch.drain()
        assert await prefetch.room() < 100  # the next ones are guessed as large as those before

    run_jumping(main())


def test_a_receive_that_is_cancelled_loses_nothing():
    async def main():
        queue = MemoryQueue()
        source = await opened(queue)
        receiving = asyncio.create_task(source.receive(1_000))
        await asyncio.sleep(0)
        await queue.publish(lines(3))
        await asyncio.sleep(0)
        receiving.cancel()
        await asyncio.wait((receiving,))

        assert len(await receive(source, 3)) == 3
        source.interrupt()
        await source.close()

    run_jumping(main())


async def hang(*_):
    await asyncio.Event().wait()


async def hang_on(*_):
    """As a library that takes a cancellation for an end of its own waits."""
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


@pytest.mark.parametrize("waits", [hang, hang_on])
def test_a_broker_that_stops_to_answer_is_waited_for_once(waits):
    async def main():
        queue = MemoryQueue()
        broker = MemoryBroker(queue)
        source = await opened(queue, broker)
        broker.fetch = broker.close = waits
        receiving = asyncio.create_task(source.receive(1))
        await asyncio.sleep(1)

        began = now()
        source.interrupt()
        await source.flush()
        await source.close()

        assert now() - began < FLUSH_SECONDS + CANCELS * CANCEL_SECONDS + CLOSE_SECONDS + 0.1
        assert await receiving == []

    run_and_forget(main())


def test_a_flush_that_is_given_up_is_not_begun_again():
    async def main():
        queue = MemoryQueue()
        broker = MemoryBroker(queue)
        source = await opened(queue, broker)
        await queue.publish(lines(10))
        received = await receive(source, 10)
        broker.acknowledge = broker.fetch = hang
        acked(source, received)
        source.interrupt()
        flushing = asyncio.create_task(source.flush())
        await asyncio.sleep(0)

        began = now()
        flushing.cancel()
        await source.close()

        assert now() - began < CLOSE_SECONDS
        assert source.unconfirmed == 10

    run_jumping(main())


def test_a_start_that_fails_does_not_wait_for_the_end_of_the_link():
    async def main():
        broker = MemoryBroker(MemoryQueue(), refuse="no")
        broker.close = hang
        began = now()

        with pytest.raises(ConfigurationError):
            await QueueSource(broker, 1000).open()

        assert now() - began <= CLOSE_SECONDS

    run_jumping(main())


def now():
    return asyncio.get_running_loop().time()


def run_and_forget(work):
    """What refuses to end would keep `run_jumping` for ever."""
    loop = JumpLoop()
    try:
        loop.run_until_complete(work)
    finally:
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False
        loop.close()
