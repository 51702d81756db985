"""`event`: one event of a user, stamped with the time of its arrival.

Repeating one is not safe: the API counts it twice.
Source: Permutive Events API, POST /v2.0/events.
"""

from collections.abc import Hashable, Sequence
from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from permutive_worker.jobs.alias import RankedAlias, SentAlias, first_priority, ranked
from permutive_worker.jobs.line import ENCODER, Line, NonEmpty
from permutive_worker.jobs.properties import check_event_name, check_properties

# One object: omit_defaults knows an absent Raw by its identity.
_ABSENT: Final = msgspec.Raw()
_NULL: Final = msgspec.Raw(b"null")


class Event(Line, frozen=True, tag="event"):
    """A line of type `event`. With user_id and aliases both, the API takes the user_id."""

    kind: ClassVar[str] = "event"

    name: str
    user_id: NonEmpty | None = None
    aliases: Annotated[list[RankedAlias], Meta(min_length=1)] | None = None
    properties: msgspec.Raw = _ABSENT
    view_id: str | None = None
    session_id: str | None = None
    enrich: bool | None = None
    time: Any = None  # here only to be refused with the reason

    def __post_init__(self) -> None:
        check_event_name(self.name)
        if self.user_id is None and self.aliases is None:
            raise ValueError("user_id: missing; an event needs user_id or aliases")
        if self.time is not None:
            raise ValueError("time: not taken here, the API stamps its own; type segmentation takes one")
        if self.properties == _NULL:
            msgspec.structs.force_setattr(self, "properties", _ABSENT)
        elif self.properties is not _ABSENT:
            check_properties(self.properties)

    def user(self) -> Hashable:
        return self.user_id if self.user_id is not None else first_priority(self.aliases or ())

    def request_count(self) -> int:
        return 1

    def body(self, part: int) -> bytes:  # noqa: ARG002  (a job of one request)
        aliases = None if self.aliases is None else ranked(self.aliases)
        return ENCODER.encode(
            _Body(self.name, self.user_id, aliases, self.view_id, self.session_id, self.properties)
        )

    def query(self) -> str:
        """Say that no SDK sends this, and whether to enrich: both default to true at the API."""
        return "enrich=true&sdkp=false" if self.enrich else "enrich=false&sdkp=false"


class _Body(msgspec.Struct, omit_defaults=True, gc=False):
    name: str
    user_id: str | None = None
    aliases: Sequence[RankedAlias | SentAlias] | None = None
    view_id: str | None = None
    session_id: str | None = None
    properties: msgspec.Raw = _ABSENT
