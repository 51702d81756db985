"""The operations of a batch on segments, and what is known of each afterwards."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from permutive_worker.control.batches import split_by_key
from permutive_worker.errors import ApiError, InvalidRequestError
from permutive_worker.permutive.arguments import job_of
from permutive_worker.permutive.models import Segment

OPERATIONS_PER_REQUEST: Final = 5_000


class Operation(msgspec.Struct, frozen=True):
    """What all operations have: the code of their segment. Use one of the classes below."""

    code: str


class CreateSegment(Operation, frozen=True, kw_only=True):
    """Create a segment; None is not sent."""

    name: str
    description: str | None = None
    cpm: float | None = None
    categories: Sequence[str] | None = None


class UpdateSegment(Operation, frozen=True, kw_only=True):
    """Change the segment with this code; None is not sent, so it stays."""

    name: str | None = None
    description: str | None = None
    cpm: float | None = None
    categories: Sequence[str] | None = None


class DeleteSegment(Operation, frozen=True):
    """Delete the segment with this code."""


class OperationState(StrEnum):
    """What is known of an operation, and no more."""

    CONFIRMED = "confirmed"  # its request was taken, and the answer holds its segment
    ACCEPTED = "accepted"  # its request was taken; the answer does not mention its segment
    REFUSED = "refused"  # its request was refused; whether parts of it were done, the API does not say
    UNKNOWN = "unknown"  # its request may have been taken: no answer came, or one that does not tell
    NOT_SENT = "not_sent"  # nothing was sent: the call failed before, or an earlier operation on its code did


class OperationResult(msgspec.Struct, frozen=True):
    """What is known of one operation. `segment` is there only if CONFIRMED, `error` if its request failed."""

    index: int
    operation: Operation
    state: OperationState
    segment: Segment | None = None
    error: ApiError | None = None


def requests_of(operations: Sequence[Operation]) -> list[list[int]]:
    """Share operations among requests, by index: at most 5,000 each, never two on one code in one request.

    Operations on one code keep their order over the requests; within one the API promises none.
    """
    return split_by_key([operation.code for operation in operations], OPERATIONS_PER_REQUEST)


def wire_form(import_id: str, operation: Operation) -> dict[str, Any]:
    """The operation as the API takes it.

    Raises:
        InvalidRequestError: as the line that says the same would be refused.
    """
    match operation:
        case CreateSegment():
            data = _body("segment.create", import_id, operation)
            return {"operation": "Create", "data": data}
        case UpdateSegment():
            data = _body("segment.update", import_id, operation)
            return {"operation": "Update", "code": operation.code, "data": data}
        case DeleteSegment():
            _body("segment.delete", import_id, operation)
            return {"operation": "Delete", "code": operation.code}
    raise InvalidRequestError(f"operations: {type(operation).__name__} is none")


def _body(kind: str, import_id: str, operation: Operation) -> msgspec.Raw:
    fields = msgspec.structs.asdict(operation)
    return msgspec.Raw(job_of(kind, import_id=import_id, **fields).body(0))
