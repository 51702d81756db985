from datetime import UTC, datetime

import pytest

from permutive_worker.destinations.memory import MemoryDestination, MemoryWire
from permutive_worker.errors import TransportError
from permutive_worker.jobs.decode import Decoder, Fault
from permutive_worker.model import Action, Request, Response

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def identify() -> Request:
    job = Decoder().decode(b'{"type":"identify","user_id":"u","aliases":[]}')
    assert not isinstance(job, Fault), job
    return MemoryDestination().request(job, 0)


async def test_the_wire_records_and_answers():
    wire = MemoryWire(lambda request: Response(201, {}, request.body))

    response = await wire.send(identify())

    assert (response.status, response.body) == (201, b'{"user_id":"u","aliases":[]}')
    assert [request.path for request in wire.requests] == ["/identify"]


async def test_an_answer_may_be_a_failure():
    def answer(request: Request) -> Response:
        raise TransportError("reset", sent=True)

    wire = MemoryWire(answer)

    with pytest.raises(TransportError, match="reset"):
        await wire.send(identify())
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    ("status", "action"),
    [(200, Action.DELIVERED), (429, Action.THROTTLED), (500, Action.RETRY), (400, Action.REJECT)],
)
def test_verdicts(status, action):
    verdict = MemoryDestination().judge(identify(), Response(status, {"Retry-After": "2"}, b""), lambda: NOW)

    assert verdict.action is action
    assert verdict.retry_after_seconds == (None if status == 200 else 2.0)
