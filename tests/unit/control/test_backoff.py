from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.control.backoff import Backoff

positive = st.floats(0.001, 1e6)
chance = st.floats(0, 1, exclude_max=True)


def test_doubles_up_to_the_cap():
    backoff = Backoff(1.0, 2.0, 60.0)
    assert [backoff.cap_seconds(n) for n in (1, 2, 3, 6, 7, 8)] == [1, 2, 4, 32, 60, 60]


@given(positive, st.floats(1, 1e3), positive, st.integers(1, 10_000), chance, st.floats(0, 1e5))
def test_every_wait_is_between_the_floor_and_the_cap(initial, factor, cap, failures, dice, floor):
    wait = Backoff(initial, factor, cap).seconds(failures, dice, floor)
    assert floor <= wait <= floor + cap


@given(st.integers(1, 100))
def test_full_jitter_spans_the_whole_range(failures):
    backoff = Backoff(1.0, 2.0, 60.0)
    assert backoff.seconds(failures, 0.0) == 0.0
    assert backoff.seconds(failures, 0.5) == backoff.cap_seconds(failures) / 2
