"""A line that needs several requests, in a run that is stopped between two of them, and in the next one."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from support.jump_loop import run_jumping
from support.worker import KEY, LoopClock

from permutive_worker.config import Output, Settings, State
from permutive_worker.credentials import Keyring
from permutive_worker.model import Response
from permutive_worker.worker import Worker


@pytest.fixture
def run(tmp_path):
    events = [
        {"name": f"Event{number}", "time": "2026-01-31T12:00:00Z", "properties": {}} for number in range(35)
    ]
    lines = [{"type": "segmentation", "user_id": f"user-{number}", "events": events} for number in range(3)]
    (tmp_path / "jobs.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = Settings(
        state=State(dir=str(tmp_path / "state")), output=Output(dead_letters=str(tmp_path / "dead.ndjson"))
    )

    def run(answer):
        async def scenario():
            bodies = []

            async def send(request):
                bodies.append(request.body)
                await asyncio.sleep(0.02)
                return answer(len(bodies), worker)

            worker = Worker(
                settings,
                [str(tmp_path / "jobs.ndjson")],
                wire=SimpleNamespace(send=send),
                keyring=Keyring.of_key(KEY),
                clock=LoopClock(),
            )
            return await worker.run(), bodies

        return run_jumping(scenario())

    run.dead_letters = lambda: [
        json.loads(line) for line in (tmp_path / "dead.ndjson").read_text().splitlines()
    ]
    return run


def test_what_was_delivered_of_a_line_before_a_stop_is_not_sent_again(run):
    def stop_at(request):
        def answer(count, worker):
            if count >= request:
                worker.stop()
            return Response(200, {}, b"{}")

        return answer

    first, sent_first = run(stop_at(5))
    assert (first.exit_code, first.returned > 0) == (75, True)
    _, sent_second = run(stop_at(2))
    third, sent_third = run(stop_at(1000))

    assert (third.exit_code, third.returned) == (0, 0)
    sent = [*sent_first, *sent_second, *sent_third]
    assert (len(sent), len(set(sent))) == (12, 12)


def test_a_dead_letter_of_the_next_run_holds_only_what_no_run_delivered(run):
    def stop_then_refuse(count, worker):
        worker.stop()
        return Response(200, {}, b"{}")

    _, sent = run(stop_then_refuse)
    summary, _ = run(lambda count, worker: Response(400, {}, b"{}"))

    assert summary.dead_lettered == 3
    left = [len(letter["job"]["events"]) for letter in run.dead_letters()]
    assert sum(left) == 3 * 35 - 10 * len(sent)
    assert [
        letter.get("delivered_events", 0) + events
        for letter, events in zip(run.dead_letters(), left, strict=True)
    ] == [35] * 3
