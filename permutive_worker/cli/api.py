"""`permutive-worker api`: the Permutive API by hand."""

from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from msgspec import UNSET

from permutive_worker.cli.calls import verb
from permutive_worker.cli.typos import Choice, CommandGroup
from permutive_worker.errors import UsageError
from permutive_worker.permutive.client import PermutiveClient
from permutive_worker.permutive.listing import Listing
from permutive_worker.permutive.models import Alias, Cohort, Event, Import, Membership, Segment, UserAlias

_IMPORT: Final = click.argument("import_id")
_ID: Final = click.option("--id", "segment_id", metavar="ID", help="The segment's id, or else --code.")
_CODE: Final = click.option("--code", metavar="CODE", help="The segment's code, or else --id.")
_NAME: Final = click.option("--name", metavar="TEXT", help="Its name.")
_DESCRIPTION: Final = click.option("--description", metavar="TEXT", help="Its description.")
_CPM: Final = click.option("--cpm", type=float, metavar="N", help="Its price; not sent unless given.")
_CATEGORIES: Final = click.option("--category", "categories", multiple=True, help="Repeatable.")
_TAGS: Final = click.option("--tag", "tags", multiple=True, help="Repeatable.")
_QUERY_HELP: Final = "Its query: JSON, or @ and the path of a file."
_ALIASES: Final = click.option(
    "--alias", "aliases", metavar="TAG=ID", multiple=True, help="Repeatable; the first counts most."
)


@click.group(cls=CommandGroup)
def api() -> None:
    """Call the Permutive API by hand. Answers are NDJSON on stdout; --table makes a table of them."""


@api.group()
def cohorts() -> None:
    """Cohorts of a workspace."""


@verb(cohorts, "list", "cohorts list --table", "cohorts list --child-workspaces | jq .name")
@click.option("--child-workspaces", is_flag=True, help="Those of child workspaces too.")
@click.option("--details", is_flag=True, help="Each with its query: a request for each.")
def list_cohorts(permutive: PermutiveClient, child_workspaces: bool, details: bool) -> Listing[Cohort]:
    """List the cohorts."""
    return permutive.cohorts.list(include_child_workspaces=child_workspaces, include_details=details)


@verb(cohorts, "get", "cohorts get 38470a62-9837-4c86-bbf3-45dd6d52dd83", "cohorts get --name VIP")
@click.argument("cohort_id", required=False)
@click.option("--name", metavar="TEXT", help="Look for its name instead.")
@click.option("--code", metavar="CODE", help="Look for its code instead.")
async def get_cohort(
    permutive: PermutiveClient, cohort_id: str | None, name: str | None, code: str | None
) -> Cohort:
    """Show one cohort, with its query."""
    if (cohort_id, name, code).count(None) != 2:
        raise UsageError("Say which cohort with exactly one of COHORT_ID, --name and --code")
    if cohort_id is not None:
        return await permutive.cohorts.get(cohort_id)
    find = permutive.cohorts.get_by_name if name is not None else permutive.cohorts.get_by_code
    found = await find(name or code or "")
    if found is None:
        raise UsageError("There is no such cohort in this workspace and those below it")
    return found


@verb(cohorts, "create", """cohorts create --name VIP --query '{"event": "Pageview"}'""")
@click.option("--name", required=True, metavar="TEXT", help="Its name.")
@click.option("--query", required=True, metavar="JSON|@FILE", help=_QUERY_HELP)
@_DESCRIPTION
@_TAGS
def create_cohort(
    permutive: PermutiveClient, name: str, query: str, description: str | None, tags: tuple[str, ...]
) -> Awaitable[Cohort]:
    """Create a cohort."""
    return permutive.cohorts.create(
        name=name, query=_object(query), description=description, tags=tags or None
    )


