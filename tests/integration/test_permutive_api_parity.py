"""The PermutiveAPI package itself beside the client: the same calls, and the requests they make.

What differs is listed at each pair, and why in the README ("Coming from PermutiveAPI").
"""

import asyncio
import copy
import json
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from PermutiveAPI import Alias, Cohort, Event, Identity, Import, Segment, Segmentation
from PermutiveAPI import PermutiveAPIError as TheirError
from PermutiveAPI.Audience.Import import ImportList
from PermutiveAPI.Audience.Segment import SegmentList
from PermutiveAPI.Cohort import CohortList
from support.raw_server import raw_server

import permutive_worker.permutive as ours
from permutive_worker.permutive import PermutiveClient

KEY = "f9975143-2d88-46dc-9247-1fb6c790e1cc"
USER = "2008c38f-dece-4570-976d-87593ed001c3"
TIME = "2025-07-01T15:39:11.594Z"
QUERY = {"event": "Pageview", "frequency": {"greater_than_or_equal_to": 2}, "flag": True, "none": None}
COHORT = {"id": "38470a62", "name": "VIP", "code": 12345, "tags": ["a"], "query": QUERY}
SEGMENT = {"id": "1b890475", "code": "1234", "name": "segment", "import_id": "m", "cpm": 2.5}
IMPORT = {
    "id": "m",
    "name": "Provider",
    "code": "provider",
    "relation": "3rd",
    "identifiers": ["appnexus"],
    "source": {"id": "s", "state": {"type": "active"}, "type": "gcs"},
}
EVENTS = [{"name": "Pageview", "time": TIME, "properties": {"n": "1"}}]


def without(*names):
    """Their body without fields, at any depth."""

    def strip(value):
        if isinstance(value, dict):
            return {name: strip(one) for name, one in value.items() if name not in names}
        return [strip(one) for one in value] if isinstance(value, list) else value

    return strip


def same(body):
    return body


def one(answer):
    return [json.dumps(answer).encode()]


def theirs_segment(**given):
    return Segment(code="1234", name="segment", import_id="m", **given)


# name: their call, ours, the answers, and what is left of their body once what we do otherwise is taken away
PAIRS = {
    "identify": (
        lambda: Identity(USER, [Alias("a", "appnexus", 0), Alias("b", "pxid", 1)]).identify(KEY),
        lambda p: p.identify(USER, [ours.Alias("a", "appnexus", 0), ours.Alias("b", "pxid", 1)]),
        one({"user_id": USER}),
        same,
    ),
    "batch_identify": (
        lambda: Identity.batch_identify([Identity(USER, [Alias("ü", "t", 3)])], api_key=KEY),
        lambda p: p.identify(USER, [ours.Alias("ü", "t", 3)]),
        one({"user_id": USER}),
        same,
    ),
    "segmentation": (
        lambda: Segmentation([Event("Pageview", TIME, {"n": "1"})], USER, activations=True).send(KEY),
        lambda p: p.segment(USER, events=[ours.Event("Pageview", TIME, {"n": "1"})], activations=True),
        one({"user_id": USER, "cohorts": []}),
        without("session_id", "view_id"),  # nulls that nobody asked for (W18)
    ),
    "segmentation with ids": (
        lambda: Segmentation([Event("A", TIME, {}, "s", "v")], USER, synchronous_validation=True).send(KEY),
        lambda p: p.segment(USER, events=[ours.Event("A", TIME, {}, "s", "v")], synchronous_validation=True),
        one({"user_id": USER, "cohorts": []}),
        same,
    ),
    "create a cohort": (
        lambda: Cohort(name="VIP", query=QUERY, tags=["a"], description="d").create(KEY),
        lambda p: p.cohorts.create(name="VIP", query=QUERY, tags=["a"], description="d"),
        one(COHORT),
        same,
    ),
    "update a cohort": (
        lambda: Cohort(name="VIP", id="38470a62", query=QUERY).update(KEY),
        lambda p: p.cohorts.update("38470a62", name="VIP", query=QUERY),
        one(COHORT),
        without("id"),  # it stands in the path, and cannot be changed
    ),
    "delete a cohort": (
        lambda: Cohort(name="VIP", id="38470a62").delete(KEY),
        lambda p: p.cohorts.delete("38470a62"),
        [b""],
        same,
    ),
    "get a cohort": (
        lambda: Cohort.get_by_id("38470a62", KEY),
        lambda p: p.cohorts.get("38470a62"),
        one(COHORT),
        same,
    ),
    "list cohorts": (
        lambda: Cohort.list(KEY, include_child_workspaces=True, include_details=True),
        lambda p: p.cohorts.list(include_child_workspaces=True, include_details=True).collect(),
        [*one([COHORT]), *one(COHORT)],
        same,
    ),
    "get a cohort by name": (
        lambda: Cohort.get_by_name("VIP", KEY),
        lambda p: p.cohorts.get_by_name("VIP"),
        [*one([COHORT]), *one(COHORT)],
        same,
    ),
    "get a cohort by code": (
        lambda: Cohort.get_by_code(12345, KEY),
        lambda p: p.cohorts.get_by_code(12345),
        [*one([COHORT]), *one(COHORT)],
        same,
    ),
    "list imports": (
        lambda: Import.list(KEY),
        lambda p: p.imports.list().collect(),
        one({"items": [IMPORT]}),
        same,
    ),
    "get an import": (lambda: Import.get_by_id("m", KEY), lambda p: p.imports.get("m"), one(IMPORT), same),
    "list segments": (
        lambda: Segment.list("m", KEY),
        lambda p: p.segments.list("m").collect(),
        [
            *one({"elements": [SEGMENT], "pagination": {"next_token": "MTIzNA==", "total_count": 2}}),
            *one({"elements": [SEGMENT], "pagination": {"next_token": None, "total_count": 2}}),
        ],
        same,
    ),
    "get a segment": (
        lambda: Segment.get_by_id("m", "1b890475", KEY),
        lambda p: p.segments.get("m", "1b890475"),
        one(SEGMENT),
        same,
    ),
    "get a segment by code": (
        lambda: Segment.get_by_code("m", "1234", KEY),
        lambda p: p.segments.get_by_code("m", "1234"),
        one(SEGMENT),
        same,
    ),
    "create a segment": (
        lambda: theirs_segment(description="d", cpm=2.5, categories=["c"]).create(KEY),
        lambda p: p.segments.create(
            "m", code="1234", name="segment", description="d", cpm=2.5, categories=["c"]
        ),
        one(SEGMENT),
        same,
    ),
    "create a segment without a price": (
        lambda: theirs_segment().create(KEY),
        lambda p: p.segments.create("m", code="1234", name="segment"),
        one(SEGMENT),
        without("cpm"),  # a price of 0 that nobody gave (W34)
    ),
    "update a segment": (
        lambda: theirs_segment(id="1b890475", cpm=2.5).update(KEY),
        lambda p: p.segments.update("m", "1b890475", name="segment", cpm=2.5),
        one(SEGMENT),
        without("code"),  # it can never be changed (W34)
    ),
    "delete a segment": (
        lambda: theirs_segment(id="1b890475").delete(KEY),
        lambda p: p.segments.delete("m", "1b890475"),
        one(SEGMENT),
        same,
    ),
}


