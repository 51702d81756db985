"""A batch says what is known of each operation, and no more."""

import json

import pytest
from support.jump_loop import run_jumping
from support.scripted_api import answered, scripted

from permutive_worker.errors import TransportError
from permutive_worker.permutive import (
    CreateSegment,
    DeleteSegment,
    InvalidRequestError,
    OperationState,
    UpdateSegment,
)


def batch(operations, *answers):
    async def carried_out():
        permutive, wire = scripted(*answers)
        results = await permutive.segments.batch("m", operations)
        return results, [json.loads(request.body)["operations"] for request in wire.requests]

    return run_jumping(carried_out())


def create(number):
    return CreateSegment(code=str(number), name="n")


def states(results):
    return [str(result.state) for result in results]


def test_5000_operations_are_one_request_and_one_more_are_two():
    results, requests = batch(map(create, range(5001)), answered(200, {"items": []}))

    assert [len(request) for request in requests] == [5000, 1]
    assert [result.index for result in results] == list(range(5001))
    assert set(states(results)) == {"accepted"}


def test_operations_on_one_code_go_one_after_another():
    operations = [create(1), UpdateSegment(code="1", name="m"), create(2), DeleteSegment("1")]

    _, requests = batch(operations, answered(200, {}))

    assert [[one["operation"] for one in request] for request in requests] == [
        ["Create", "Create"],
        ["Update"],
        ["Delete"],
    ]


def test_what_the_answer_holds_is_confirmed():
    items = [{"code": "2", "name": "n", "id": "i"}, {"nonsense": 1}, "x"]

    results, _ = batch([create(1), create(2)], answered(200, {"items": items}))

    assert states(results) == ["accepted", "confirmed"]
    assert results[1].segment.id == "i"


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (answered(400), "refused"),
        (answered(403), "refused"),
        (answered(500), "unknown"),
        (TransportError("timeout", sent=True), "unknown"),
        (TransportError("connect", sent=False), "not_sent"),
    ],
    ids=repr,
)
def test_a_request_that_failed(answer, state):
    results, requests = batch([create(1), UpdateSegment(code="1", name="m"), create(2)], answer)

    assert states(results) == [state, "not_sent", state]
    assert results[0].error is results[1].error is not None
    assert all(len(request) == 2 for request in requests)


def test_other_codes_go_on_after_a_failure():
    operations = [create(1), DeleteSegment("1"), create(2), DeleteSegment("2")]
    # Both creates are in the first request; it fails, so neither delete is sent.
    results, _ = batch(operations, answered(400), answered(200, {}))
    assert states(results) == ["refused", "not_sent", "refused", "not_sent"]

    results, _ = batch(operations, answered(200, {}), answered(400))
    assert states(results) == ["accepted", "refused", "accepted", "refused"]


def test_an_answer_that_cannot_be_read_was_an_answer():
    results, requests = batch([create(1), DeleteSegment("1")], answered(200, "hm"))

    assert states(results) == ["accepted", "accepted"]
    assert len(requests) == 2


@pytest.mark.parametrize(
    "wrong",
    [UpdateSegment(code="1"), DeleteSegment(""), CreateSegment(code="1", name=""), DeleteSegment("..")],
)
def test_a_wrong_operation_is_refused_before_anything_is_sent(wrong):
    with pytest.raises(InvalidRequestError):
        batch([create(1), wrong], answered(200, {}))


def test_the_states_are_those():
    assert list(OperationState) == ["confirmed", "accepted", "refused", "unknown", "not_sent"]
