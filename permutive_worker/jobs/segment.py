"""`segment.create`, `segment.update`, `segment.delete`: one segment of an import's taxonomy.

These are the labels of segments, not who is in them. A `code` never changes.
Repeating an update or a delete is safe; repeating a create is refused with 409.
Source: Permutive Taxonomy API, /audience-api/v1/imports/{import_id}/segments.
"""

from collections.abc import Hashable
from typing import ClassVar, Final, TypeAlias

import msgspec

from permutive_worker.jobs.line import ENCODER, Line, NonEmpty
from permutive_worker.jobs.path import check_path_part, path_part

IMPORTS_PATH: Final = "/audience-api/v1/imports"


class SegmentCreate(Line, frozen=True, tag="segment.create"):
    """A line of type `segment.create`."""

    kind: ClassVar[str] = "segment.create"
    method: ClassVar[str] = "POST"

    import_id: NonEmpty
    code: NonEmpty
    name: NonEmpty
    description: str | None = None
    cpm: float | None = None
    categories: list[str] | None = None

    def __post_init__(self) -> None:
        check_path_part("import_id", self.import_id)

    def user(self) -> Hashable:
        return "segment", self.import_id, self.code

    def request_count(self) -> int:
        return 1

    def path(self) -> str:
        return segments_path(self.import_id)

    def body(self, part: int) -> bytes:  # noqa: ARG002  (a job of one request)
        return ENCODER.encode(_Body(self.code, self.name, self.description, self.cpm, self.categories))

    def query(self) -> str:
        return ""


class SegmentUpdate(Line, frozen=True, tag="segment.update"):
    """A line of type `segment.update`: the segment with this `code`, or with this `id`. What is absent stays."""

    kind: ClassVar[str] = "segment.update"
    method: ClassVar[str] = "PATCH"

    import_id: NonEmpty
    code: NonEmpty | None = None
    id: NonEmpty | None = None
    name: NonEmpty | None = None
    description: str | None = None
    cpm: float | None = None
    categories: list[str] | None = None

    def __post_init__(self) -> None:
        _check_address(self.import_id, self.code, self.id)
        if (self.name, self.description, self.cpm, self.categories) == (None, None, None, None):
            raise ValueError("name: missing; an update needs name, description, cpm or categories")

    def user(self) -> Hashable:
        return _user(self.import_id, self.code, self.id)

    def request_count(self) -> int:
        return 1

    def path(self) -> str:
        return segment_path(self.import_id, self.code, self.id)

    def body(self, part: int) -> bytes:  # noqa: ARG002  (a job of one request)
        return ENCODER.encode(_Body(None, self.name, self.description, self.cpm, self.categories))

    def query(self) -> str:
        return ""


class SegmentDelete(Line, frozen=True, tag="segment.delete"):
    """A line of type `segment.delete`: the segment with this `code`, or with this `id`."""

    kind: ClassVar[str] = "segment.delete"
    method: ClassVar[str] = "DELETE"

    import_id: NonEmpty
    code: NonEmpty | None = None
    id: NonEmpty | None = None

    def __post_init__(self) -> None:
        _check_address(self.import_id, self.code, self.id)

    def user(self) -> Hashable:
        return _user(self.import_id, self.code, self.id)

    def request_count(self) -> int:
        return 1

    def path(self) -> str:
        return segment_path(self.import_id, self.code, self.id)

    def body(self, part: int) -> bytes:  # noqa: ARG002  (a request without a body)
        return b""

    def query(self) -> str:
        return ""


SegmentJob: TypeAlias = SegmentCreate | SegmentUpdate | SegmentDelete


class _Body(msgspec.Struct, omit_defaults=True, gc=False):
    code: str | None = None
    name: str | None = None
    description: str | None = None
    cpm: float | None = None
    categories: list[str] | None = None


def segments_path(import_id: str) -> str:
    """The path of all the segments of an import."""
    return f"{IMPORTS_PATH}/{path_part(import_id)}/segments"


def segment_path(import_id: str, code: str | None, segment_id: str | None) -> str:
    """The path of one segment: by its code if there is one, else by its id."""
    if code is not None:
        return f"{segments_path(import_id)}/code/{path_part(code)}"
    return f"{segments_path(import_id)}/{path_part(segment_id or '')}"


def _check_address(import_id: str, code: str | None, segment_id: str | None) -> None:
    check_path_part("import_id", import_id)
    if (code is None) == (segment_id is None):
        raise ValueError("code: expected exactly one of code, id")
    check_path_part("code", code)
    check_path_part("id", segment_id)


def _user(import_id: str, code: str | None, segment_id: str | None) -> Hashable:
    """Lines by code keep their order, and so do lines by id; which id has which code is not known here."""
    return ("segment", import_id, code) if code is not None else ("segment", import_id, "id", segment_id)
