"""Answers are read with patience: what is new or strange is kept, and nothing is made up."""

from datetime import UTC, datetime

import pytest
from support.jump_loop import run_jumping
from support.scripted_api import answered, scripted

from permutive_worker.permutive import Cohort, DecodingError, Import, Membership, Segment, UserAlias

FULL = {
    "id": "38470a62-9837-4c86-bbf3-45dd6d52dd83",
    "code": 12345,
    "name": "VIP",
    "query": {"a": True},
    "tags": ["tag_a"],
    "state": "Enabled",
    "segment_type": "real_time",
    "created_at": "2022-09-22T15:44:29.518935935Z",
    "last_updated_at": "2022-09-22T15:44:29.518937018Z",
}


def test_a_cohort():
    cohort = Cohort.read(FULL)

    assert (cohort.code, cohort.query, cohort.tags) == (12345, {"a": True}, ["tag_a"])
    assert cohort.created_at == datetime(2022, 9, 22, 15, 44, 29, 518936, tzinfo=UTC)
    assert cohort.raw["created_at"].endswith("518935935Z")
    assert (cohort.live_audience_size, cohort.workspace_id, cohort.extra) == (None, None, {})


def test_unknown_fields_are_kept():
    cohort = Cohort.read({**FULL, "new_thing": [1], "otherThing": {}})

    assert cohort.extra == {"new_thing": [1], "otherThing": {}}


@pytest.mark.parametrize("spelling", ["request_id", "requestId"])
def test_both_spellings_of_a_field_are_read(spelling):
    cohort = Cohort.read({**FULL, spelling: "r"})

    assert cohort.request_id == "r"
    assert cohort.extra == {}


def test_what_is_not_of_its_type_is_left_in_raw():
    cohort = Cohort.read({**FULL, "created_at": "yesterday", "tags": "one", "live_audience_size": None})

    assert (cohort.created_at, cohort.tags, cohort.live_audience_size) == (None, None, None)
    assert cohort.extra == {"created_at": "yesterday", "tags": "one", "live_audience_size": None}


def test_nothing_is_made_up():
    segment = Segment.read({"code": "1", "name": "n"})

    told = {name: getattr(segment, name) for name in segment.__struct_fields__ if name != "raw"}
    assert {name for name, value in told.items() if value is not None} == {"code", "name"}


def test_codes_may_be_numbers():
    assert Segment.read({"code": 1, "name": "n"}).code == "1"
    assert Membership.read({"user_id": "u", "cohorts": [12345]}).cohorts == ["12345"]
    assert Membership.read({"user_id": "u", "activations": {"gam": [1, "2"]}}).activations == {
        "gam": ["1", "2"]
    }
    assert Cohort.read({**FULL, "code": "12345"}).code == "12345"


def test_an_import_and_its_source():
    read = Import.read({"id": "i", "name": "n", "source": {"id": "s", "state": {"type": "active"}, "x": 1}})

    assert read.source is not None
    assert (read.source.id, read.source.state, read.source.extra) == ("s", {"type": "active"}, {"x": 1})


def test_a_repr_shows_what_is_there():
    assert repr(UserAlias.read({"id": "a", "tag": "t", "new": 1})) == "UserAlias(id='a', tag='t')"


PAGES = {
    "bare": (lambda items, token: items, 1),
    "items": (lambda items, token: {"items": items}, 1),
    "elements": (
        lambda items, token: {"elements": items, "pagination": {"next_token": token, "total_count": 5}},
        3,
    ),
    "camelCase": (lambda items, token: {"items": items, "pagination": {"nextToken": token}}, 3),
}


@pytest.mark.parametrize("form", PAGES)
def test_lists_are_read_page_by_page(form):
    make, count = PAGES[form]

    async def listed():
        pages = [
            make([{"code": str(page), "name": "n"}], f"t={page}" if page < 2 else None) for page in range(3)
        ]
        permutive, wire = scripted(*(answered(200, page) for page in pages))
        codes = [segment.code async for segment in permutive.segments.list("m")]
        return codes, [request.path.partition("?")[2] for request in wire.requests]

    codes, queries = run_jumping(listed())
    assert codes == list("012")[:count]
    assert queries == ["", "pagination_token=t%3D0", "pagination_token=t%3D1"][:count]


def test_a_list_that_would_never_end_ends():
    async def listed():
        page = {"elements": [{"code": "1", "name": "n"}], "pagination": {"next_token": "same"}}
        permutive, _ = scripted(answered(200, page))
        listing = permutive.segments.list("m")
        first = await anext(listing)
        with pytest.raises(DecodingError, match="never end"):
            await anext(listing)
        return first.code

    assert run_jumping(listed()) == "1"


def test_a_list_may_be_left_early():
    async def first():
        page = {"elements": [{"code": "1", "name": "n"}] * 9, "pagination": {"next_token": "more"}}
        permutive, wire = scripted(answered(200, page))
        listing = permutive.segments.list("m")
        segment = await anext(listing)
        await listing.aclose()
        return segment.code, len(wire.requests)

    assert run_jumping(first()) == ("1", 1)


def test_collected_lists_can_be_looked_into():
    async def collected():
        cohorts = [{**FULL, "id": str(n), "name": f"c{n}", "tags": ["a", "b"][: n + 1]} for n in range(2)]
        permutive, _ = scripted(answered(200, cohorts))
        return await permutive.cohorts.list().collect()

    cohorts = run_jumping(collected())
    assert cohorts.by("id")["1"].name == "c1"
    assert {tag: len(group) for tag, group in cohorts.grouped_by("tags").items()} == {"a": 2, "b": 1}
    cohorts.append(Cohort(name="new", id="9"))
    assert cohorts.by("name")["new"].id == "9"
    frame = cohorts.to_pandas()
    assert list(frame["name"]) == ["c0", "c1", "new"]
    assert list(frame.columns) == [
        *("name", "id", "code", "query", "tags", "state", "segment_type", "created_at", "last_updated_at")
    ]


def test_details_ask_for_each_cohort():
    async def listed():
        def answer(request):
            return answered(200, [FULL] if request.path.endswith("/cohorts") else {**FULL, "query": {"b": 1}})

        permutive, wire = scripted(answer)
        cohorts = await permutive.cohorts.list(include_details=True).collect()
        return cohorts[0].query, len(wire.requests)

    assert run_jumping(listed()) == ({"b": 1}, 2)
