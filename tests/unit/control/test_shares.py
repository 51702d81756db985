from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.control.shares import LEAST_USED, deal, most_shares, rate_share

SIZES = st.lists(st.integers(0, 10**12), max_size=60)
SHARES = st.integers(1, 20)
RATES = st.floats(0.01, 1e6)
BURSTS = st.floats(1, 1e5)


@given(SIZES, SHARES)
def test_every_input_is_dealt_once_in_order_and_no_share_is_empty_without_need(sizes, shares):
    dealt = deal(sizes, shares)

    assert sorted(index for share in dealt for index in share) == list(range(len(sizes)))
    assert all(share == sorted(share) for share in dealt)
    assert sum(1 for share in dealt if share) == min(shares, len(sizes))


@given(SIZES, SHARES)
def test_no_share_is_larger_than_another_by_more_than_its_own_smallest_input(sizes, shares):
    dealt = [share for share in deal(sizes, shares) if share]
    totals = [sum(sizes[index] for index in share) for share in dealt]

    for share, total in zip(dealt, totals, strict=True):
        assert total - min(sizes[index] for index in share) <= min(totals) + len(sizes)


@given(RATES, BURSTS, SHARES)
def test_shares_together_stay_within_rate_and_burst_and_use_most_of_the_rate(rate, burst, wanted):
    shares = most_shares(rate, burst, wanted)
    rate_each, burst_each = rate_share(rate, burst, shares)

    assert 1 <= shares <= wanted
    assert burst_each >= 1
    assert shares * (rate_each + burst_each) <= (rate + burst) * (1 + 1e-9)
    assert shares * rate_each >= LEAST_USED * rate * (1 - 1e-9)


def test_one_share_is_the_whole():
    assert rate_share(500, 25, 1) == (500, 25)


def test_a_large_rate_is_simply_divided():
    assert rate_share(500, 25, 5) == (100, 5)


def test_a_burst_that_cannot_be_divided_is_paid_for_by_the_rate():
    assert rate_share(20, 1, 2) == (9.5, 1)
    assert most_shares(20, 1, 8) == 3
