import pytest
from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.telemetry.counts import REQUEST_BUCKETS, Histogram
from permutive_worker.telemetry.quantiles import quantile

values = st.lists(st.floats(0, 60), min_size=1, max_size=200)
shares = st.floats(0, 1)


def observed(values):
    histogram = Histogram(REQUEST_BUCKETS)
    for value in values:
        histogram.observe(value)
    return histogram.buckets


def test_within_a_bucket_the_observations_are_taken_to_be_spread_evenly():
    assert quantile((1.0, 2.0, 4.0), (0, 0, 10, 0), 0.5) == 3.0


def test_beyond_the_last_bound_nothing_is_known_but_the_bound():
    assert quantile((1.0, 2.0), (0, 0, 7), 0.5) == 2.0


def test_of_no_observations_there_is_none():
    assert quantile((1.0, 2.0), (0, 0, 0), 0.5) is None


@given(values, shares)
def test_the_estimate_lies_in_the_bucket_of_the_true_value(values, share):
    told = quantile(REQUEST_BUCKETS, observed(values), share)

    rank = max(1, -int(-share * len(values) // 1))
    true = sorted(values)[rank - 1]
    above = next((bound for bound in REQUEST_BUCKETS if true <= bound), REQUEST_BUCKETS[-1])
    below = max((bound for bound in REQUEST_BUCKETS if bound < above), default=0.0)
    assert told is not None
    assert below - 1e-9 <= told <= above + 1e-9


@given(values, shares, shares)
def test_a_larger_share_has_no_smaller_value(values, one, other):
    low, high = (quantile(REQUEST_BUCKETS, observed(values), share) for share in sorted((one, other)))

    assert low <= high + 1e-9
    assert low == pytest.approx(low)
