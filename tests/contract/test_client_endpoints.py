"""Every endpoint of the client against the imitation of the API, over a socket."""

import json
import re
from contextlib import asynccontextmanager

import aiohttp
import pytest
from support.raw_server import OK, hang, raw_server

import permutive_worker
import permutive_worker.permutive as api
from permutive_worker.permutive import (
    Alias,
    CreateSegment,
    DeleteSegment,
    Event,
    OperationState,
    PermutiveClient,
    UpdateSegment,
)
from permutive_worker.sandbox.app import Sandbox
from permutive_worker.sandbox.options import SandboxOptions

KEY = "f9975143-2d88-46dc-9247-1fb6c790e1cc"
TIME = "2025-07-01T15:39:11.594Z"


@asynccontextmanager
async def client(**options):
    async with (
        Sandbox(SandboxOptions(strict_ids=True, **options)) as sandbox,
        PermutiveClient(api_key=KEY, base_url=sandbox.url) as permutive,
    ):
        permutive.sandbox = sandbox
        yield permutive


async def test_users():
    async with client() as permutive:
        user = await permutive.users.create()
        other = await permutive.users.create()

        assert await permutive.identify(user, aliases=[Alias("1", "appnexus"), Alias("2", "pxid")]) == user
        assert await permutive.users.identify(other, [Alias("1", "appnexus", 0)]) == user  # the resolved one
        assert await permutive.users.identify(other, []) == other
        aliases = await permutive.users.aliases(user)

    assert {(alias.tag, alias.id, alias.permutive_id) for alias in aliases} == {
        ("appnexus", "1", user),
        ("pxid", "2", user),
    }


async def test_segmentation():
    async with client() as permutive:
        user = await permutive.users.create()
        events = [Event("Pageview", TIME, {"n": number}) for number in range(23)]

        member = await permutive.segment(user, events=events, activations=True)
        by_alias = await permutive.segment(alias=Alias("1", "appnexus"), events=[Event("Other", TIME)])
        by_aliases = await permutive.segment(aliases=[Alias("1", "appnexus", 0)], events=events[:1])
        stateless = await permutive.segmentation.stateless(
            user, events=events[:1], state={"cohorts": ["77777"]}
        )

        assert permutive.sandbox.summary()["by_endpoint"]["segmentation"] == 5
    assert member.user_id == user
    assert member.activations["gam"] == member.cohorts
    assert len(member.cohorts) == 1
    assert by_alias.user_id == by_aliases.user_id != user
    assert len(by_aliases.cohorts) == 2
    assert set(stateless.state["cohorts"]) == {"77777", *member.cohorts}


async def test_events():
    async with client() as permutive:
        user = await permutive.users.create()

        brief = await permutive.events.send("Pageview", user_id=user, properties={"yes": True})
        rich = await permutive.events.send(
            "Pageview", aliases=[Alias("1", "t")], segments=[1], cohorts=["2"], enrich=True
        )

    assert (brief.user_id, brief.name) == (user, None)
    assert brief.time is not None
    assert (rich.name, rich.cohorts, rich.segments) == ("Pageview", ["2"], [1])


async def test_context():
    async with client() as permutive:
        found = await permutive.context.segment("https://example.com/", {"title": "T"})

    assert len(found.cohorts) == 1
    assert found.contextual_data == {}


async def test_cohorts():
    query = {"event": "Pageview", "frequency": {"greater_than_or_equal_to": 2}}
    async with client() as permutive:
        cohorts = permutive.cohorts
        vip = await cohorts.create(
            name="VIP", query=query, description="d", tags=["a"], segment_type="real_time"
        )

        assert await cohorts.get(vip.id) == vip
        assert await cohorts.get_by_name("VIP") == vip
        assert await cohorts.get_by_code(vip.code) == await cohorts.get_by_code(str(vip.code)) == vip
        assert await cohorts.get_by_name("nobody") is None
        assert len(await cohorts.list().collect()) == 3
        everywhere = await cohorts.list(include_child_workspaces=True, include_details=True).collect()
        assert len(everywhere) == 4
        assert all(cohort.query for cohort in everywhere)

        changed = await cohorts.update(vip.id, name="V", query={}, tags=[], state="Disabled")
        assert (changed.name, changed.query, changed.tags, changed.state) == ("V", {}, [], "Disabled")
        assert changed.description == "d"
        assert (await cohorts.update(vip.id, description=None)).description is None

        with pytest.raises(api.ConflictError):
            await cohorts.create(name="again", query={}, id=vip.id)
        assert await cohorts.delete(vip.id) is None
        with pytest.raises(api.NotFoundError) as failure:
            await cohorts.get(vip.id)

    assert (vip.query, vip.tags, vip.segment_type) == (query, ["a"], "real_time")
    assert failure.value.code == 3000
    assert failure.value.request_id


