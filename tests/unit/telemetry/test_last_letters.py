"""What the page tells of dead letters: where and why, never whose."""

import asyncio
from types import SimpleNamespace

import msgspec
from support.jump_loop import run_jumping
from support.worker import identify, memory_worker

from permutive_worker.model import Response
from permutive_worker.telemetry.last_letters import KEPT, LastLetters


def dead_letters(jobs, body):
    """What the status of a run knows at its end, whose API refuses every job with 400 and this body."""

    async def scenario():
        async def send(_request):
            await asyncio.sleep(0.01)
            return Response(400, {}, body)

        worker, _ = memory_worker(jobs, SimpleNamespace(send=send))
        await worker.run()
        return worker.look().last_dead_letters

    return run_jumping(scenario())


def test_a_dead_letter_is_told_by_place_reason_status_and_code_and_by_no_word_of_the_api():
    body = b'{"error": {"status": "BAD", "code": 4001, "message": "secret-user <b>is</b> unknown"}}'
    (letter,) = dead_letters([identify(0, user="secret-user")], body)

    assert (letter.type, letter.reason, letter.status, letter.code) == ("identify", "rejected", 400, 4001)
    assert letter.position == "jobs[0]"
    told = msgspec.json.encode(letter)
    assert b"secret-user" not in told
    assert b"unknown" not in told


def test_a_code_that_is_no_number_is_not_told():
    (letter,) = dead_letters([identify(0)], b'{"error": {"code": "<script>"}}')

    assert letter.code is None


def test_only_the_last_ones_are_kept_and_a_long_position_keeps_its_end():
    letters = LastLetters()
    entries = [
        SimpleNamespace(
            kind="",
            reason=None,
            response=None,
            error=None,
            delivery=SimpleNamespace(position=f"{'x' * 300}:{n}"),
        )
        for n in range(50)
    ]
    letters.add(entries[:5], None)
    letters.add(entries[5:], None)

    assert len(letters.latest) == KEPT
    assert letters.latest[-1].position == f"{'x' * 197}:49"
