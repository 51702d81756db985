"""The values that travel: from a line of input to a durable outcome.

One `Entry` carries a line from the source to its settlement. These classes hold data and
nothing else; who changes which field is said at the field.
"""

from collections.abc import Hashable, Mapping
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, Protocol

import msgspec

from permutive_worker.control.budget import Budget


class Origin(Protocol):
    """Where a delivery came from; shared by all the deliveries of one input."""

    def position(self, delivery: "Delivery") -> str:
        """A place a person can find: `jobs.ndjson:17`. Built only when someone asks."""
        ...


class Delivery:
    """One line of input and its place.

    Attributes:
        raw: the line without its line end; its first bytes only if it was too large.
        origin: the input it came from.
        place: what the source needs to find it again: byte offset, message id …
        number: counts lines of the input from 1.
        oversize_bytes: the length of the whole line if it was longer than `max_line_bytes`, else 0.
        filtered: the source's filter left it out; it is settled and not delivered.
    """

    __slots__ = ("filtered", "number", "origin", "oversize_bytes", "place", "raw")

    def __init__(
        self, raw: bytes, origin: Origin, place: Any = None, number: int = 0, oversize_bytes: int = 0
    ) -> None:
        self.raw = raw
        self.origin = origin
        self.place = place
        self.number = number
        self.oversize_bytes = oversize_bytes
        self.filtered = False

    @property
    def position(self) -> str:
        return self.origin.position(self)


class Settlement(Enum):
    """What a source is told of a delivery, each exactly once."""

    ACK = "ack"  # never again
    RETRY = "retry"  # it is yours again


class Job(Protocol):
    """What a valid line asks for. The kinds are in `permutive_worker.jobs`."""

    @property
    def kind(self) -> str:
        """The `type` of the line, a metric label."""
        ...

    @property
    def job_id(self) -> str | int | None: ...

    @property
    def workspace(self) -> str | None:
        """A name or workspace_id of the credentials; None: the default one."""
        ...

    def user(self) -> Hashable:
        """Jobs with an equal value leave in input order; None: no order is kept."""
        ...

    def request_count(self) -> int:
        """How many requests the job needs, ≥ 1."""
        ...

    def body(self, part: int) -> bytes:
        """The JSON body of request `part`, 0 ≤ part < request_count()."""
        ...

    def query(self) -> str:
        """The query string of its requests without `?`; may be empty."""
        ...


class Request:
    """One HTTP request of one job; host and key are the wire's."""

    __slots__ = ("body", "key_in_query", "kind", "method", "path")

    def __init__(self, method: str, path: str, body: bytes, kind: str, *, key_in_query: bool = False) -> None:
        self.method = method
        self.path = path  # with its query, percent-encoded
        self.body = body
        self.kind = kind
        self.key_in_query = key_in_query  # cohorts and taxonomy take the key only as `k=`


