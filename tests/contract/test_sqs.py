"""What only SQS has: groups in order, partial failures, URLs and keys of AWS."""

import pytest
from support.brokers import Sqs
from support.receiving import receive

from permutive_worker.errors import ConfigurationError
from permutive_worker.model import Settlement
from permutive_worker.sources.address import parse_address
from permutive_worker.sources.sqs_link import QueueName

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


class Fifo(Sqs):
    name = "jobs.fifo"


@pytest.fixture(params=[Sqs, Fifo])
async def broker(request, tmp_path):
    started = request.param(tmp_path)
    await started.start()
    yield started
    await started.stop()


def line(user, number):
    return b'{"type":"identify","user_id":"%s","aliases":[],"job_id":%d}' % (user, number)


@pytest.mark.parametrize("broker", [Fifo], indirect=True)
async def test_messages_of_a_group_leave_one_after_another_and_other_groups_do_not_wait(broker):
    await broker.publish([line(user, number) for number in range(3) for user in (b"a", b"b")])
    source = broker.source()
    await source.open()

    order = []
    for number in range(3):
        received = await receive(source, 2)
        assert {delivery.raw for delivery in received} == {line(b"a", number), line(b"b", number)}
        order += received
        source.settle([(delivery, Settlement.ACK) for delivery in received])
    await source.close()

    assert source.unconfirmed == 0
    assert len(order) == 6


@pytest.mark.parametrize("broker", [Fifo], indirect=True)
async def test_what_waits_behind_a_returned_message_goes_back_with_it(broker):
    await broker.publish([line(b"a", number) for number in range(3)])
    source = broker.source()
    await source.open()
    first = await receive(source, 1)
    source.settle([(first[0], Settlement.RETRY)])
    await source.close()

    other = broker.source()
    await other.open()
    for number in range(3):
        received = await receive(other, 1)
        assert [delivery.raw for delivery in received] == [line(b"a", number)]
        other.settle([(received[0], Settlement.ACK)])
    await other.close()


@pytest.mark.parametrize("broker", [Sqs], indirect=True)
async def test_a_message_that_cannot_be_deleted_is_counted(broker):
    await broker.publish([line(b"a", number) for number in range(2)])
    source = broker.source()
    await source.open()
    received = await receive(source, 2)
    source._broker._handles[received[0].place].receipt = "of another time"
    source.settle([(delivery, Settlement.ACK) for delivery in received])
    await source.flush()

    assert source.unconfirmed == 1
    await source.close()


@pytest.mark.parametrize("broker", [Sqs], indirect=True)
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda url: url.replace("sqs://", "sqs://not-"), "is not there"),
        (lambda url: url.replace("region=", "reigon="), "did you mean region"),
        (lambda url: url.replace("sqs://", "sqs://user:password@"), "needs no user"),
    ],
)
async def test_says_what_is_wrong_at_the_start(broker, monkeypatch, change, told):
    url = change(broker.url)
    monkeypatch.setattr(Sqs, "url", url)
    with pytest.raises(ConfigurationError) as caught:
        source = broker.source()
        source._broker._create = False
        try:
            await source.open()
        finally:
            await source.close()
    assert told in str(caught.value)
    assert "password" not in str(caught.value)


@pytest.mark.parametrize("broker", [Sqs], indirect=True)
async def test_needs_keys(broker, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    source = broker.source()
    with pytest.raises(ConfigurationError, match="no keys for AWS"):
        await source.open()
    await source.close()


@pytest.mark.parametrize(
    ("url", "name", "region", "whole"),
    [
        ("sqs://MyJobs?region=eu-west-1", "MyJobs", "eu-west-1", None),
        ("sqs://jobs.fifo", "jobs.fifo", None, None),
        (
            "https://sqs.eu-west-1.amazonaws.com/123456789012/MyJobs",
            "MyJobs",
            "eu-west-1",
            "https://sqs.eu-west-1.amazonaws.com/123456789012/MyJobs",
        ),
        (
            "sqs://us-east-1.queue.amazonaws.com/123456789012/jobs",
            "jobs",
            "us-east-1",
            "https://us-east-1.queue.amazonaws.com/123456789012/jobs",
        ),
    ],
)
def test_reads_urls(url, name, region, whole):
    address = parse_address(url, {})
    queue = QueueName(address, address.parameters.get("region", ""))
    assert (queue.name, queue.region, queue.url) == (name, region, whole)


@pytest.mark.parametrize("url", ["https://example.com/jobs", "sqs://", "sqs://host/one"])
def test_refuses_what_is_no_queue(url):
    with pytest.raises(ConfigurationError, match="write sqs://NAME"):
        QueueName(parse_address(url, {}), "")