async def test_imports():
    async with client() as permutive:
        imports = await permutive.imports.list().collect()

        assert await permutive.imports.get(imports[1].id) == imports[1]
        with pytest.raises(api.NotFoundError):
            await permutive.imports.get("nope")

    assert imports[0].source.state == {"type": "active"}
    assert imports[0].inheritance["relation"] == "ancestor"


async def test_segments():
    async with client(page_size=2) as permutive:
        segments = permutive.segments
        home = (await anext(permutive.imports.list())).id

        assert [segment.code async for segment in segments.list(home)] == ["1234", "1235", "1236"]
        cars = await segments.create(
            home, code="a/b c", name="Cars", description="d", cpm=2.5, categories=["x"]
        )
        assert await segments.get(home, cars.id) == await segments.get_by_code(home, "a/b c") == cars
        assert (cars.cpm, cars.categories, cars.import_id) == (2.5, ["x"], home)

        vans = await segments.update(home, cars.id, name="Vans")
        assert (vans.name, vans.cpm) == ("Vans", 2.5)  # the price stays
        assert (await segments.update_by_code(home, "a/b c", cpm=3)).cpm == 3

        deleted = await segments.delete_by_code(home, "a/b c")
        assert deleted is not None
        assert deleted.id == cars.id
        (first, *_) = await segments.list(home).collect()
        await segments.delete(home, first.id)
        assert len(await segments.list(home).collect()) == 2


async def test_batches_of_segments():
    async with client() as permutive:
        home = (await anext(permutive.imports.list())).id
        operations = [
            *(CreateSegment(code=f"c{number}", name="n", cpm=1) for number in range(5001)),
            UpdateSegment(code="c0", name="renamed"),
            DeleteSegment("c1"),
            DeleteSegment("1234"),
        ]

        results = await permutive.segments.batch(home, operations)
        left = await permutive.segments.list(home).collect()

    assert {result.state for result in results} == {OperationState.CONFIRMED}
    assert results[5001].segment.name == "renamed"
    assert {"c0", "c5000", "1235"} <= set(left.by("code"))
    assert not {"c1", "1234"} & set(left.by("code"))
    assert len(left) == 5002


async def test_refusals():
    async with client(
        api_keys=frozenset({"another"}), public_keys=frozenset({"public-key-1234"})
    ) as permutive:
        with pytest.raises(api.AuthenticationError) as refused:
            await permutive.cohorts.list().collect()
        async with PermutiveClient(api_key="public-key-1234", base_url=permutive.base_url) as public:
            with pytest.raises(api.PermissionDeniedError):
                await public.cohorts.list().collect()
            assert await public.users.create()  # a refusal of one thing holds nothing else up

    assert (refused.value.status, refused.value.code) == (401, 2005)


async def test_faults_are_overcome_where_that_is_safe():
    async with client(faults="500=0.2,reset=0.1", seed=3) as permutive:
        patient = permutive.with_options(max_attempts=10)
        user = "2008c38f-dece-4570-976d-87593ed001c3"
        found = [await patient.identify(user, []) for _ in range(8)]

    assert set(found) == {user}


async def test_a_session_of_ones_own_stays_open():
    async with Sandbox() as sandbox, aiohttp.ClientSession() as session:
        headers = {"User-Agent": "mine/1", "X-Trace": "t"}
        async with PermutiveClient(
            api_key=KEY, base_url=sandbox.url, session=session, headers=headers
        ) as permutive:
            await permutive.users.create()

        assert not session.closed


async def test_a_client_closes_what_it_opened_and_can_be_used_again():
    async with Sandbox() as sandbox:
        permutive = PermutiveClient(api_key=KEY, base_url=sandbox.url)
        for _ in range(2):
            assert await permutive.with_options(timeout=2).users.create()
            await permutive.close()
            await permutive.close()


async def test_one_connection_serves_call_after_call():
    async with client() as permutive:
        for _ in range(5):
            await permutive.users.create()
        connections = len(permutive.sandbox._connections)

    assert connections == 1


