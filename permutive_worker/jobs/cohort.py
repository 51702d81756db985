"""`cohort.create`, `cohort.update`, `cohort.delete`: one cohort of a workspace.

Repeating an update or a delete is safe; repeating a create makes a second cohort, or is refused with 409.
Source: Permutive Cohorts API, /cohorts-api/v2/cohorts.
"""

from collections.abc import Hashable
from typing import ClassVar, Final, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from permutive_worker.jobs.line import ENCODER, Line, NonEmpty
from permutive_worker.jobs.path import check_path_part, path_part
from permutive_worker.jobs.properties import check_object

COHORTS_PATH: Final = "/cohorts-api/v2/cohorts"
STATES: Final = ("Enabled", "Disabled")

# One object: omit_defaults knows an absent Raw by its identity.
_ABSENT: Final = msgspec.Raw()
_NULL: Final = msgspec.Raw(b"null")


class CohortCreate(Line, frozen=True, tag="cohort.create"):
    """A line of type `cohort.create`."""

    kind: ClassVar[str] = "cohort.create"
    method: ClassVar[str] = "POST"

    name: NonEmpty
    definition: msgspec.Raw = msgspec.field(name="query")  # `query` is the query string of a Job
    id: NonEmpty | None = None
    description: str | None = None
    tags: list[str] | None = None
    segment_type: NonEmpty | None = None

    def __post_init__(self) -> None:
        check_object("query", self.definition)

    def user(self) -> Hashable:
        """Return None, no order, if the API is to choose the id."""
        return None if self.id is None else ("cohort", self.id)

    def request_count(self) -> int:
        return 1

    def path(self) -> str:
        return COHORTS_PATH

    def body(self, part: int) -> bytes:  # noqa: ARG002  (a job of one request)
        return ENCODER.encode(
            _Created(self.name, self.definition, self.id, self.tags, self.description, self.segment_type)
        )

    def query(self) -> str:
        return ""


class CohortUpdate(Line, frozen=True, tag="cohort.update"):
    """A line of type `cohort.update`. What is absent stays; `"description": null` deletes it."""

    kind: ClassVar[str] = "cohort.update"
    method: ClassVar[str] = "PATCH"

    id: NonEmpty
    name: NonEmpty | None = None
    definition: msgspec.Raw = msgspec.field(default=_ABSENT, name="query")
    description: str | UnsetType | None = UNSET
    tags: list[str] | None = None
    state: str | None = None

    def __post_init__(self) -> None:
        check_path_part("id", self.id)
        if self.definition == _NULL:
            msgspec.structs.force_setattr(self, "definition", _ABSENT)
        elif self.definition is not _ABSENT:
            check_object("query", self.definition)
        if self.state is not None and self.state not in STATES:
            raise ValueError(f"state: expected {' or '.join(STATES)}")
        given = (self.name, self.tags, self.state)
        if given == (None, None, None) and self.description is UNSET and self.definition is _ABSENT:
            raise ValueError("name: missing; an update needs name, description, query, tags or state")

    def user(self) -> Hashable:
        return "cohort", self.id

    def request_count(self) -> int:
        return 1

    def path(self) -> str:
        return f"{COHORTS_PATH}/{path_part(self.id)}"

    def body(self, part: int) -> bytes:  # noqa: ARG002  (a job of one request)
        return ENCODER.encode(_Change(self.name, self.definition, self.tags, self.description, self.state))

    def query(self) -> str:
        return ""


class CohortDelete(Line, frozen=True, tag="cohort.delete"):
    """A line of type `cohort.delete`."""

    kind: ClassVar[str] = "cohort.delete"
    method: ClassVar[str] = "DELETE"

    id: NonEmpty

    def __post_init__(self) -> None:
        check_path_part("id", self.id)

    def user(self) -> Hashable:
        return "cohort", self.id

    def request_count(self) -> int:
        return 1

    def path(self) -> str:
        return f"{COHORTS_PATH}/{path_part(self.id)}"

    def body(self, part: int) -> bytes:  # noqa: ARG002  (a request without a body)
        return b""

    def query(self) -> str:
        return ""


CohortJob: TypeAlias = CohortCreate | CohortUpdate | CohortDelete


class _Created(msgspec.Struct, omit_defaults=True, gc=False):
    name: str
    query: msgspec.Raw
    id: str | None = None
    tags: list[str] | None = None
    description: str | None = None
    segment_type: str | None = None


class _Change(msgspec.Struct, omit_defaults=True, gc=False):
    name: str | None = None
    query: msgspec.Raw = _ABSENT
    tags: list[str] | None = None
    description: str | UnsetType | None = UNSET
    state: str | None = None
