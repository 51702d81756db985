import pytest
from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.sandbox.quota import TokenBucket, default_burst

gaps = st.lists(st.floats(0, 0.5), min_size=1, max_size=200)


@given(gaps, st.floats(1, 500), st.floats(1, 50))
def test_no_span_lets_more_through_than_rate_and_burst(gaps: list[float], rate: float, burst: float) -> None:
    bucket, now, taken = TokenBucket(rate, burst), 0.0, []
    for gap in gaps:
        now += gap
        if bucket.take(now):
            taken.append(now)

    for first, start in enumerate(taken):
        for last, end in enumerate(taken[first:], first):
            assert last - first + 1 <= rate * (end - start) + burst + 1e-6


@given(st.floats(1, 500), st.floats(1, 50))
def test_what_was_gained_can_be_taken(rate: float, burst: float) -> None:
    bucket = TokenBucket(rate, burst)
    while bucket.take(0):
        pass

    assert bucket.take(1 / rate + 1e-6)


def test_a_rate_of_0_refuses_nobody() -> None:
    bucket = TokenBucket(0)

    assert all(bucket.take(0) for _ in range(1_000))


def test_a_clock_that_goes_back_gains_nothing() -> None:
    bucket = TokenBucket(1, 1)

    assert [bucket.take(10), bucket.take(5), bucket.take(10.5), bucket.take(11)] == [True, False, False, True]


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (5, 1), (100, 10)])
def test_the_default_burst_is_a_tenth_and_at_least_1(rate: float, burst: float) -> None:
    assert default_burst(rate) == TokenBucket(rate).burst == burst


@pytest.mark.parametrize(
    ("rate", "burst"), [(-1, None), (float("nan"), None), (float("inf"), None), (1, 0.5)]
)
def test_what_cannot_be_a_limit_is_refused(rate: float, burst: float | None) -> None:
    with pytest.raises(ValueError, match="must be"):
        TokenBucket(rate, burst)
