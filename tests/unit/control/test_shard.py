"""Every file belongs to exactly one shard, and stays there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.control.shard import Shard, parse_shard, shard_fault


@given(st.text(min_size=1), st.integers(1, 50))
def test_every_file_is_taken_by_exactly_one(path, count):
    assert sum(Shard(number, count).takes(path) for number in range(1, count + 1)) == 1


def test_shares_are_about_equal_and_stable():
    taken = [
        sum(Shard(k, 8).takes(f"exports/part-{n:05}.ndjson.gz") for n in range(8000)) for k in range(1, 9)
    ]

    assert sum(taken) == 8000
    assert all(800 < count < 1200 for count in taken)
    assert [n for n in range(20) if Shard(3, 8).takes(f"jobs-{n}")] == STABLE  # never to change: runs resume


STABLE = [2, 3, 9, 13, 15]


@pytest.mark.parametrize("text", ["3/8", "1/1", "8/8", "auto/8"])
def test_what_can_be_meant(text):
    assert shard_fault(text) is None


@pytest.mark.parametrize("text", ["0/8", "9/8", "3", "3/", "/8", "auto", "auto/0", "-1/8", "3/8/2", "03/8"])
def test_what_cannot(text):
    assert "3/8" in shard_fault(text)


def test_auto_is_told_by_kubernetes():
    assert parse_shard("auto/8", {"JOB_COMPLETION_INDEX": "0"}) == (1, 8)
    assert parse_shard("auto/8", {"JOB_COMPLETION_INDEX": "7"}) == (8, 8)
    for index in ("8", "", "x", "-1"):
        assert parse_shard("auto/8", {"JOB_COMPLETION_INDEX": index}) is None
    assert parse_shard("auto/8", {}) is None
    assert parse_shard("2/8", {"JOB_COMPLETION_INDEX": "7"}) == (2, 8)
