"""However operations are shared among requests: nothing lost, nothing twice, order by code."""

from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.control.batches import split_by_key


@given(st.lists(st.sampled_from("abcdef"), max_size=60), st.integers(1, 7))
def test_split(keys, most):
    groups = split_by_key(keys, most)

    assert sorted(index for group in groups for index in group) == list(range(len(keys)))
    place = {index: number for number, group in enumerate(groups) for index in group}
    for group in groups:
        assert 1 <= len(group) <= most
        assert len({keys[index] for index in group}) == len(group)
        assert group == sorted(group)
    for key in set(keys):
        places = [place[index] for index, one in enumerate(keys) if one == key]
        assert places == sorted(set(places))


@given(st.integers(0, 40), st.integers(1, 7))
def test_different_keys_need_no_more_requests_than_they_must(count, most):
    assert len(split_by_key(range(count), most)) == -(-count // most)
