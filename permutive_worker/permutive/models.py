"""What the client takes and gives, as values.

What you give is checked as strictly as a line of the worker is. What the API gives is read with patience: a
field that is new, or of another type than published, stays in `raw`; names may be spelled `requestId` or
`request_id`; nothing is made up, so what the API did not send is None.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Self
from uuid import UUID

import msgspec


class Alias(msgspec.Struct, frozen=True):
    """An identifier of a user. `priority` 0 is the highest; None: its place among the others."""

    id: str
    tag: str
    priority: int | None = None


class Event(msgspec.Struct, frozen=True):
    """An event with its time, for segmentation. `time` needs a zone: RFC 3339, or an aware datetime."""

    name: str
    time: str | datetime
    properties: Mapping[str, Any] = {}  # msgspec copies an empty default
    session_id: str | UUID | None = None
    view_id: str | UUID | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What all answers have: `raw`, the object as it came."""

    raw: dict[str, Any] = {}  # msgspec copies an empty default

    @classmethod
    def read(cls, data: Any) -> Self:
        """Return the answer in `data`, which is decoded JSON.

        Raises:
            ValueError: it is no object, or lacks a field that no such answer lacks.
        """
        if not isinstance(data, dict):
            raise ValueError("it is no object")  # noqa: TRY004  (the answer is wrong, not the caller)
        given: dict[str, Any] = {"raw": data}
        for field in msgspec.structs.fields(cls):
            if field.name != "raw":
                _read_field(given, field, data)
        return cls(**given)

    @property
    def extra(self) -> dict[str, Any]:
        """The fields of `raw` that have no attribute here, or could not be read as what it is."""
        known = {name for name in self.__struct_fields__ if name != "raw" and getattr(self, name) is not None}
        return {name: value for name, value in self.raw.items() if _snake(name) not in known}

    def __repr__(self) -> str:
        names = (name for name in self.__struct_fields__ if name != "raw")
        told = (f"{name}={getattr(self, name)!r}" for name in names if getattr(self, name) is not None)
        return f"{type(self).__name__}({', '.join(told)})"


class Cohort(Answer, frozen=True):
    """A cohort. Those of a list have no `query`: the API sends it only with a single one."""

    name: str
    id: str
    code: int | str | None = None  # the API sends an integer
    query: dict[str, Any] | None = None
    tags: list[str] | None = None
    description: str | None = None
    subject_entity_level: str | None = None
    state: str | None = None
    segment_type: str | None = None
    live_audience_size: int | None = None
    created_at: datetime | None = None
    last_updated_at: datetime | None = None
    workspace_id: str | None = None
    request_id: str | None = None
    error: dict[str, Any] | None = None


class Source(Answer, frozen=True):
    """Where an import comes from."""

    id: str | None = None
    state: dict[str, Any] | None = None
    type: str | None = None
    schema_id: str | None = None
    cohorts: list[str] | None = None
    bucket: str | None = None
    permissions: dict[str, Any] | None = None
    phase: str | None = None
    errors: list[Any] | None = None
    advertiser_name: str | None = None
    organization_id: str | None = None
    version: str | None = None


class Import(Answer, frozen=True):
    """A taxonomy of segments that somebody provides."""

    id: str
    name: str
    code: str | int | None = None
    relation: str | None = None
    identifiers: list[str] | None = None
    source: Source | None = None
    description: str | None = None
    inheritance: dict[str, Any] | str | None = None
    segments: dict[str, Any] | list[Any] | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class Segment(Answer, frozen=True):
    """A segment of an import: a label, not who is in it."""

    code: str
    name: str
    import_id: str | None = None
    id: str | None = None
    description: str | None = None
    cpm: float | None = None
    categories: list[str] | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class UserAlias(Answer, frozen=True):
    """An alias the API knows of a user."""

    id: str
    tag: str
    permutive_id: str | None = None


class Membership(Answer, frozen=True):
    """What the API makes of a user's events: the codes of the cohorts, and for whom they are activated."""

    user_id: str
    cohorts: list[str] = []  # msgspec copies an empty default
    activations: dict[str, list[str]] = {}


class StatelessMembership(Answer, frozen=True):
    """The same without memory: give `state` back with the next events."""

    user_id: str
    state: dict[str, Any] | None = None


class TakenEvent(Answer, frozen=True):
    """An event the API took, with the time it stamped. Enriched ones have the rest."""

    user_id: str
    time: datetime | None = None
    name: str | None = None
    view_id: str | None = None
    session_id: str | None = None
    properties: dict[str, Any] | None = None
    segments: list[int] | None = None
    cohorts: list[str] | None = None


class ContextSegments(Answer, frozen=True):
    """The cohorts of a page."""

    cohorts: list[str] = []
    activations: dict[str, list[str]] = {}
    contextual_data: dict[str, Any] | None = None


_CODES: Final = ("cohorts", "activations")  # texts by the schema; an integer is a code all the same


def _read_field(given: dict[str, Any], field: msgspec.structs.FieldInfo, data: Mapping[str, Any]) -> None:
    """Put a field's value into `given` if it is there and of its type."""
    value = data.get(field.name, data.get(_camel(field.name)))
    if field.name == "source" and isinstance(value, dict):
        given["source"] = Source.read(value)
        return
    if field.name in _CODES or field.name == "code":
        value = _codes(value, field.type)
    try:
        if value is not None:
            given[field.name] = msgspec.convert(value, field.type)
            return
    except msgspec.ValidationError:
        pass  # told below, or left in `raw`; msgspec's texts hold the value
    if field.required:
        raise ValueError(f"it has no {field.name}")


def _codes(value: Any, wanted: Any) -> Any:
    """Integer codes as the texts that are published, where only texts are wanted."""
    if isinstance(value, int) and not isinstance(value, bool) and wanted is str:
        return str(value)
    if isinstance(value, list):
        return [str(one) if type(one) is int else one for one in value]
    if isinstance(value, dict):
        return {name: _codes(codes, wanted) for name, codes in value.items()}
    return value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
