"""What SQS may answer and an imitation of it does not."""

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from permutive_worker.errors import ConfigurationError, LinkError, UnreachableError
from permutive_worker.sources.address import parse_address
from permutive_worker.sources.sqs import SqsBroker
from permutive_worker.sources.sqs_link import connecting, running

PLACES = [f"m{number}" for number in range(25)]


class Client:
    """Takes batches; `failing` maps the receipt of a message to whether it is our fault, once or for ever."""

    def __init__(self):
        self.failing = {}
        self.for_ever = False
        self.deleted, self.hidden, self.calls = [], [], 0

    def _answer(self, entries, done):
        assert 1 <= len(entries) <= 10
        self.calls += 1
        failed = []
        for entry in entries:
            receipt = entry["ReceiptHandle"]
            if receipt in self.failing:
                failed.append({"Id": entry["Id"], "SenderFault": self.failing[receipt], "Code": "Any"})
                if not self.for_ever:
                    del self.failing[receipt]
            else:
                done.append(receipt)
        return {"Failed": failed}

    async def delete_message_batch(self, QueueUrl, Entries):  # noqa: N803
        return self._answer(Entries, self.deleted)

    async def change_message_visibility_batch(self, QueueUrl, Entries):  # noqa: N803
        return self._answer(Entries, self.hidden)


@pytest.fixture
async def broker():
    opened = SqsBroker(parse_address("sqs://jobs?region=eu-west-1&visibility=30", {}), create=False)
    opened._client = Client()
    for place in PLACES:
        opened._register({"MessageId": place, "ReceiptHandle": f"{place}-1", "Body": "{}"})
    return opened


async def test_only_what_sqs_did_not_delete_is_asked_for_again(broker):
    broker._client.failing = {"m3-1": False, "m12-1": False}

    assert await broker.acknowledge(PLACES) == 0
    assert sorted(broker._client.deleted) == sorted(f"{place}-1" for place in PLACES)
    assert broker._client.calls == 3 + 2


async def test_what_sqs_never_deletes_is_counted_and_not_asked_for_again(broker):
    broker._client.for_ever = True
    broker._client.failing = {"m3-1": True, "m12-1": False}

    assert await broker.acknowledge(PLACES) == 2
    assert broker._client.calls == 3 + 1
    assert await broker.acknowledge(PLACES) == 0  # it knows none of them any more


async def test_a_message_that_sqs_takes_back_after_twelve_hours_stays_ours_by_its_new_receipt(broker):
    broker._client.for_ever = True
    broker._client.failing = {"m3-1": True}  # "Total VisibilityTimeout for the message is beyond the limit"
    for handle in broker._handles.values():
        handle.until = 0.0

    await broker.keep(PLACES)
    broker._register({"MessageId": "m3", "ReceiptHandle": "m3-2", "Body": "{}"})  # it comes again

    assert len(broker._client.hidden) == len(PLACES) - 1  # the others are ours for longer
    assert await broker.acknowledge(["m3"]) == 0
    assert broker._client.deleted == ["m3-2"]


def answer(code):
    return ClientError({"Error": {"Code": code, "Message": "marker-secret"}}, "GetQueueUrl")


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (answer("QueueDoesNotExist"), ConfigurationError, "is not there"),
        (answer("AccessDenied"), ConfigurationError, "no permission for this queue"),
        (answer("KMS.AccessDeniedException"), ConfigurationError, "no permission for this queue"),
        (answer("InvalidClientTokenId"), ConfigurationError, "refuses these keys"),
        (answer("SignatureDoesNotMatch"), ConfigurationError, "refuses these keys"),
        (answer("ExpiredToken"), ConfigurationError, "refuses these keys"),
        (answer("ServiceUnavailable"), UnreachableError, "answers ServiceUnavailable"),
        (EndpointConnectionError(endpoint_url="http://marker-secret"), UnreachableError, "cannot be reached"),
    ],
)
def test_what_is_wrong_is_one_sentence_without_what_was_sent(error, kind, said):
    with pytest.raises(kind, match=said) as caught, connecting("sqs://jobs"):
        raise error
    assert "marker" not in str(caught.value)
    assert "\n" not in str(caught.value)

    with pytest.raises(LinkError) as caught, running("sqs://jobs"):  # while running it is tried again
        raise error
    assert "marker" not in str(caught.value)
