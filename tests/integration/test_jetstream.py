"""What is particular to NATS JetStream, with a real server."""

import nats
import pytest
from nats.js.api import AckPolicy, ConsumerConfig
from support.brokers import Nats
from support.receiving import receive, refusal_of, settle

from permutive_worker.errors import ConfigurationError
from permutive_worker.model import Settlement
from permutive_worker.sources import link, nats_pull
from permutive_worker.sources.address import parse_address
from permutive_worker.sources.jetstream import NatsBroker
from permutive_worker.sources.nats_publish import NatsPublisher
from permutive_worker.sources.queue import QueueSource

pytestmark = pytest.mark.process

LOCKED = """
authorization {users: [
    {user: worker, password: right}
    {user: weak, password: right, permissions: {publish: ["nothing"], subscribe: ["_INBOX.>"]}}
]}
"""


@pytest.fixture
async def server(tmp_path):
    started = Nats(tmp_path)
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def stream(server):
    client = await nats.connect(f"nats://127.0.0.1:{server.port}", allow_reconnect=False)
    yield client.jetstream()
    await client.close()


def source_of(url, create=False, env=None):
    return QueueSource(NatsBroker(parse_address(url, env or {}), create), 1_000_000)


async def refusal(url, env=None):
    return await refusal_of(source_of(url, env=env))


async def test_what_is_not_there_is_named_and_made_only_when_asked_for(server, stream):
    base = f"nats://127.0.0.1:{server.port}"
    assert "the stream is not there" in await refusal(f"{base}/JOBS/workers")

    await stream.add_stream(name="JOBS", subjects=["jobs"])
    assert "the consumer is not there" in await refusal(f"{base}/JOBS/workers")

    made = source_of(f"{base}/JOBS/workers", create=True)
    await made.open()
    await made.close()
    info = await stream.consumer_info("JOBS", "workers")
    assert (info.config.ack_policy, info.config.max_deliver) == (AckPolicy.EXPLICIT, -1)


async def test_a_consumer_that_would_lose_jobs_is_refused(server, stream):
    await stream.add_stream(name="JOBS", subjects=["jobs"])
    await stream.add_consumer(
        "JOBS", ConsumerConfig(durable_name="silent", ack_policy=AckPolicy.NONE, deliver_subject="x")
    )
    await stream.add_consumer("JOBS", ConsumerConfig(durable_name="whole", ack_policy=AckPolicy.ALL))
    base = f"nats://127.0.0.1:{server.port}/JOBS"

    assert "must be a pull consumer" in await refusal(f"{base}/silent")
    assert "ack policy must be explicit" in await refusal(f"{base}/whole")


@pytest.mark.parametrize("path", ["", "JOBS", "JOBS/a/b", "JOBS/a.b", "JO*S/a", "JOBS/%20"])
def test_the_url_names_stream_and_consumer(path):
    with pytest.raises(ConfigurationError, match="STREAM/CONSUMER"):
        source_of(f"nats://localhost/{path}")


def test_an_unknown_parameter_is_told():
    with pytest.raises(ConfigurationError, match="did you mean ack_wait"):
        source_of("nats://localhost/JOBS/workers?ack_wiat=5")


async def test_password_and_permission_are_checked_at_the_start_and_never_told(tmp_path, monkeypatch):
    monkeypatch.setattr(link, "CONNECT_SECONDS", 7.0)
    server = Nats(tmp_path)
    (tmp_path / "conf").write_text(LOCKED)
    await server.start("-c", tmp_path / "conf")
    host = f"127.0.0.1:{server.port}/JOBS/workers"
    secret = {"PERMUTIVE_WORKER_SOURCE__PASSWORD": "wrong"}
    try:
        for told in [await refusal(f"nats://worker@{host}", secret), await refusal(f"nats://{host}")]:
            assert "refuses user or password" in told
            assert "wrong" not in told
            assert "worker@" not in told
        assert "no permission" in await refusal(f"nats://weak:right@{host}")
        # The password must not go out in plain text to a server that says it has no TLS.
        assert "the server has no TLS" in await refusal(f"tls://worker:right@{host}")
        right = source_of(f"nats://worker:right@{host}", create=True)
        await right.open()
        await right.close()
    finally:
        await server.stop()


async def test_what_was_given_to_somebody_before_counts_as_a_redelivery(server):
    source = source_of(server.url, create=True)
    await source.open()
    await server.publish([b"1", b"2", b"3"])
    first = await receive(source, 3)
    settle(source, first[:1], Settlement.RETRY)

    [again] = await receive(source, 1)

    assert (again.raw, again.position, source.redeliveries) == (first[0].raw, first[0].position, 1)
    settle(source, [again, *first[1:]])
    await source.close()


async def test_what_nobody_fetches_goes_back_before_its_lease_ends(server, monkeypatch):
    """Messages that come after the last fetch of a hold are not hoarded."""
    source, other = source_of(server.url, create=True), source_of(server.url)
    await source.open()
    await other.open()
    broker = source._broker
    await broker._pull._ask(10, 5.0)  # as a fetch that was left while its request is open
    await server.publish([b"1"])

    [delivery] = await receive(other, 1)

    settle(other, [delivery])
    await other.close()
    await source.close()


async def test_requests_are_bounded_by_bytes_and_a_larger_message_comes_alone(server, monkeypatch):
    monkeypatch.setattr(nats_pull, "MAX_BYTES", 2_000)
    source = source_of(server.url, create=True)
    await source.open()
    lines = [b"a" * 500, b"b" * 600, b"c" * 700, b"d" * 800, b"e" * 5_000, b"f" * 500, b"g" * 5_000]
    await server.publish(lines)

    received = await receive(source, len(lines))

    assert [delivery.raw for delivery in received] == lines
    settle(source, received)
    await source.flush()
    assert not source.is_away
    await source.close()


async def test_lines_for_a_subject_of_another_stream_are_not_confirmed(server, stream):
    await stream.add_stream(name="JOBS", subjects=["jobs.*"])
    await stream.add_stream(name="OTHER", subjects=["other"])
    confirmed = []
    for subject in ["jobs.a", "other", "nobody"]:
        url = f"nats://127.0.0.1:{server.port}/JOBS?subject={subject}"
        publisher = NatsPublisher(parse_address(url, {}), create=False)
        await publisher.open()
        confirmed.append(await publisher.publish([b"1", b"2"]))
        await publisher.close()

    assert confirmed == [2, 0, 0]
    assert (await stream.stream_info("OTHER")).state.messages == 0


async def test_a_stream_with_several_subjects_needs_one_named(server, stream):
    await stream.add_stream(name="JOBS", subjects=["jobs.*"])
    publisher = NatsPublisher(parse_address(f"nats://127.0.0.1:{server.port}/JOBS", {}), create=False)

    with pytest.raises(ConfigurationError, match="several subjects"):
        await publisher.open()
    await publisher.close()
