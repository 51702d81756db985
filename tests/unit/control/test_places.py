from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.control.places import FIRST, LEAST, SAMPLES, Places


def settle(places, cost_seconds, samples=200, server_seconds=0.0):
    """A loop in which each request in flight costs so much, unless the server is what takes the time."""
    for _ in range(samples):
        in_flight = places.limit
        turn = in_flight * cost_seconds
        places.observe(turn / 2 if turn > server_seconds else 0.0, in_flight)
    return places.limit


def test_a_slow_server_gets_all_the_places():
    assert settle(Places(256), 100e-6, server_seconds=0.2) == 256


def test_a_loop_that_is_the_bottleneck_gets_what_it_can_turn():
    assert 16 <= settle(Places(256), 100e-6) <= 100


def test_places_that_are_not_taken_are_not_added():
    places = Places(256)
    for _ in range(100):
        places.observe(0.0, 10)
    assert places.limit == FIRST


def test_one_late_sample_changes_nothing():
    places = Places(64)
    for lag in [0.0] * SAMPLES + [1.0] + [0.0] * SAMPLES:
        places.observe(lag, 64)
    assert places.limit == 64


def test_a_small_ceiling_is_kept():
    assert settle(Places(3), 1.0) == 3


@given(st.integers(1, 1000), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1000))))
def test_the_limit_stays_between_its_bounds(most, samples):
    places = Places(most)
    for lag, in_flight in samples:
        before = places.limit
        grew = places.observe(lag, in_flight)
        assert min(LEAST, most) <= places.limit <= most
        assert grew == (places.limit > before)