@pytest.mark.parametrize("resource", ["users", "segmentation"])
async def test_every_call_has_a_timeout(resource):
    async with (
        raw_server(hang) as server,
        PermutiveClient(api_key=KEY, base_url=server.url, timeout=0.05, max_attempts=1) as permutive,
    ):
        with pytest.raises(api.ApiTimeoutError):
            if resource == "users":
                await permutive.identify("u", [])
            else:
                await permutive.segment("u", events=[Event("A", TIME)])


async def test_each_api_may_be_elsewhere():
    async with raw_server(OK) as here, raw_server(OK) as there:
        urls = {"cohorts": f"{there.url}/prefix"}
        async with PermutiveClient(api_key=KEY, base_url=here.url, base_urls=urls) as permutive:
            with pytest.raises(api.DecodingError):
                await permutive.users.create()
            with pytest.raises(api.DecodingError) as failure:
                await permutive.cohorts.get("i")

    assert here.requests[0].startswith(b"POST /v2.0/users HTTP/1.1")
    assert there.requests[0].startswith(f"GET /prefix/cohorts-api/v2/cohorts/i?k={KEY} HTTP/1.1".encode())
    assert failure.value.url == f"{there.url}/prefix/cohorts-api/v2/cohorts/i"


async def test_headers():
    async with (
        raw_server(OK) as server,
        PermutiveClient(api_key=KEY, base_url=server.url, headers={"X-Trace": "t"}) as permutive,
    ):
        with pytest.raises(api.DecodingError):
            await permutive.users.create()

    head = server.requests[0].decode().lower()
    assert f"user-agent: permutive-worker/{permutive_worker.__version__}" in head
    assert "x-trace: t" in head
    assert f"x-api-key: {KEY}" in head


async def test_a_long_answer_is_read_whole():
    cohorts = [{"id": str(number), "name": "n" * 200} for number in range(10_000)]
    body = json.dumps(cohorts).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with (
        raw_server(answer) as server,
        PermutiveClient(api_key=KEY, base_url=server.url) as permutive,
    ):
        assert len(await permutive.cohorts.list().collect()) == 10_000


async def test_a_proxy_is_used():
    async with (
        raw_server(OK) as proxy,
        PermutiveClient(
            api_key=KEY, base_url="http://api.invalid", allow_http=True, proxy=proxy.url
        ) as permutive,
    ):
        with pytest.raises(api.DecodingError):
            await permutive.users.create()

    assert proxy.requests[0].startswith(b"POST http://api.invalid/v2.0/users HTTP/1.1")


async def test_a_key_file_that_is_replaced_is_read_again(tmp_path, monkeypatch):
    file = tmp_path / "key"
    file.write_text("the-first-key-123")
    monkeypatch.setenv("PERMUTIVE_API_KEY_FILE", str(file))
    async with (
        Sandbox(SandboxOptions(api_keys=frozenset({"the-first-key-123"}))) as sandbox,
        PermutiveClient(base_url=sandbox.url) as permutive,
    ):
        assert await permutive.users.create()
        sandbox.imitation.set_keys({"the-second-key-456"})
        file.write_text("the-second-key-456")
        assert await permutive.users.create()


async def test_several_workspaces(tmp_path):
    file = tmp_path / "workspaces.json"
    names = {"Top": "o", "News": "n", "Sport": "s"}
    file.write_text(
        json.dumps(
            [
                {"name": name, "workspace_id": place, "organisation_id": "o", "api_key": f"key-of-{name}-1"}
                for name, place in names.items()
            ]
        )
    )
    async with (
        raw_server(OK) as server,
        PermutiveClient(credentials=file, base_url=server.url) as permutive,
    ):
        for one in (permutive, permutive.in_workspace("News"), permutive.in_workspace("s")):
            with pytest.raises(api.DecodingError):
                await one.users.create()

        assert permutive.workspace == permutive.workspaces.top_level() == permutive.workspaces.get("o")
        assert permutive.workspace.is_top_level
        assert [workspace.name for workspace in permutive.workspaces] == ["Top", "News", "Sport"]
        assert [workspace.name for workspace in permutive.workspaces.children()] == ["News", "Sport"]
        assert set(permutive.gates) == set(names)

    keys = [re.search(rb"X-API-Key: (\S+)", request)[1].decode() for request in server.requests]
    assert keys == ["key-of-Top-1", "key-of-News-1", "key-of-Sport-1"]
