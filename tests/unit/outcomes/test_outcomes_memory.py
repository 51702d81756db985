"""Outcomes as values."""

import pytest

from permutive_worker.model import End, ErrorDetail, Outcome
from permutive_worker.outcomes.memory import MemoryWriter

IDENTIFY = b'{"type":"identify","job_id":7,"user_id":"u","aliases":[]}'


async def outcomes_of(*entries) -> list[Outcome]:
    outcomes: list[Outcome] = []
    writer = MemoryWriter(outcomes.append)
    await writer.open()
    await writer.write(entries)
    await writer.close()
    return outcomes


async def test_a_delivered_job(make_entry):
    (outcome,) = await outcomes_of(make_entry(IDENTIFY, End.DELIVERED, body=b'{"user_id":"r"}'))

    assert outcome == Outcome(16, "delivered", "identify", 7, 200, 1, {"user_id": "r"})
    assert outcome.delivered


async def test_a_dead_letter_says_why(make_entry):
    entry = make_entry(b"no json", End.DEAD_LETTERED)
    entry.error = ErrorDetail("malformed", "not JSON")

    (outcome,) = await outcomes_of(entry)

    assert outcome == Outcome(
        16, "dead_lettered", attempts=1, reason="rejected", error=ErrorDetail("malformed", "not JSON")
    )
    assert not outcome.delivered


async def test_a_returned_job_has_no_reason_of_its_own(make_entry):
    (outcome,) = await outcomes_of(make_entry(IDENTIFY, End.RETURNED))

    assert (outcome.end, outcome.reason, outcome.response) == ("returned", None, None)


@pytest.mark.parametrize(
    ("body", "response"),
    [
        (b"", None),
        (b"<html>", "<html>"),
        (b'"\xff"', '"\ufffd"'),
        (b"[" * 5000, "[" * 5000),
        (b"9" * 5000, "9" * 5000),
    ],
)
async def test_an_answer_that_is_no_json_is_text(make_entry, body, response):
    (outcome,) = await outcomes_of(make_entry(IDENTIFY, End.DELIVERED, body=body))

    assert outcome.response == response
