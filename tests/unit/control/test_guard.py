from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.control.guard import Guard


def run(guard, outcomes):
    """The number of outcomes after which the guard trips, None if it never does."""
    for number, failed in enumerate(outcomes, 1):
        if failed:
            guard.failed()
        else:
            guard.delivered(1)
        if guard.tripped:
            return number
    return None


def test_a_wrong_mapping_trips_at_the_first_hundred():
    assert run(Guard(None, 0.95), [True] * 500) == 100


def test_a_short_file_of_rubbish_is_finished():
    assert run(Guard(None, 0.95), [True] * 99) is None


def test_five_good_ones_of_a_hundred_do_not_save_it_and_six_do():
    assert run(Guard(None, 0.95), [False] * 5 + [True] * 95) == 100
    assert run(Guard(None, 0.95), [False] * 6 + [True] * 94 + [True] * 100) is None


def test_a_bad_stretch_of_950_in_a_good_file_trips():
    assert run(Guard(None, 0.95), [False] * 5000 + [True] * 2000) == 5950


def test_a_ratio_of_one_is_off():
    assert run(Guard(None, 1), [True] * 3000) is None


def test_max_failures_trips_at_one_more():
    assert run(Guard(3, 1), [True, False, True, True, False, True]) == 6


def test_zero_failures_allowed_trips_at_the_first():
    assert run(Guard(0, 1), [False, True]) == 2


def reference(outcomes, ratio):
    for number in range(1, len(outcomes) + 1):
        window = outcomes[max(0, number - 1000) : number]
        if (
            len(window) in (100, 1000)
            and (number == 100 or outcomes[number - 1])
            and sum(window) >= ratio * len(window)
        ):
            return number
    return None


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 600)), max_size=8),
    st.sampled_from([0.1, 0.5, 0.95]),
)
def test_groups_of_deliveries_count_as_single_ones(runs, ratio):
    outcomes = [failed for failed, count in runs for _ in range(count)]
    assert run(Guard(None, ratio), outcomes) == reference(outcomes, ratio)

    grouped = Guard(None, ratio)
    for failed, count in runs:
        if failed:
            for _ in range(count):
                grouped.failed()
        else:
            grouped.delivered(count)
    assert bool(grouped.tripped) == (reference(outcomes, ratio) is not None)
