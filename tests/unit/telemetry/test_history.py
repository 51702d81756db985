from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.model import Reason
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.history import STEP_SECONDS, STEPS, History

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Run:
    """Counts that grow, and a clock."""

    def __init__(self):
        self.counts = Counts("file", ["identify", "event"])
        self.history = History()
        self.at = NOON
        self.elapsed_seconds = 0.0
        self.second(seconds=0.0)

    def second(self, delivered=0, dead=0, answers=(), seconds=1.0):
        self.counts.kinds["identify"].delivered += delivered
        self.counts.dead_lettered[Reason.INVALID] += dead
        for answer_seconds in answers:
            self.counts.kinds["event"].answered(200, answer_seconds)
        self.history.observe(self.counts, self.elapsed_seconds, self.at)
        self.at += timedelta(seconds=seconds)
        self.elapsed_seconds += seconds


@pytest.fixture
def run():
    return Run()


def test_throughput_is_told_in_whole_steps_that_begin_at_multiples_of_the_step(run):
    for _ in range(12):
        run.second(delivered=10, dead=1)

    told = run.history.throughput()
    assert told.delivered == [50, 50]
    assert told.dead_lettered == [5, 5]
    assert told.until == NOON + timedelta(seconds=2 * STEP_SECONDS)


def test_there_are_fifteen_minutes_and_no_more(run):
    for second in range(1200):
        run.second(delivered=second)

    told = run.history.throughput()
    assert len(told.delivered) == STEPS == 180
    assert told.delivered[-1] == sum(range(1190, 1195))


def test_a_loop_that_stood_still_leaves_empty_steps(run):
    run.second(delivered=10, seconds=21)
    run.second()

    assert run.history.throughput().delivered == [10, 0, 0, 0]


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(-5000, 5000)), max_size=30))
def test_a_clock_that_jumps_loses_nothing_and_adds_nothing(steps):
    run, total = Run(), 0
    for delivered, jump_seconds in steps:
        total += delivered
        run.second(delivered=delivered)
        run.at += timedelta(seconds=jump_seconds)
    run.at = max(run.at, NOON + timedelta(days=1))

    told = run.history.throughput()
    assert sum(told.delivered) <= total
    assert len(told.delivered) == len(told.dead_lettered) <= STEPS


def test_speed_follows_the_last_seconds(run):
    for _ in range(30):
        run.second(delivered=100)
    assert run.history.jobs_per_second == pytest.approx(100, rel=0.05)
    for _ in range(15):
        run.second()

    assert run.history.jobs_per_second < 1
    assert run.history.eta_seconds(3000, 3000) == 0.0


def test_latency_is_that_of_the_last_minute(run):
    run.second(answers=[9.0] * 50)
    for _ in range(70):
        run.second(answers=[0.02])

    told = run.history.latency(run.counts)
    assert 55 <= told.answers <= 66
    assert 0.01 <= told.p50 <= told.p95 <= told.p99 <= 0.025


def test_without_answers_there_is_no_latency(run):
    run.second()

    told = run.history.latency(run.counts)
    assert (told.answers, told.p50, told.p99) == (0, None, None)
