"""`segmentation`: events of one user with their times; the answer names the user's cohorts.

Repeating one is not safe: the events are counted twice.
Source: Permutive CCS API, POST /ccs/v1/segmentation; at most 10 events a request.
"""

from collections.abc import Hashable, Sequence
from datetime import datetime
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import Meta

from permutive_worker.jobs.alias import Alias, RankedAlias, SentAlias, first_priority, ranked
from permutive_worker.jobs.line import ENCODER, FIELDS, Line, NonEmpty
from permutive_worker.jobs.properties import check_event_name, check_properties

EVENTS_PER_REQUEST: Final = 10

_TIME: Final = msgspec.json.Decoder(Annotated[datetime, Meta(tz=True)])
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])


class TimedEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """An event inside a segmentation line; also its form on the wire."""

    name: str
    time: msgspec.Raw  # sent as it was written: no digit of a second is lost
    properties: msgspec.Raw
    session_id: str | None = None
    view_id: str | None = None

    def __post_init__(self) -> None:
        check_event_name(self.name)
        _check_time(self.time)
        check_properties(self.properties)


class Segmentation(Line, frozen=True, tag="segmentation"):
    """A line of type `segmentation`. It needs several requests if it holds more than 10 events."""

    kind: ClassVar[str] = "segmentation"

    events: Annotated[list[TimedEvent], Meta(min_length=1)]
    user_id: NonEmpty | None = None
    alias: Alias | None = None
    aliases: Annotated[list[RankedAlias], Meta(min_length=1)] | None = None
    activations: bool | None = None
    synchronous_validation: bool | None = None

    def __post_init__(self) -> None:
        if (self.user_id, self.alias, self.aliases).count(None) != 2:
            raise ValueError("user_id: expected exactly one of user_id, alias, aliases")

    def user(self) -> Hashable:
        if self.user_id is not None:
            return self.user_id
        if self.alias is not None:
            return self.alias.tag, self.alias.id
        return first_priority(self.aliases or ())

    def request_count(self) -> int:
        return -(-len(self.events) // EVENTS_PER_REQUEST)

    def body(self, part: int) -> bytes:
        start = part * EVENTS_PER_REQUEST
        events = self.events[start : start + EVENTS_PER_REQUEST]
        aliases = None if self.aliases is None else ranked(self.aliases)
        return ENCODER.encode(_Body(events, self.user_id, self.alias, aliases))

    def query(self) -> str:
        activations = "true" if self.activations else "false"
        validation = "true" if self.synchronous_validation else "false"
        return f"activations={activations}&synchronous-validation={validation}"


class _Body(msgspec.Struct, omit_defaults=True, gc=False):
    events: Sequence[TimedEvent]
    user_id: str | None = None
    alias: Alias | None = None
    aliases: Sequence[RankedAlias | SentAlias] | None = None


def _check_time(time: msgspec.Raw) -> None:
    try:
        _TIME.decode(time)
    except msgspec.DecodeError:
        raise ValueError("time: expected RFC 3339 with a zone, like 2026-01-31T12:00:00Z") from None


def remaining_events(raw: bytes, delivered_parts: int) -> bytes:
    """Return the line with only the events whose requests were not delivered.

    For the dead letter of a job of which a later part failed: sent again, it repeats nothing.

    Args:
        raw: a line that was decoded as a `Segmentation`.
        delivered_parts: requests delivered, 0 ≤ delivered_parts < request_count().

    Returns:
        The same object in the same order of fields; every value, each event left included, has its bytes.
    """
    fields = FIELDS.decode(raw)
    events = _LIST.decode(fields["events"])
    remaining = events[delivered_parts * EVENTS_PER_REQUEST :]
    fields["events"] = msgspec.Raw(ENCODER.encode(remaining))
    return ENCODER.encode(fields)