@verb(cohorts, "update", "cohorts update 38470a62-9837-4c86-bbf3-45dd6d52dd83 --state Disabled")
@click.argument("cohort_id")
@_NAME
@click.option("--query", metavar="JSON|@FILE", help=_QUERY_HELP)
@_DESCRIPTION
@click.option("--no-description", is_flag=True, help="Delete its description.")
@_TAGS
@click.option("--state", type=Choice(["Enabled", "Disabled"]), help="Whether it is computed.")
def update_cohort(
    permutive: PermutiveClient,
    cohort_id: str,
    name: str | None,
    query: str | None,
    description: str | None,
    no_description: bool,
    tags: tuple[str, ...],
    state: str | None,
) -> Awaitable[Cohort]:
    """Change what is given of a cohort, and leave the rest."""
    return permutive.cohorts.update(
        cohort_id,
        name=name,
        query=None if query is None else _object(query),
        description=None if no_description else UNSET if description is None else description,
        tags=tags or None,
        state=state,
    )


@verb(cohorts, "delete", "cohorts delete 38470a62-9837-4c86-bbf3-45dd6d52dd83")
@click.argument("cohort_id")
def delete_cohort(permutive: PermutiveClient, cohort_id: str) -> Awaitable[None]:
    """Delete a cohort."""
    return permutive.cohorts.delete(cohort_id)


@api.group()
def imports() -> None:
    """Imports: the taxonomies that segments belong to."""


@verb(imports, "list", "imports list --table")
def list_imports(permutive: PermutiveClient) -> Listing[Import]:
    """List the imports."""
    return permutive.imports.list()


@verb(imports, "get", "imports get 32f8e031-0a6c-4fd3-a25b-d6a3b6f5d5a0")
@_IMPORT
def get_import(permutive: PermutiveClient, import_id: str) -> Awaitable[Import]:
    """Show one import."""
    return permutive.imports.get(import_id)


@api.group()
def segments() -> None:
    """Segments of an import: labels, not who is in them."""


@verb(segments, "list", "segments list 32f8e031-0a6c-4fd3-a25b-d6a3b6f5d5a0 > segments.ndjson")
@_IMPORT
def list_segments(permutive: PermutiveClient, import_id: str) -> Listing[Segment]:
    """List the segments of an import, all pages of them."""
    return permutive.segments.list(import_id)


@verb(segments, "get", "segments get 32f8e031-0a6c-4fd3-a25b-d6a3b6f5d5a0 --code 1234")
@_IMPORT
@_ID
@_CODE
def get_segment(
    permutive: PermutiveClient, import_id: str, segment_id: str | None, code: str | None
) -> Awaitable[Segment]:
    """Show one segment."""
    if _by_code(segment_id, code):
        return permutive.segments.get_by_code(import_id, code or "")
    return permutive.segments.get(import_id, segment_id or "")


@verb(
    segments, "create", "segments create 32f8e031-0a6c-4fd3-a25b-d6a3b6f5d5a0 --code 1234 --name Cars --cpm 2"
)
@_IMPORT
@click.option("--code", required=True, metavar="CODE", help="Its code, which can never be changed.")
@click.option("--name", required=True, metavar="TEXT", help="Its name.")
@_DESCRIPTION
@_CPM
@_CATEGORIES
def create_segment(
    permutive: PermutiveClient, import_id: str, code: str, categories: tuple[str, ...], **fields: Any
) -> Awaitable[Segment]:
    """Create a segment."""
    return permutive.segments.create(import_id, code=code, categories=categories or None, **fields)


@verb(segments, "update", "segments update 32f8e031-0a6c-4fd3-a25b-d6a3b6f5d5a0 --code 1234 --name Vans")
@_IMPORT
@_ID
@_CODE
@_NAME
@_DESCRIPTION
@_CPM
@_CATEGORIES
def update_segment(
    permutive: PermutiveClient,
    import_id: str,
    segment_id: str | None,
    code: str | None,
    categories: tuple[str, ...],
    **fields: Any,
) -> Awaitable[Segment]:
    """Change what is given of a segment, and leave the rest."""
    given = {**fields, "categories": categories or None}
    if _by_code(segment_id, code):
        return permutive.segments.update_by_code(import_id, code or "", **given)
    return permutive.segments.update(import_id, segment_id or "", **given)


