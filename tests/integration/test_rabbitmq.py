"""What is particular to RabbitMQ, with a real server."""

import asyncio

import aiormq
import pytest
from support.brokers import Rabbit
from support.program import KEY, program
from support.receiving import receive, refusal_of, settle

from permutive_worker.errors import ConfigurationError
from permutive_worker.model import Settlement
from permutive_worker.sources import rabbit_window, rabbitmq
from permutive_worker.sources.address import parse_address
from permutive_worker.sources.queue import QueueSource
from permutive_worker.sources.rabbit_publish import RabbitPublisher
from permutive_worker.sources.rabbitmq import RabbitBroker

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


@pytest.fixture
async def server(tmp_path):
    started = Rabbit(tmp_path)
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def channel(server):
    """A second way to look."""
    connection = await aiormq.connect(f"amqp://guest:guest@127.0.0.1:{server.server.port}/")
    yield await connection.channel()
    await connection.close()


def source_of(url, create=False, env=None):
    return QueueSource(RabbitBroker(parse_address(url, env or {}), create), 1_000_000)


async def refusal(url, env=None):
    return await refusal_of(source_of(url, env=env))


async def test_what_is_wrong_with_the_url_is_told_at_the_start(server):
    host = f"127.0.0.1:{server.server.port}"
    secret = {"PERMUTIVE_WORKER_SOURCE__PASSWORD": "not this"}

    assert "the queue is not there" in await refusal(f"amqp://{host}/nowhere")
    assert "the vhost is not there" in await refusal(f"amqp://{host}/nowhere/jobs")
    told = await refusal(f"amqp://guest@{host}/jobs", secret)
    assert "refuses user or password" in told
    assert "not this" not in told
    assert "guest@" not in told


@pytest.mark.parametrize("create", [False, True])
async def test_a_user_without_permission_is_told_so_at_the_start(server, channel, tmp_path, create):
    if not create:
        await channel.queue_declare(server.queue, durable=True)
    url = server.url.replace("127.0.0.1", "poor@127.0.0.1")
    environ = {"PERMUTIVE_API_KEY": KEY, "PERMUTIVE_WORKER_SOURCE__PASSWORD": "poor"}

    ended = await program("run", *["--create"] * create, url, cwd=tmp_path, env=environ)

    assert (ended.code, "the user has no permission for this queue" in ended.text) == (78, True), ended.text
    assert "Traceback" not in ended.text


@pytest.mark.parametrize("path", ["", "a/b/c"])
def test_the_url_names_vhost_and_queue(path):
    with pytest.raises(ConfigurationError, match="VHOST/QUEUE"):
        source_of(f"amqp://localhost/{path}")


def test_an_unknown_parameter_is_told():
    with pytest.raises(ConfigurationError, match="did you mean ca"):
        source_of("amqp://localhost/jobs?cas=file")


async def test_create_makes_a_quorum_queue_and_leaves_a_classic_one_alone(server, channel):
    source = source_of(server.url, create=True)
    await source.open()
    await source.close()
    await channel.queue_declare(server.queue, durable=True, arguments={"x-queue-type": "quorum"})

    await channel.queue_declare(f"{server.queue}-classic", durable=True)
    source = source_of(f"{server.url}-classic", create=True)
    await source.open()
    await source.close()


async def test_jobs_that_wait_do_not_stop_others_from_coming(server, monkeypatch):
    """More in hand than a window holds: the next one opens."""
    monkeypatch.setattr(rabbit_window, "MAX_COUNT", 10)
    source = source_of(server.url, create=True)
    await source.open()
    lines = [b"%d" % number for number in range(100)]
    await server.publish(lines)

    received = await receive(source, 100)

    settle(source, received[:50], Settlement.RETRY)
    settle(source, received[50:])
    again = await receive(source, 50)
    settle(source, again)
    await source.flush()
    assert {delivery.raw for delivery in again} == {delivery.raw for delivery in received[:50]}
    assert len(source._broker._windows._windows) <= 2  # channels are closed once all is answered
    await source.close()
    assert source.unconfirmed == 0


