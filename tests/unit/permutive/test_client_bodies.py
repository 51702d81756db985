"""What is sent, field by field, against the examples of Permutive's documents."""

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from support.jump_loop import run_jumping
from support.scripted_api import answered, scripted

from permutive_worker.permutive import Alias, CreateSegment, DeleteSegment, Event, UpdateSegment

USER = "2008c38f-dece-4570-976d-87593ed001c3"
COHORT = {"id": "38470a62-9837-4c86-bbf3-45dd6d52dd83", "name": "VIP"}
IMPORT = "32f8e031-0a6c-4fd3-a25b-d6a3b6f5d5a0"
SEGMENT = {
    "id": "1b890475-0a6c-4fd3-a25b-d6a3b6f5d5a0",
    "code": "1234",
    "name": "segment",
    "import_id": IMPORT,
}
SHA = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
QUERY = {"event": "Pageview", "frequency": {"greater_than_or_equal_to": 2}, "x": [True, None]}
EVENT = Event("Pageview", "2025-07-01T15:39:11.594Z", {"campaign_id": "3747123491"})
WIRE_EVENT = {
    "name": "Pageview",
    "time": "2025-07-01T15:39:11.594Z",
    "properties": {"campaign_id": "3747123491"},
}
SEGMENTS = f"/audience-api/v1/imports/{IMPORT}/segments"
COHORTS = "/cohorts-api/v2/cohorts"
CCS = "/ccs/v1/segmentation?activations=false&synchronous-validation=false"

CALLS = {
    "identify": (
        lambda p: p.identify(
            USER, aliases=[Alias(SHA, "email_sha256", 0), Alias("1234567890", "appnexus", 1)]
        ),
        "POST /v2.0/identify",
        {
            "user_id": USER,
            "aliases": [
                {"id": SHA, "tag": "email_sha256", "priority": 0},
                {"id": "1234567890", "tag": "appnexus", "priority": 1},
            ],
        },
    ),
    "identify without priorities": (
        lambda p: p.users.identify(USER, [Alias("a", "t"), Alias("b", "t")]),
        "POST /v2.0/identify",
        {"user_id": USER, "aliases": [{"id": i, "tag": "t", "priority": n} for n, i in enumerate("ab")]},
    ),
    "create a user": (lambda p: p.users.create(), "POST /v2.0/users", None),
    "aliases of a user": (lambda p: p.users.aliases(USER), f"GET /v2.0/users/{USER}/aliases", None),
    "segmentation": (
        lambda p: p.segment(USER, events=[EVENT]),
        f"POST {CCS}",
        {"events": [WIRE_EVENT], "user_id": USER},
    ),
    "segmentation with all flags": (
        lambda p: p.segment(USER, events=[EVENT], activations=True, synchronous_validation=True),
        "POST /ccs/v1/segmentation?activations=true&synchronous-validation=true",
        {"events": [WIRE_EVENT], "user_id": USER},
    ),
    "segmentation by alias": (
        lambda p: p.segment(alias=Alias("a", "t"), events=[EVENT]),
        f"POST {CCS}",
        {"events": [WIRE_EVENT], "alias": {"id": "a", "tag": "t"}},
    ),
    "segmentation by aliases": (
        lambda p: p.segment(aliases=[Alias("a", "t", 3)], events=[EVENT]),
        f"POST {CCS}",
        {"events": [WIRE_EVENT], "aliases": [{"id": "a", "tag": "t", "priority": 3}]},
    ),
    "events keep their types": (
        lambda p: p.segment(
            USER,
            events=[
                Event(
                    "A",
                    datetime(2025, 7, 1, 15, 39, 11, 594_000, tzinfo=UTC),
                    {"yes": True, "none": None, "deep": [{"no": False}]},
                    session_id=UUID(int=1),
                )
            ],
        ),
        f"POST {CCS}",
        {
            "events": [
                {
                    "name": "A",
                    "time": "2025-07-01T15:39:11.594000Z",
                    "properties": {"yes": True, "none": None, "deep": [{"no": False}]},
                    "session_id": str(UUID(int=1)),
                }
            ],
            "user_id": USER,
        },
    ),
    "stateless": (
        lambda p: p.segmentation.stateless(USER, events=[EVENT], state={"cohorts": ["1"]}),
        "POST /ccs/v1/segmentation/stateless?synchronous-validation=false",
        {"events": [WIRE_EVENT], "user_id": USER, "state": {"cohorts": ["1"]}},
    ),
    "event": (
        lambda p: p.events.send(
            "Pageview",
            user_id=USER,
            view_id="a55a9c8b-4a0b-4fe7-99a9-170624850501",
            session_id="1d145310-1338-4ff7-96dd-e6128f54cbe5",
            properties={"my_string": "hello", "my_boolean": True},
        ),
        "POST /v2.0/events?enrich=false&sdkp=false",
        {
            "name": "Pageview",
            "user_id": USER,
            "view_id": "a55a9c8b-4a0b-4fe7-99a9-170624850501",
            "session_id": "1d145310-1338-4ff7-96dd-e6128f54cbe5",
            "properties": {"my_string": "hello", "my_boolean": True},
        },
    ),
    "event with all there is": (
        lambda p: p.events.send("A", aliases=[Alias("a", "t")], segments=[1], cohorts=["2"], enrich=True),
        "POST /v2.0/events?enrich=true&sdkp=false",
        {"name": "A", "aliases": [{"id": "a", "tag": "t", "priority": 0}], "segments": [1], "cohorts": ["2"]},
    ),
    "context": (
        lambda p: p.context.segment("https://example.com/", {"title": "T"}),
        "POST /ctx/v1/segment",
        {"url": "https://example.com/", "page_properties": {"title": "T"}},
    ),
    "list cohorts": (
        lambda p: p.cohorts.list(include_child_workspaces=True).collect(),
        f"GET {COHORTS}?include-child-workspaces=true",
        None,
    ),
    "create a cohort": (
        lambda p: p.cohorts.create(name="VIP", query=QUERY, tags=["tag_a"]),
        f"POST {COHORTS}",
        {"name": "VIP", "query": QUERY, "tags": ["tag_a"]},
    ),
    "create a cohort with all there is": (
        lambda p: p.cohorts.create(
            name="VIP", query={}, id="i", description="", tags=[], segment_type="real_time"
        ),
        f"POST {COHORTS}",
        {"name": "VIP", "query": {}, "id": "i", "tags": [], "description": "", "segment_type": "real_time"},
    ),
    "update a cohort": (
        lambda p: p.cohorts.update(COHORT["id"], name="VIP", query=QUERY, state="Disabled"),
        f"PATCH {COHORTS}/{COHORT['id']}",
        {"name": "VIP", "query": QUERY, "state": "Disabled"},
    ),
    "delete a description": (
        lambda p: p.cohorts.update("a/b ?", description=None),
        f"PATCH {COHORTS}/a%2Fb%20%3F",
        {"description": None},
    ),
    "delete a cohort": (lambda p: p.cohorts.delete("i"), f"DELETE {COHORTS}/i", None),
    "get an import": (lambda p: p.imports.get(IMPORT), f"GET /audience-api/v1/imports/{IMPORT}", None),
    "get a segment": (lambda p: p.segments.get(IMPORT, "i"), f"GET {SEGMENTS}/i", None),
    "get a segment by code": (
        lambda p: p.segments.get_by_code(IMPORT, "a/b"),
        f"GET {SEGMENTS}/code/a%2Fb",
        None,
    ),
    "create a segment": (
        lambda p: p.segments.create(
            IMPORT, code="1234", name="segment", description="d", cpm=2.0, categories=["category1"]
        ),
        f"POST {SEGMENTS}",
        {"code": "1234", "name": "segment", "description": "d", "cpm": 2.0, "categories": ["category1"]},
    ),
    "create a segment without a price": (
        lambda p: p.segments.create(IMPORT, code="1234", name="segment"),
        f"POST {SEGMENTS}",
        {"code": "1234", "name": "segment"},
    ),
    "update a segment": (
        lambda p: p.segments.update(IMPORT, "i", name="renamed"),
        f"PATCH {SEGMENTS}/i",
        {"name": "renamed"},
    ),
    "update a segment by code": (
        lambda p: p.segments.update_by_code(IMPORT, "1234", cpm=0),
        f"PATCH {SEGMENTS}/code/1234",
        {"cpm": 0},
    ),
    "delete a segment": (lambda p: p.segments.delete(IMPORT, "i"), f"DELETE {SEGMENTS}/i", None),
    "delete a segment by code": (
        lambda p: p.segments.delete_by_code(IMPORT, "1234"),
        f"DELETE {SEGMENTS}/code/1234",
        None,
    ),
    "a batch": (
        lambda p: p.segments.batch(
            IMPORT,
            [
                CreateSegment(code="1", name="n"),
                UpdateSegment(code="1234", name="m", cpm=1),
                DeleteSegment("12345"),
            ],
        ),
        f"PATCH {SEGMENTS}",
        {
            "operations": [
                {"operation": "Create", "data": {"code": "1", "name": "n"}},
                {"operation": "Update", "code": "1234", "data": {"name": "m", "cpm": 1}},
                {"operation": "Delete", "code": "12345"},
            ]
        },
    ),
}


