"""What a status tells of halts and of who holds the budget."""

import asyncio
from types import SimpleNamespace

import msgspec
import pytest
from support.jump_loop import run_jumping
from support.worker import identify, memory_worker

from permutive_worker.config import Delivery, Settings
from permutive_worker.model import Response


def event(number):
    return {"type": "event", "name": "Bought", "user_id": f"buyer-{number}"}


def looked(jobs, answer, at, **delivery):
    """The status at that moment of a run whose wire answers `answer(request)` after 20 ms."""

    async def scenario():
        async def send(request):
            await asyncio.sleep(0.02)
            return Response(answer(request), {}, b"")

        settings = Settings(delivery=Delivery(**delivery))
        worker, _ = memory_worker(jobs, SimpleNamespace(send=send), settings=settings)
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(at)
        status = worker.look()
        worker.hurry()
        await running
        return status

    return run_jumping(scenario())


def test_the_longest_line_behind_one_user_is_told_by_a_position_and_never_by_a_name():
    jobs = [identify(number, user="secret-user") for number in range(4)]
    status = looked(jobs, lambda _: 500, 0.5, backoff_initial_seconds=60)

    line = status.lanes[0].longest_line
    assert (line.position, line.jobs) == ("jobs[1]", 3)
    assert line.pending_bytes > 3 * 1024
    assert b"secret-user" not in msgspec.json.encode(status)


@pytest.mark.parametrize(("others", "ready"), [(1, False), (5000, True)])
def test_a_run_is_ready_while_something_moves_beside_a_kind_that_is_halted(others, ready):
    jobs = [identify(number) for number in range(others)]
    status = looked(
        [event(0), event(1), *jobs],
        lambda request: 403 if request.kind == "event" else 200,
        2.0 if ready else 0.5,
        max_in_flight=1 if ready else 4,
    )
    (lane,) = status.lanes

    assert [(halt.kind, halt.status) for halt in lane.halts] == [("event", 403)]
    assert not lane.credentials_valid
    assert status.ready is ready
    assert status.pending["ready"] + status.pending["backoff"] + status.pending["in_flight"] > 0
