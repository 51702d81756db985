"""What a request may say: one struct for each body, as strict as the published schemas and no stricter.

Required fields and types are checked while decoding; what a schema cannot say is checked by the endpoint.
Unknown fields are ignored: Permutive does not say that it refuses them. Free-form parts stay the bytes that came.
"""

import re
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from permutive_worker.sandbox.answers import MISSING_BODY, Refusal, invalid, malformed

NULL: Final = b"null"

T = TypeVar("T")

Text = Annotated[str, Meta(min_length=1)]
Int32 = Annotated[int, Meta(ge=-(2**31), lt=2**31)]
EventName = Annotated[str, Meta(pattern="^[a-zA-Z0-9_]+$")]
Object = dict[str, Any]

MAX_PROPERTIES_BYTES: Final = (
    950_000  # "950 KB": the narrower reading, so that whoever passes here passes there
)
MAX_EVENTS: Final = 10
MAX_OPERATIONS: Final = 5_000

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class AliasName(Struct):
    """An alias that is looked up."""

    id: Text
    tag: Text


class Alias(Struct):
    """An alias that takes part in resolution; 0 is the highest priority."""

    id: Text
    tag: Text
    priority: Int32


class Identify(Struct):
    user_id: Text
    aliases: list[Alias]


class CcsEvent(Struct):
    name: Text
    time: datetime
    properties: Raw
    view_id: str | None = None
    session_id: str | None = None


class CcsState(Struct):
    """What the stateless twin is given and gives back."""

    internal_state: Any = None
    external_state: Any = None
    cohorts: list[str] | None = None


class Segmentation(Struct):
    events: list[CcsEvent]
    user_id: Text | None = None
    alias: AliasName | None = None
    aliases: list[Alias] | None = None
    state: CcsState | None = None


class Event(Struct):
    name: EventName
    user_id: Text | None = None
    aliases: list[Alias] | None = None
    properties: Raw = Raw(NULL)  # msgspec knows no optional Raw
    view_id: str | None = None
    session_id: str | None = None
    segments: list[int] | None = None
    cohorts: list[str] | None = None


class ContextPage(Struct):
    url: Text
    page_properties: Object | None = None


class NewCohort(Struct):
    name: Text
    query: Object
    id: Text | None = None
    description: str | None = None
    tags: list[str] | None = None
    segment_type: Literal["real_time"] = "real_time"


class CohortChange(Struct):
    """Fields left out stay as they are; a null description deletes it."""

    name: Text | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    query: Object | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    state: Literal["Enabled", "Disabled"] | UnsetType = UNSET


class SegmentChange(Struct):
    """What can be changed; a `code` sent along is ignored, for it never changes."""

    name: Text | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    cpm: float | UnsetType | None = UNSET
    categories: list[str] | UnsetType | None = UNSET


class NewSegment(Struct):
    code: Text
    name: Text
    description: str | None = None
    cpm: float | None = None
    categories: list[str] | None = None


class CreateSegment(Struct, tag_field="operation", tag="Create"):
    data: NewSegment


class UpdateSegment(Struct, tag_field="operation", tag="Update"):
    code: Text
    data: SegmentChange


class DeleteSegment(Struct, tag_field="operation", tag="Delete"):
    code: Text


class SegmentBatch(Struct):
    operations: list[CreateSegment | UpdateSegment | DeleteSegment]


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Read a body.

    Raises:
        Refusal: 400, code 1003 without a body, 1002 if it is not JSON of the right shape.

    """
    if not body:
        raise Refusal(HTTPStatus.BAD_REQUEST, MISSING_BODY, "The request body is missing.")
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(str(error)) from None


def check_properties(properties: Raw) -> None:
    """Refuse properties that are no object (`Raw` does not look) or larger than Permutive takes."""
    content = bytes(properties)
    if not content.startswith(b"{"):
        raise malformed("Expected `object` - at `$.properties`")
    if len(content) > MAX_PROPERTIES_BYTES:
        raise invalid(
            "The event properties are too large.", f"{len(content)} bytes, of which 950 KB are allowed."
        )


def check_uuid(name: str, value: str | None) -> None:
    """Refuse a value that is there and is no UUID."""
    if value is not None and not _UUID.fullmatch(value):
        raise invalid(f"The value of {name} is invalid.", f"{name} must be a UUID.")