async def test_large_messages_make_the_window_small(server, monkeypatch):
    monkeypatch.setattr(rabbit_window, "MAX_BYTES", 100_000)
    source = source_of(server.url, create=True)
    await source.open()
    await server.publish([b"x" * 50_000] * 20)

    received = await receive(source, 20)

    assert source._broker._windows._windows[source._broker._windows.last].size <= 2
    settle(source, received)
    await source.close()


async def test_a_consumer_that_the_broker_cancels_is_replaced(server, channel):
    # A classic queue: 3.10 never tells a consumer that came while a quorum queue was being deleted. The frames: Queue.Delete
    # and Basic.Consume sent within 1 ms, ConsumeOk, DeleteOk, and no Basic.Cancel; a queue made again by that name gives its
    # messages to that consumer (basic.get has none, lag is 0), no Basic.Deliver follows, and all come back with the channel.
    await channel.queue_declare(server.queue, durable=True)
    source = source_of(server.url)
    await source.open()
    await channel.basic_publish(b"1", routing_key=server.queue)
    settle(source, await receive(source, 1))
    await source.flush()

    await channel.queue_delete(server.queue)
    await channel.queue_declare(server.queue, durable=True)
    await channel.basic_publish(b"2", routing_key=server.queue)

    assert [delivery.raw for delivery in await receive(source, 1)] == [b"2"]
    await source.close()


async def test_a_consumer_that_the_broker_forgot_is_replaced(server, monkeypatch):
    monkeypatch.setattr(rabbit_window, "RENEW_SECONDS", 3.0)  # longer than a fetch waits
    source = source_of(server.url, create=True)
    await source.open()
    await server.publish([b"1"])
    settle(source, await receive(source, 1))  # now it knows how large messages are
    await server.publish([b"2"])
    (held,) = await receive(source, 1)
    windows = source._broker._windows
    deaf = windows._windows[windows.last]
    on_message = deaf.channel.consumers[deaf.name]
    await deaf.channel.basic_cancel(deaf.name)
    deaf.channel.consumers[deaf.name] = on_message  # as if nobody had told us
    await server.publish([b"3"])

    settle(source, [held, *await receive(source, 1)])
    await source.flush()

    assert (source.unconfirmed, source.redeliveries) == (0, 0)
    assert list(windows._windows) == [windows.last]
    await source.close()


async def test_what_nobody_fetches_goes_back(server, monkeypatch):
    monkeypatch.setattr(rabbitmq, "IDLE_SECONDS", 0.0)
    source = source_of(server.url, create=True)
    await source.open()
    broker = source._broker
    await broker._windows.take(1, 0.0)  # as a fetch after which the worker holds
    await server.publish([b"1"])
    async with asyncio.timeout(30):
        while not broker._windows.came:
            await asyncio.sleep(0.05)

    await broker.keep([])

    other = source_of(server.url)
    await other.open()
    settle(other, await receive(other, 1))
    await other.close()
    await source.close()


async def test_an_ack_for_a_message_from_before_a_reconnect_counts_as_a_coming_duplicate(server):
    source = source_of(server.url, create=True)
    await source.open()
    await server.publish([b"1", b"2"])
    first = await receive(source, 2)

    await source._broker._link._connection.close()
    again = await receive(source, 2)
    settle(source, first)
    settle(source, again)
    await source.flush()

    assert source.unconfirmed == 2
    assert source.redeliveries == 2
    await source.close()


async def test_a_line_for_a_queue_that_is_gone_is_not_confirmed(server, channel):
    publisher = RabbitPublisher(parse_address(server.url, {}), create=True)
    await publisher.open()
    assert await publisher.publish([b"1", b"2"]) == 2

    await channel.queue_delete(server.queue)

    assert await publisher.publish([b"3"]) == 0
    await publisher.close()