@verb(segments, "delete", "segments delete 32f8e031-0a6c-4fd3-a25b-d6a3b6f5d5a0 --code 1234")
@_IMPORT
@_ID
@_CODE
def delete_segment(
    permutive: PermutiveClient, import_id: str, segment_id: str | None, code: str | None
) -> Awaitable[Segment | None]:
    """Delete a segment, and show what it was."""
    if _by_code(segment_id, code):
        return permutive.segments.delete_by_code(import_id, code or "")
    return permutive.segments.delete(import_id, segment_id or "")


@api.group()
def users() -> None:
    """Users and their aliases."""


@verb(users, "aliases", "users aliases 2008c38f-dece-4570-976d-87593ed001c3 --table")
@click.argument("user_id")
def aliases_of_user(permutive: PermutiveClient, user_id: str) -> Awaitable[list[UserAlias]]:
    """List the aliases of a user."""
    return permutive.users.aliases(user_id)


@verb(users, "create", "users create")
async def create_user(permutive: PermutiveClient) -> dict[str, str]:
    """Create a user, and show the id."""
    return {"id": await permutive.users.create()}


@verb(api, "identify", "identify 2008c38f-dece-4570-976d-87593ed001c3 --alias appnexus=1234567890")
@click.argument("user_id")
@_ALIASES
async def identify(permutive: PermutiveClient, user_id: str, aliases: tuple[str, ...]) -> dict[str, str]:
    """Say that aliases belong to a user, and show the user they were resolved to."""
    return {"user_id": await permutive.identify(user_id, list(map(_alias, aliases)))}


@verb(
    api,
    "segment",
    "segment 2008c38f-dece-4570-976d-87593ed001c3 --activations --event "
    """'{"name": "Pageview", "time": "2026-01-31T12:00:00Z", "properties": {}}'""",
)
@click.argument("user_id", required=False)
@_ALIASES
@click.option("--event", "events", metavar="JSON|@FILE", multiple=True, required=True, help="Repeatable.")
@click.option("--activations", is_flag=True, help="Show for whom the cohorts are activated.")
@click.option("--synchronous-validation", is_flag=True, help="Validate first; slow.")
def segment(
    permutive: PermutiveClient,
    user_id: str | None,
    aliases: tuple[str, ...],
    events: tuple[str, ...],
    activations: bool,
    synchronous_validation: bool,
) -> Awaitable[Membership]:
    """Send events of a user, and show the cohorts the user is in. Sent twice they count twice."""
    return permutive.segment(
        user_id,
        aliases=list(map(_alias, aliases)) or None,
        events=[_event(text) for text in events],
        activations=activations,
        synchronous_validation=synchronous_validation,
    )


def _by_code(segment_id: str | None, code: str | None) -> bool:
    if (segment_id is None) == (code is None):
        raise UsageError("Say which segment with exactly one of --id and --code")
    return code is not None


def _alias(text: str) -> Alias:
    tag, equals, alias_id = text.partition("=")
    if not equals:
        raise UsageError("--alias takes TAG=ID, such as appnexus=1234567890")
    return Alias(alias_id, tag)


def _event(text: str) -> Event:
    try:
        return Event(**_object(text))
    except TypeError as error:  # it names fields, not values
        raise UsageError(f"--event: {error}") from None


def _object(text: str) -> dict[str, Any]:
    """The JSON object in the text, or in the file that @ names."""
    try:
        data = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
        found = msgspec.json.decode(data)
    except OSError as error:
        raise UsageError(f"{text[1:]} cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UsageError('JSON was expected, an object such as {"event": "Pageview"}')
    return found