class Response:
    """The answer to one attempt. `body` is at most 256 KiB; `truncated` if more was sent or it broke off."""

    __slots__ = ("body", "headers", "status", "truncated")

    def __init__(
        self, status: int, headers: Mapping[str, str], body: bytes, *, truncated: bool = False
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.truncated = truncated


class Action(Enum):
    """What an answer means for a job."""

    DELIVERED = "delivered"
    RETRY = "retry"  # counts as an attempt
    THROTTLED = "throttled"  # does not count; the lane slows down
    REJECT = "reject"  # never again
    HALT = "halt"  # the key, the host or the path is refused: no fault of the job


class ErrorDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a job failed, as it stands in a dead letter. Scrubbed of every known key."""

    type: str
    message: str
    code: int | None = None
    request_id: str | None = None


class Verdict:
    """What one answer, or its absence, means.

    Attributes:
        action: see `Action`.
        why: for retries a metric label (throttled, server_error, timeout, connection), else a word for logs.
        retry_after_seconds: the server's hint, None if it gave none.
        ambiguous: the API may have taken the request although it did not say so.
        status: of the answer, 0 if there was none.
        error: what to say in the dead letter; None for DELIVERED.
    """

    __slots__ = ("action", "ambiguous", "error", "retry_after_seconds", "status", "why")

    def __init__(
        self,
        action: Action,
        why: str,
        *,
        status: int = 0,
        retry_after_seconds: float | None = None,
        ambiguous: bool = False,
        error: ErrorDetail | None = None,
    ) -> None:
        self.action = action
        self.why = why
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.ambiguous = ambiguous
        self.error = error


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt that did not deliver, as it stands in a dead letter."""

    at: datetime
    elapsed_seconds: float
    status: int | None = None
    error: str | None = None  # a transport kind, when there was no status


class Reason(StrEnum):
    """Why a line became a dead letter; a metric label."""

    MALFORMED = "malformed"  # no JSON object in UTF-8
    INVALID = "invalid"  # a JSON object, but not a job
    TOO_LARGE = "too_large"  # longer than input.max_line_bytes
    REJECTED = "rejected"  # the API will never take it
    EXHAUSTED = "exhausted"  # delivery.max_attempts failed
    EXPIRED = "expired"  # delivery.max_age_seconds passed
    AMBIGUOUS = "ambiguous"  # it may have been taken, and delivery.ambiguous says not to repeat
    INTERNAL = "internal"  # a bug of ours on this one job


class End(Enum):
    """Where a line ended: exactly one of these, or it is still pending."""

    DELIVERED = "delivered"
    DEAD_LETTERED = "dead_lettered"
    SKIPPED = "skipped"
    RETURNED = "returned"


class Entry:
    """One line on its way from the source to its settlement.

    Written by intake: delivery, job, kind, user, charge_bytes, budget, read_at, workspace.
    Written by senders: attempts, failures, part, trail, response, sent_at; and `end`, `reason`,
    `error` once, with which the entry passes to the settler.
    """

    __slots__ = (
        "attempts",
        "budget",
        "charge_bytes",
        "delivery",
        "end",
        "error",
        "failures",
        "job",
        "kind",
        "part",
        "read_at",
        "reason",
        "response",
        "sent_at",
        "trail",
        "user",
        "workspace",
    )

    def __init__(self, delivery: Delivery, job: Job | None, read_at: float, charge_bytes: int) -> None:
        self.delivery = delivery
        self.job = job  # None: the line is no job, and `reason` says why
        self.kind = job.kind if job is not None else ""
        self.user: Hashable = job.user() if job is not None else None
        self.read_at = read_at  # monotonic seconds
        self.charge_bytes = charge_bytes  # what it takes …
        self.budget: Budget | None = None  # … of this, once it is taken in
        self.workspace = ""
        self.attempts = 0  # requests sent for it, all of them
        self.failures = 0  # those that count against max_attempts
        self.part = 0  # requests already delivered
        self.sent_at = 0.0  # monotonic seconds of the attempt under way
        self.trail: list[Attempt] | None = None  # first and last five that failed
        self.response: Response | None = None
        self.end: End | None = None
        self.reason: Reason | None = None  # of a dead letter
        self.error: ErrorDetail | None = None


class Progress(msgspec.Struct, frozen=True):
    """How far a run is, with the meanings the PermutiveAPI package gave these names.

    `completed` counts delivered, dead-lettered and skipped lines; `errors` the dead-lettered ones.
    `total` is an estimate until the input was read to its end, None where it cannot be known.
    """

    completed: int
    total: int | None
    errors: int
    elapsed_seconds: float
    average_per_thousand_seconds: float


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one job, for those who embed the worker. Failures are values.

    Attributes:
        index: of the job in the input, from 0.
        end: "delivered", "dead_lettered" or "returned".
        response: the last answer's JSON, None if there was none.
        reason: of a dead letter, see `Reason`.
    """

    index: int
    end: str
    type: str = ""
    job_id: str | int | None = None
    status: int = 0
    attempts: int = 0
    response: Any = None
    reason: str | None = None
    error: ErrorDetail | None = None

    @property
    def delivered(self) -> bool:
        return self.end == End.DELIVERED.value


class Summary(msgspec.Struct, frozen=True):
    """What a run did. `read = delivered + dead_lettered + skipped + returned` once it has ended."""

    run_id: str
    read: int
    delivered: int
    dead_lettered: int
    skipped: int
    returned: int
    requests: int
    retries: int
    throttled: int
    ambiguous: int
    elapsed_seconds: float
    average_per_thousand_seconds: float
    exit_code: int
