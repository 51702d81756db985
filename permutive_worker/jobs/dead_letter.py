"""A line of a dead-letter file: why a job failed for good, and all that is needed to send it again.

One record at both ends: `outcomes.dead_letters` appends it, `replay` reads it as an input.
"""

from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, UnsetType

from permutive_worker.jobs.fault import Fault, read_fields
from permutive_worker.model import Attempt, ErrorDetail

SCHEMA: Final = 1
KEPT: Final = 5  # attempts: the first, and the last


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A line of the dead-letter file, in the order of its fields.

    Attributes:
        at: when it was written.
        type: the job's kind, also if only `--type` said so; None if it is not known.
        job: the object of the line, byte for byte; without the events that were delivered.
        raw: the line if it was no JSON object, `raw_base64` if it was not even UTF-8.
        oversize_bytes: length of the whole line, of which `raw` is the beginning.
        source: the kind of input.
        workspace: None: it never came to choosing one.
        reason: see `model.Reason`.
        status: of the last answer, None if there was none.
        response: text of the last answer, its first 4 KiB.
        attempts: the first and the last five.
        delivered_events: how many events of a segmentation were delivered before it failed.
        worker: which process wrote it.
    """

    schema: int
    id: str
    run_id: str
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    type: str | None
    job: msgspec.Raw | UnsetType = UNSET
    raw: str | UnsetType = UNSET
    raw_base64: bytes | UnsetType = UNSET
    oversize_bytes: int | UnsetType = UNSET
    job_id: str | int | UnsetType = UNSET
    source: str
    position: str
    workspace: str | None
    reason: str
    status: int | None
    error: ErrorDetail | None
    response: str | None
    attempts: list[Attempt]
    delivered_events: int | UnsetType = UNSET
    worker: str

    @property
    def whole(self) -> bool:
        """Whether `line()` is all of the line; sending a part again would be no use."""
        return self.oversize_bytes is UNSET

    def line(self) -> bytes:
        """The line to send again, without line end; with its type, if only `--type` said it."""
        if self.job is not UNSET:
            return _with_type(bytes(self.job), self.type)
        if self.raw_base64 is not UNSET:
            return self.raw_base64
        return self.raw.encode() if self.raw is not UNSET else b""


def parse_dead_letter(line: bytes) -> DeadLetter:
    """The dead letter on a line of a dead-letter file.

    Raises:
        ValueError: it is none, or one of a newer version.
    """
    try:
        letter = msgspec.json.decode(line, type=DeadLetter)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ValueError("it is no dead letter") from None  # msgspec's texts hold the data
    if letter.schema != SCHEMA:
        raise ValueError(f"it is a dead letter of schema {letter.schema}, which a newer version wrote")
    return letter


def after(earlier: DeadLetter, letter: DeadLetter) -> DeadLetter:
    """The dead letter of a job that was one before: it keeps where it came from and what was tried."""
    attempts = [*earlier.attempts, *letter.attempts]
    delivered = (earlier.delivered_events or 0) + (letter.delivered_events or 0)
    return msgspec.structs.replace(
        letter,
        source=earlier.source,
        attempts=attempts if len(attempts) <= 2 * KEPT else attempts[:KEPT] + attempts[-KEPT:],
        delivered_events=delivered or UNSET,
    )


def _with_type(line: bytes, kind: str | None) -> bytes:
    fields = read_fields(line)
    if kind is None or isinstance(fields, Fault) or "type" in fields:
        return line
    return b'{"type":' + msgspec.json.encode(kind) + (b"," if fields else b"") + line[1:]
