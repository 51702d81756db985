"""The public API as its users write it. Type-checked by mypy and pyright, never run."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, assert_type

import aiohttp

from permutive_worker import Outcome, Progress, Settings, deliver, stream
from permutive_worker.credentials import Keyring
from permutive_worker.permutive import (
    Alias,
    ApiError,
    AuthenticationError,
    Cohort,
    Collected,
    ContextSegments,
    CreateSegment,
    DeleteSegment,
    Event,
    Import,
    Listing,
    Membership,
    OperationState,
    PermutiveAPIError,
    PermutiveAuthenticationError,
    PermutiveClient,
    PermutiveRateLimitError,
    RateLimitError,
    Segment,
    StatelessMembership,
    TakenEvent,
    UpdateSegment,
    UserAlias,
    Workspace,
)


async def resources(permutive: PermutiveClient) -> None:
    async for segment in permutive.segments.list("import-id"):
        assert_type(segment, Segment)
        assert_type(segment.cpm, float | None)
    assert_type(permutive.cohorts.list(include_details=True), Listing[Cohort])
    cohorts = await permutive.cohorts.list(include_child_workspaces=True).collect()
    assert_type(cohorts, Collected[Cohort])
    assert_type(cohorts[0].created_at, datetime | None)
    assert_type(cohorts.by("code"), dict[Any, Cohort])
    assert_type(await permutive.imports.list().collect(), Collected[Import])
    assert_type(await permutive.cohorts.get("id"), Cohort)
    assert_type(await permutive.cohorts.get_by_name("VIP"), Cohort | None)
    assert_type(await permutive.cohorts.create(name="VIP", query={"event": "Pageview"}, tags=("a",)), Cohort)
    assert_type(await permutive.cohorts.update("id", description=None), Cohort)
    assert_type(await permutive.segments.delete("import-id", "id"), Segment | None)
    operations = [CreateSegment(code="1", name="n"), UpdateSegment(code="2", cpm=1.5), DeleteSegment("3")]
    for result in await permutive.segments.batch("import-id", operations):
        if result.state is OperationState.CONFIRMED and result.segment is not None:
            assert_type(result.segment.name, str)


async def people(permutive: PermutiveClient, user_id: str) -> None:
    assert_type(await permutive.identify(user_id, aliases=[Alias("user@example.com", "email", 0)]), str)
    assert_type(await permutive.users.create(), str)
    assert_type(await permutive.users.aliases(user_id), list[UserAlias])
    events = [Event("Pageview", datetime.now(UTC), {"yes": True}), Event("Other", "2026-01-31T12:00:00Z")]
    assert_type(await permutive.segment(user_id, events=events, activations=True), Membership)
    assert_type(await permutive.segment(alias=Alias("1", "appnexus"), events=events), Membership)
    assert_type(await permutive.segmentation.stateless(user_id, events=events), StatelessMembership)
    assert_type(await permutive.events.send("Pageview", user_id=user_id), TakenEvent)
    assert_type(await permutive.context.segment("https://example.com/"), ContextSegments)


async def construction(session: aiohttp.ClientSession) -> None:
    async with PermutiveClient(
        credentials=Keyring.of_key("key"),
        base_urls={"cohorts": "https://cohorts.example.com"},
        session=session,
        headers={"User-Agent": "mine/1"},
        rate_per_second=50,
    ) as permutive:
        patient = permutive.with_options(timeout=30, max_attempts=5, idempotent=True)
        assert_type(patient.in_workspace("News").workspace, Workspace)
        assert_type([workspace.is_top_level for workspace in permutive.workspaces], list[bool])


async def jobs() -> AsyncIterator[dict[str, object]]:
    yield {"type": "identify", "user_id": "u", "aliases": []}


def told(progress: Progress) -> None:
    print(progress.completed, progress.errors, progress.average_per_thousand_seconds)


async def delivery(permutive: PermutiveClient, settings: Settings) -> None:
    assert_type(await deliver(jobs(), permutive, max_in_flight=8, on_progress=told), list[Outcome])
    await deliver([{"type": "identify"}], settings, client=permutive)
    async for outcome in stream(jobs(), client=permutive):
        assert_type(outcome.delivered, bool)


async def errors(permutive: PermutiveClient) -> None:
    try:
        await permutive.cohorts.delete("id")
    except PermutiveRateLimitError as error:
        assert_type(error, RateLimitError)
        assert_type(error.retry_after, float | None)
    except PermutiveAuthenticationError as error:
        assert_type(error, AuthenticationError)
    except PermutiveAPIError as error:
        assert_type(error, ApiError)
        print(error.status, error.code, error.request_id, error.url, error.attempts)
