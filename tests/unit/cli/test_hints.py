"""What the program says at a terminal of lines that were not delivered."""

from pathlib import Path

import pytest
from support.worker import memory_worker

from permutive_worker.cli.hints import hints
from permutive_worker.destinations.memory import MemoryWire
from permutive_worker.model import End, Response, Summary
from permutive_worker.outcomes.returned import ReturnedWriter


def summary(*, dead=0, returned=0, lost=0, exit_code=75) -> Summary:
    read = 10 + dead + returned
    return Summary(
        run_id="r",
        read=read,
        delivered=10,
        dead_lettered=dead,
        skipped=0,
        returned=returned,
        requests=10,
        retries=0,
        throttled=0,
        ambiguous=0,
        elapsed_seconds=1.0,
        average_per_thousand_seconds=1.0,
        exit_code=exit_code,
        lost=lost,
    )


def quiet_worker():
    made, _ = memory_worker([], MemoryWire(lambda _: Response(200, {}, b"{}")))
    made.writers.clear()
    return made


async def test_nothing_is_said_when_all_is_delivered():
    worker = quiet_worker()
    assert hints(worker, summary(exit_code=0), "dead.ndjson") == []


async def test_dead_letters_are_found():
    worker = quiet_worker()
    (told,) = hints(worker, summary(dead=4, exit_code=3), "dead.ndjson")

    assert told == "failed for good: 4, see permutive-worker dead-letters summarize dead.ndjson"


async def test_the_returned_lines_of_a_pipe_are_found_without_those_that_are_lost():
    worker = quiet_worker()
    worker.writers[End.RETURNED] = ReturnedWriter(Path("dead.ndjson"))

    (told,) = hints(worker, summary(returned=3000, lost=1000), "dead.ndjson")

    assert told == "read and not delivered: 2,000, in dead.returned.ndjson; rename it, and it is an input"


async def test_a_file_is_gone_on_with():
    worker = quiet_worker()
    worker.counts.source = "file"

    assert hints(worker, summary(returned=5), "dead.ndjson") == ["the same command again goes on from here"]


@pytest.mark.parametrize("kind", ["redis", "nats", "rabbitmq"])
async def test_a_queue_needs_no_hint(kind):
    worker = quiet_worker()
    worker.counts.source = kind

    assert hints(worker, summary(returned=5), "dead.ndjson") == []
