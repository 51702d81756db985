from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.control.places import FIRST, LEAST, SAMPLES, SPARE, Places

FAST = 1e6  # requests a second: a pace that wants every place


def settle(places, cost_seconds, samples=200, server_seconds=0.0):
    """A loop in which each request in flight costs so much, unless the server is what takes the time."""
    for _ in range(samples):
        in_flight = places.limit
        turn = in_flight * cost_seconds
        lag = turn / 2 if turn > server_seconds else 0.0
        places.heard = True
        places.look(lag, in_flight, FAST, 0.01)
    return places.limit


def look(places, *, in_flight=None, pace=400.0, latency=0.02, times=1, lag=0.0):
    for _ in range(times):
        places.heard = True
        places.look(lag, places.limit if in_flight is None else in_flight, pace, latency)
    return places.limit


def hang(places, sent_at, now, count):
    for _ in range(count):
        places.timed_out(sent_at, now)


def test_a_slow_server_gets_all_the_places():
    assert settle(Places(256), 100e-6, server_seconds=0.2) == 256


def test_a_loop_that_is_the_bottleneck_gets_what_it_can_turn():
    assert 16 <= settle(Places(256), 100e-6) <= 100


def busy(places, share, times=100):
    for _ in range(times):
        places.heard = True
        places.look(0.0, places.limit, FAST, 0.01, share)
    return places.limit


def test_a_loop_that_never_waits_gets_no_more_places_than_keep_it_busy():
    assert busy(Places(256), 1.0) == LEAST
    assert busy(Places(256), 0.96) == FIRST


def test_a_loop_that_waits_gets_them_back():
    places = Places(256)
    busy(places, 1.0)
    assert busy(places, 0.5) == 256


def test_before_any_answer_there_are_enough_places_to_find_out():
    places = Places(256)
    places.look(0.0, 5, 500.0, 0.0)
    assert places.limit == FIRST


def test_places_are_what_the_pace_can_use_twice_and_four():
    places = Places(256)
    assert look(places, in_flight=8, times=10) == SPARE + 2 * 8


def test_latency_that_grows_tenfold_is_followed():
    places = Places(256)
    look(places, in_flight=8, times=10)
    assert look(places, latency=0.2, times=20) >= 2 * 400 * 0.2


def test_places_that_are_not_taken_are_not_added():
    places = Places(256)
    look(places, in_flight=10, pace=FAST, times=100)
    assert places.limit == FIRST


def test_a_few_hung_attempts_do_not_hold_the_places_the_others_need():
    places = Places(256)
    assert look(places, times=40) > 40


def test_without_answers_places_that_are_all_taken_are_not_added_to():
    places = Places(256)
    look(places, in_flight=8, times=10)
    before = places.limit
    for _ in range(100):
        places.look(0.0, places.limit, 400.0, 0.02)
    assert places.limit == before


def test_halves_once_for_all_that_hung_together():
    places = Places(256)
    hang(places, 0.0, 10.0, 32)
    assert places.limit == FIRST // 2


def test_halves_again_for_what_was_sent_after_and_is_back_within_a_second_of_answers():
    places = Places(256)
    hang(places, 0.0, 10.0, 32)
    hang(places, 10.1, 20.0, 16)
    assert places.limit == FIRST // 4
    assert look(places, pace=FAST, times=20) >= FIRST


def test_a_timeout_in_fifty_halves_nothing():
    places = Places(256)
    for number in range(1000):
        if number % 50:
            places.answered()
        else:
            places.timed_out(number, number + 10.0)
        assert places.limit == FIRST


def test_one_late_sample_changes_nothing():
    places = Places(64)
    for lag in [0.0] * SAMPLES + [1.0] + [0.0] * SAMPLES:
        places.heard = True
        places.look(lag, 64, FAST, 0.01)
    assert places.limit == 64


def test_a_small_ceiling_is_kept():
    assert settle(Places(3), 1.0) == 3


@given(
    st.integers(1, 1000),
    st.lists(
        st.tuples(
            st.sampled_from(["look", "late", "answered"]),
            st.floats(0, 1),
            st.integers(0, 1000),
            st.floats(0, 1e5),
            st.floats(0, 10),
        )
    ),
)
def test_the_limit_stays_between_its_bounds(most, steps):
    places = Places(most)
    for now, (what, lag, in_flight, pace, latency) in enumerate(steps):
        before = places.limit
        match what:
            case "look":
                assert places.look(lag, in_flight, pace, latency) == (places.limit > before)
            case "late":
                places.timed_out(now - 10 * lag, now)
            case "answered":
                places.heard = True
                places.answered()
        assert 1 <= places.limit <= most
