"""Writes and reads the dead-letter file; its record is `jobs.dead_letter`."""

import asyncio
import codecs
import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from permutive_worker.errors import OutputError, UsageError
from permutive_worker.jobs.dead_letter import SCHEMA, DeadLetter, after, parse_dead_letter
from permutive_worker.jobs.fault import Fault, read_fields
from permutive_worker.jobs.segmentation import EVENTS_PER_REQUEST, remaining_events
from permutive_worker.model import Attempt, Delivery, Entry, Response
from permutive_worker.outcomes.ndjson import LockedAppender
from permutive_worker.outcomes.pipe import never
from permutive_worker.ports import Clock

MAX_RESPONSE_BYTES: Final = 4096
_BEGIN: Final = b'{"schema":'  # of every dead letter
_ENCODER: Final = msgspec.json.Encoder()
_JOB_ID: Final = msgspec.json.Decoder(str | int)


class DeadLetterWriter:
    """Writes entries that failed for good, fsynced, to a file that several workers may share.

    Args:
        path: of the file, made when needed.
        run_id: of this run.
        worker: names this process among those that share the file.
        source: the kind of input, as in the metrics.
        scrub: takes every known key out of bytes, leaving JSON valid.
        clock: for `at`.
        on_error: called once for each group that could not be written.
        given_up: asked while a pipe takes nothing; True ends the wait with an error.
    """

    def __init__(
        self,
        path: Path,
        *,
        run_id: str,
        worker: str,
        source: str,
        scrub: Callable[[bytes], bytes],
        clock: Clock,
        on_error: Callable[[], None],
        given_up: Callable[[], bool] = never,
    ) -> None:
        self._file = LockedAppender(path, given_up=given_up)
        self._run_id = run_id
        self._worker = worker
        self._source = source
        self._scrub = scrub
        self._clock = clock
        self._on_error = on_error

    async def open(self) -> None:
        """Try that dead letters can be written. Raises ConfigurationError."""
        await asyncio.to_thread(self._file.prove)

    async def write(self, entries: Sequence[Entry]) -> None:
        """Return once a dead letter for each entry is on the disk.

        Raises:
            OutputError: none of them is in the file.

        Cancellation: the group is still written, by its thread.
        """
        if not entries:
            return
        at = self._clock.utc_now()
        lines = _ENCODER.encode_lines([self._dead_letter(entry, at) for entry in entries])
        try:
            await asyncio.to_thread(self._file.append, self._scrub(lines))
        except OutputError:
            self._on_error()
            raise

    async def close(self) -> None:
        """Close the file. Raises OutputError."""
        await asyncio.to_thread(self._file.close)

    def _dead_letter(self, entry: Entry, at: datetime) -> DeadLetter:
        letter = self._letter(entry, at)
        earlier = entry.delivery.place
        return after(earlier, letter) if isinstance(earlier, DeadLetter) else letter

    def _letter(self, entry: Entry, at: datetime) -> DeadLetter:
        delivery, job, response = entry.delivery, entry.job, entry.response
        fields = None if delivery.oversize_bytes else _parse_object(delivery.raw)
        raw, raw_base64 = self._unreadable(delivery) if fields is None else (UNSET, UNSET)
        return DeadLetter(
            schema=SCHEMA,
            id=token_hex(16),
            run_id=self._run_id,
            at=at,
            type=(job.kind if job is not None else entry.kind) or None,
            job=UNSET if fields is None else _embeddable(delivery.raw, entry.part),
            raw=raw,
            raw_base64=raw_base64,
            oversize_bytes=delivery.oversize_bytes or UNSET,
            job_id=_job_id(fields or {}),
            source=self._source,
            position=delivery.position,
            workspace=entry.workspace or None,
            reason=str(entry.reason),
            status=response.status if response is not None else None,
            error=entry.error,
            response=self._text(response),
            attempts=[_attempt(*one) for one in entry.trail or ()],
            delivered_events=entry.part * EVENTS_PER_REQUEST or UNSET,
            worker=self._worker,
        )

    def _unreadable(self, delivery: Delivery) -> tuple[str | UnsetType, bytes | UnsetType]:
        """`raw` and `raw_base64` of a line that is no JSON object: one of them."""
        raw = self._scrub(delivery.raw)  # here too, for in base64 no key is found
        whole = not delivery.oversize_bytes
        try:
            # The first bytes of a line may end within a character, which is then left out.
            return codecs.getincrementaldecoder("utf-8")().decode(raw, final=whole), UNSET
        except UnicodeDecodeError:
            return UNSET, raw

    def _text(self, response: Response | None) -> str | None:
        if response is None:
            return None
        # Scrubbed before it is cut: half a key would not be found.
        return self._scrub(response.body)[:MAX_RESPONSE_BYTES].decode(errors="replace")


def _attempt(posix_seconds: float, elapsed_seconds: float, what: int | str) -> Attempt:
    at = datetime.fromtimestamp(posix_seconds, UTC)
    if isinstance(what, int):
        return Attempt(at, round(elapsed_seconds, 6), status=what)
    return Attempt(at, round(elapsed_seconds, 6), error=what)


def read_dead_letters(path: Path, on_torn: Callable[[Path], None] | None = None) -> Iterator[DeadLetter]:
    """Yield the dead letters of a file, plain or `.gz`, in its order and without holding it whole.

    Args:
        path: of the file.
        on_torn: called with `path` if its last line, or a `.gz` itself, breaks off; that line is not given.

    Raises:
        UsageError: the file is missing, unreadable or no dead-letter file.
    """
    try:
        for number, line in enumerate(_lines(path), 1):
            if line.strip():
                yield _parse_line(path, number, line)
    except EOFError:
        if on_torn is not None:
            on_torn(path)


def _lines(path: Path) -> Iterator[bytes]:
    """Raises EOFError where a `.gz` breaks off."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield from file
    except (gzip.BadGzipFile, zlib.error):
        raise UsageError(f"{path} is no gzip file, or a damaged one; unpack it with another tool") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; name a dead-letter file") from error


def _parse_line(path: Path, number: int, line: bytes) -> DeadLetter:
    """Raises EOFError where a line breaks off."""
    try:
        return parse_dead_letter(line)
    except ValueError as error:
        if line[: len(_BEGIN)] == _BEGIN[: len(line)] and not line.endswith(b"\n"):
            raise EOFError from None
        raise UsageError(
            f"{path}:{number} is no line of a dead-letter file: {error}; "
            "name a file that was written with --dead-letters"
        ) from None


def _parse_object(line: bytes) -> dict[str, msgspec.Raw] | None:
    """The fields of a JSON object, not looked into; None if it is none."""
    fields = read_fields(line)
    return None if isinstance(fields, Fault) else fields


def _embeddable(line: bytes, delivered_parts: int) -> msgspec.Raw:
    """A JSON object as it may stand in a record, without the events that were delivered."""
    if delivered_parts:
        line = remaining_events(line, delivered_parts)
    line = line.strip()
    if b"\n" in line or b"\r" in line:  # in white space, for a string cannot hold them
        line = msgspec.json.format(line, indent=-1)
    return msgspec.Raw(line)


def _job_id(fields: dict[str, msgspec.Raw]) -> str | int | UnsetType:
    try:
        return _JOB_ID.decode(fields["job_id"]) if "job_id" in fields else UNSET
    except msgspec.ValidationError:  # an invalid line may have anything there
        return UNSET
