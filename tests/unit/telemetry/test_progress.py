import json
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.model import Progress, Reason
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.progress import RecentRate, estimate_total, progress, progress_line, share
from permutive_worker.telemetry.status import LaneStatus, Status


def counted(*, read: int = 0, delivered: int = 0, invalid: int = 0) -> Counts:
    counts = Counts("file", ["identify"])
    counts.read = read
    counts.kinds["identify"].delivered = delivered
    counts.dead_lettered[Reason.INVALID] = invalid
    return counts


def status(elapsed_seconds: float, total: int | None, *, ready: int = 0) -> Status:
    lane = LaneStatus("", ready, 1, 0, 2, 64, 0.0, 500.0, None, None, "closed", credentials_valid=True)
    return Status(
        "running", "run", datetime(2026, 1, 2, tzinfo=UTC), elapsed_seconds, [lane], 3, 0, 1, 0, None, total
    )


def test_progress_counts_what_has_ended_and_the_errors_among_it():
    counts = counted(read=9, delivered=3, invalid=1)
    counts.returned["stop"] = 5

    assert progress(counts, 2.0, None) == Progress(4, None, 1, 2.0, 500.0)


def test_progress_of_nothing_has_no_average():
    assert progress(counted(), 2.0, 0).average_per_thousand_seconds == 0.0


def test_the_total_is_estimated_by_the_share_of_bytes_and_exact_at_the_end():
    counts = counted(read=250)

    assert estimate_total(counts, 1000, 4000, ended=False) == 1000
    assert estimate_total(counts, 4000, 4000, ended=True) == 250


def test_lines_that_an_earlier_run_left_are_in_the_total_and_do_not_distort_it():
    counts = counted(read=2_250)

    assert estimate_total(counts, 1000, 4000, ended=False, again=2_000) == 3_000
    assert estimate_total(counts, 0, 4000, ended=False, again=2_250) is None


@pytest.mark.parametrize(
    ("read", "bytes_read", "bytes_total"), [(5, 100, None), (0, 0, 4000), (0, 100, 4000), (5, 0, 4000)]
)
def test_the_total_is_unknown_for_a_pipe_and_before_the_first_line(read, bytes_read, bytes_total):
    assert estimate_total(counted(read=read), bytes_read, bytes_total, ended=False) is None


def test_an_empty_input_has_a_total_of_0_and_is_done():
    total = estimate_total(counted(), 0, 0, ended=True)

    assert total == 0
    assert share(0, total) == 1.0


@given(st.integers(0, 10**9), st.integers(0, 10**12), st.none() | st.integers(0, 10**12), st.booleans())
def test_the_estimate_is_never_below_what_was_read(read, bytes_read, bytes_total, ended):
    total = estimate_total(counted(read=read), bytes_read, bytes_total, ended=ended)

    assert total is None or total >= read


def test_the_eta_is_unknown_before_anything_moved_and_without_a_total():
    rate = RecentRate()
    rate.observe(0, 0.0)
    rate.observe(0, 10.0)

    assert rate.eta_seconds(0, 100) is None
    rate.observe(50, 20.0)
    assert rate.eta_seconds(50, None) is None
    assert rate.eta_seconds(100, 100) == 0.0


def test_the_rate_starts_as_the_plain_average():
    rate = RecentRate()
    for completed, at_seconds in ((0, 0.0), (100, 1.0), (100, 2.0), (200, 4.0)):
        rate.observe(completed, at_seconds)

    assert rate.smoothed_per_second == pytest.approx(50)
    assert rate.eta_seconds(200, 300) == pytest.approx(2)


def test_the_eta_follows_a_new_rate_but_not_one_pause():
    rate = RecentRate()
    for second in range(101):
        rate.observe(second * 100, float(second))
    rate.observe(10_000, 105.0)
    after_a_pause = rate.smoothed_per_second
    for second in range(106, 226):
        rate.observe(10_000 + (second - 105) * 10, float(second))

    assert 75 < after_a_pause < 100
    assert rate.smoothed_per_second == pytest.approx(10, rel=0.2)
    assert rate.last_per_second == 10


def test_a_clock_that_stands_still_changes_nothing():
    rate = RecentRate()
    for completed, at_seconds in ((0, 0.0), (10, 1.0), (20, 1.0), (20, 0.5)):
        rate.observe(completed, at_seconds)

    assert rate.last_per_second == 10


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 10**4)), min_size=1, max_size=20),
    st.integers(0, 10**9),
)
def test_rate_and_eta_are_finite_and_not_negative(steps, total):
    rate, completed, at_seconds = RecentRate(), 0, 0.0
    for more, later in steps:
        completed, at_seconds = completed + more, at_seconds + later
        rate.observe(completed, at_seconds)

    eta_seconds = rate.eta_seconds(completed, total)
    assert rate.smoothed_per_second >= 0
    assert eta_seconds is None or (eta_seconds >= 0 and math.isfinite(eta_seconds))


def test_a_progress_line_is_one_json_object_with_the_public_names():
    counts = counted(read=100, delivered=20, invalid=5)
    counts.throttled["none"] = 2
    counts.retries["throttled"] = 2
    counts.retries["timeout"] = 1
    rate = RecentRate()
    rate.observe(0, 0.0)

    line = progress_line(counts, status(10.0, 200, ready=69), rate).json()

    assert "\n" not in line
    assert json.loads(line) == {
        "event": "progress",
        "completed": 25,
        "total": 200,
        "errors": 5,
        "share": 0.125,
        "rate_per_second": 2.5,
        "eta_seconds": 70.0,
        "throttled": 2,
        "retries": 3,
        "pending": 75,
        "elapsed_seconds": 10.0,
    }


def test_what_a_progress_line_cannot_know_is_null():
    line = json.loads(progress_line(counted(read=1), status(10.0, None), RecentRate()).json())

    assert (line["total"], line["share"], line["eta_seconds"]) == (None, None, None)