def answer_to(request):
    """Something that can be read as the answer to any call."""
    path = request.path.partition("?")[0]
    if path.endswith("/aliases"):
        return answered(200, [])
    if request.method == "GET" and path == COHORTS:
        return answered(200, [])
    if path.startswith(COHORTS):
        return answered(200, COHORT)
    if path.startswith("/audience-api"):
        return answered(200, SEGMENT)
    return answered(200, {"user_id": USER, "id": USER, "cohorts": [], "state": {}})


@pytest.mark.parametrize("name", CALLS)
def test_requests(name):
    call, target, body = CALLS[name]

    async def sent():
        permutive, wire = scripted(answer_to)
        await call(permutive)
        return wire.requests

    (request,) = run_jumping(sent())
    assert f"{request.method} {request.path}" == target
    assert (json.loads(request.body) if request.body else None) == body
    assert request.key_in_query is ("-api/" in request.path)


def test_more_than_ten_events_go_one_request_after_another():
    async def sent():
        permutive, wire = scripted(answer_to)
        await permutive.segment(USER, events=[Event(f"E{number}", EVENT.time) for number in range(23)])
        return [[event["name"] for event in json.loads(one.body)["events"]] for one in wire.requests]

    groups = run_jumping(sent())
    assert [len(group) for group in groups] == [10, 10, 3]
    assert [name for group in groups for name in group] == [f"E{number}" for number in range(23)]


def test_what_was_taken_of_a_long_segmentation_is_told():
    async def failed():
        permutive, _ = scripted(answered(200, {"user_id": USER}), answered(400))
        try:
            await permutive.segment(USER, events=[EVENT] * 23)
        except Exception as error:
            return error.__notes__

    assert run_jumping(failed()) == ["10 events were taken before"]
