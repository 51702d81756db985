"""Jobs of one user have one order key, whatever their kind."""

import json

import pytest

from permutive_worker.jobs.decode import Decoder, Fault

EVENT = {"name": "A", "time": "2025-07-01T15:39:11Z", "properties": {}}


def user_of(**fields: object) -> object:
    job = Decoder().decode(json.dumps(fields).encode())
    assert not isinstance(job, Fault), job
    return job.user()


def test_a_user_id_is_the_same_user_in_every_kind():
    users = {
        user_of(type="identify", user_id="u", aliases=[{"id": "a", "tag": "t"}]),
        user_of(type="segmentation", user_id="u", events=[EVENT]),
        user_of(type="event", user_id="u", name="A"),
        user_of(type="event", user_id="u", name="A", aliases=[{"id": "a", "tag": "t"}]),
    }

    assert users == {"u"}


def test_an_alias_is_the_same_user_in_every_kind():
    alias = {"id": "a", "tag": "t"}
    users = {
        user_of(type="segmentation", alias=alias, events=[EVENT]),
        user_of(type="segmentation", aliases=[alias], events=[EVENT]),
        user_of(type="event", aliases=[alias], name="A"),
    }

    assert users == {("t", "a")}


@pytest.mark.parametrize(
    ("priorities", "first"),
    [((None, None), "0"), ((1, 0), "1"), ((5, None), "1"), ((None, 0), "0"), ((2, 2), "0"), ((0, -1), "1")],
)
def test_the_lowest_priority_decides_and_the_first_among_equals(priorities, first):
    aliases = [{"id": str(index), "tag": "t", "priority": number} for index, number in enumerate(priorities)]

    assert user_of(type="event", name="A", aliases=aliases) == ("t", first)