def http(body):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def read(raw):
    """Method, path, query and body of a request, without the key and without a slash at the end."""
    head, _, body = raw.partition(b"\r\n\r\n")
    method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
    parts = urlsplit(target)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name != "k"]
    return method, parts.path.rstrip("/"), query, json.loads(body) if body else None


@pytest.fixture
def redirected(monkeypatch):
    """Send what PermutiveAPI sends to another server: its endpoints cannot be set."""
    urls = {}
    send = requests.adapters.HTTPAdapter.send

    def send_there(self, request, **given):
        request.url = urls["to"] + request.path_url
        return send(self, request, **given)

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send_there)
    return urls


@pytest.mark.parametrize("name", PAIRS)
async def test_the_requests_are_the_same(name, redirected):
    their_call, our_call, answers, left = PAIRS[name]

    async with raw_server(*map(http, answers)) as server:
        redirected["to"] = server.url
        await asyncio.to_thread(their_call)
        theirs = list(map(read, server.requests))
    async with raw_server(*map(http, answers)) as server:
        async with PermutiveClient(api_key=KEY, base_url=server.url) as permutive:
            await our_call(permutive)
        own = list(map(read, server.requests))

    assert own == [(method, path, query, left(body)) for method, path, query, body in theirs]
    assert len(own) == len(answers)


TABLES = {
    "cohorts": (
        CohortList,
        ours.Cohort,
        {**COHORT, "created_at": TIME, "last_updated_at": TIME, "state": "Enabled"},
    ),
    "segments": (
        SegmentList,
        ours.Segment,
        {**SEGMENT, "created_at": TIME, "updated_at": TIME, "categories": ["c"]},
    ),
    "imports": (ImportList, ours.Import, {**IMPORT, "created_at": TIME, "updated_at": TIME}),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_columns_are_the_same(name):
    their_list, model, answer = TABLES[name]

    theirs = their_list.from_json([copy.deepcopy(answer)]).to_pd_dataframe()
    own = ours.Collected([model.read(answer)]).to_pandas()

    made_up = {"live_audience_size"} if name == "cohorts" else set()  # theirs says 0 where nothing was sent
    assert [column for column in theirs.columns if column not in made_up] == list(own.columns)
    assert own["name"].tolist() == theirs["name"].tolist()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429, 500])
def test_the_same_except_clauses_catch(status):
    import PermutiveAPI
    from PermutiveAPI._Utils.http import raise_for_status

    from permutive_worker.permutive.meaning import _class_of

    response = requests.Response()
    response.status_code = status
    response.url = "https://api.permutive.app/x"
    with pytest.raises(TheirError) as theirs:
        raise_for_status(requests.HTTPError(), response)

    names = [name for name in PermutiveAPI.__all__ if name.endswith("Error")]
    assert len(names) == 6
    for name in names:
        assert issubclass(_class_of(status), getattr(ours, name)) is isinstance(
            theirs.value, getattr(PermutiveAPI, name)
        ), name
