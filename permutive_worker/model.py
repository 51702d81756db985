"""The values that travel: from a line of input to a durable outcome.

One `Entry` carries a line from the source to its settlement. These classes hold data and
nothing else; who changes which field is said at the field.
"""

import math
from collections.abc import Hashable, Mapping
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, Protocol

import msgspec

from permutive_worker.control.budget import Budget
from permutive_worker.control.halt import Halt


class Origin(Protocol):
    """Where a delivery came from; shared by all the deliveries of one input."""

    def position(self, delivery: "Delivery") -> str:
        """A place a person can find: `jobs.ndjson:17`. Built only when someone asks."""
        ...


class Delivery(msgspec.Struct, eq=False, gc=False):
    """One line of input and its place.

    Attributes:
        raw: the line without its line end; its first bytes only if it was too large.
        origin: the input it came from.
        place: what the source needs to find it again: byte offset, message id …
        number: counts lines of the input from 1.
        oversize_bytes: the length of the whole line if it was longer than `max_line_bytes`, else 0.
        filtered: the source's filter left it out; it is settled and not delivered.
        delivered_parts: requests of its job that were delivered before it was given back; a source that
            remembers them gives the line so to the next run, which does not repeat them.
        age_seconds: how long it had waited in its queue when it was received; it counts against `max_age`.
    """

    raw: bytes
    origin: Origin
    place: Any = None
    number: int = 0
    oversize_bytes: int = 0
    filtered: bool = False
    delivered_parts: int = 0
    age_seconds: float = 0.0

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


class Request(msgspec.Struct, eq=False, gc=False):
    """One HTTP request of one job; host and key are the wire's.

    Attributes:
        path: with its query, percent-encoded.
        kind: of the job, a metric label.
        key_in_query: cohorts and taxonomy take the key only as `k=`.
    """

    method: str
    path: str
    body: bytes
    kind: str
    key_in_query: bool = False


class Response(msgspec.Struct, eq=False, gc=False):
    """The answer to one attempt. `body` is at most 256 KiB; `truncated` if more was sent or it broke off."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool = False


class Action(Enum):
    """What an answer means for a job."""

    DELIVERED = "delivered"
    RETRY = "retry"  # counts as an attempt
    THROTTLED = "throttled"  # does not count; the lane slows down
    REJECT = "reject"  # never again
    HALT = "halt"  # the key, the host or the path is refused: no fault of the job


class ErrorDetail(msgspec.Struct, frozen=True):
    """Why a job failed, as it stands in a dead letter. Scrubbed of every known key."""

    type: str
    message: str
    code: int | None = None
    request_id: str | None = None


class Verdict(msgspec.Struct, frozen=True, eq=False):
    """What one answer, or its absence, means.

    Attributes:
        action: see `Action`.
        why: for retries a metric label (throttled, server_error, timeout, connection), else a word for logs.
        status: of the answer, 0 if there was none.
        retry_after_seconds: the server's hint, None if it gave none.
        ambiguous: the API may have taken the request although it did not say so.
        of_kind: for HALT: only jobs of this kind are refused, not the key.
        error: what to say in the dead letter; None for DELIVERED.
    """

    action: Action
    why: str
    status: int = 0
    retry_after_seconds: float | None = None
    ambiguous: bool = False
    error: ErrorDetail | None = None
    of_kind: bool = False


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


class Entry(msgspec.Struct, eq=False, gc=False):
    """One line on its way from the source to its settlement.

    A Struct that the garbage collector need not look at: it is in no cycle, and there are many.

    Attributes:
        job: None if the line is no job, and then `reason` says why.
        kind, user: of the job; "" and None without one.
        read_at: monotonic seconds; of a queue, when it was put there.
        charge_bytes, budget: what it takes of which byte budget, once it is taken in.
        workspace: its lane's; "" before it has one.
        attempts: requests sent for it, all of them.
        failures: those that count against `max_attempts`.
        part: requests already delivered.
        sent_at: monotonic seconds of the attempt under way.
        probe: the halt that this attempt is to open, None if it is an ordinary one.
        refused_at: monotonic seconds of the last time its kind was refused on it; inf: never.
        trail: first and last five attempts that failed, as small as can be: many jobs may wait
            (posix seconds, elapsed seconds, and the status or the kind of transport error).
        response: the last answer.
        returned_why: of a line that ended as returned: halt, pause; else it is the stop's reason.
        end, reason, error: written once, with which the entry passes to the settler.

    Intake writes it up to `workspace`, then senders do.
    """

    delivery: Delivery
    job: Job | None
    kind: str
    user: Hashable
    read_at: float
    charge_bytes: int
    budget: Budget | None = None
    workspace: str = ""
    attempts: int = 0
    failures: int = 0
    part: int = 0
    sent_at: float = 0.0
    probe: Halt | None = None
    refused_at: float = math.inf
    trail: list[tuple[float, float, int | str]] | None = None
    response: Response | None = None
    end: End | None = None
    reason: Reason | None = None
    error: ErrorDetail | None = None
    returned_why: str = ""


def is_partly_delivered(entry: Entry) -> bool:
    """Whether some of the job's requests were delivered, but not all."""
    return entry.job is not None and 0 < entry.part < entry.job.request_count()


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


class Summary(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a run did. `read = delivered + dead_lettered + skipped + returned` once it has ended.

    `lost` is there only if there are any: how many of the returned lines are in no file, since a pipe
    cannot take them back and the returned file could not be written.
    """

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
    lost: int = 0
