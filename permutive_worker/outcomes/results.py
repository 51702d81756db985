"""Results: one line per delivered job, in order of completion.

A group is written at once and not fsynced; who writes a checkpoint calls `sync()` before, so that
what a checkpoint says is delivered has its result on the disk.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from permutive_worker.errors import ConfigurationError, OutputError
from permutive_worker.model import Entry
from permutive_worker.outcomes.ndjson import LockedAppender
from permutive_worker.outcomes.pipe import never, write_while_read
from permutive_worker.ports import Clock

_STDOUT: Final = 1
_LINE_FEED, _RETURN = b"\n\r"  # as numbers: looking for one byte is seven times as fast as for a string
_ENCODER: Final = msgspec.json.Encoder()
_CHECKER: Final = msgspec.json.Decoder(msgspec.Raw)


class Result(msgspec.Struct, gc=False):  # no cycle can arise, so the collector need not look
    """A line of the result file, in the order of its fields.

    Attributes:
        job_id: left out if the job had none.
        requests: how many the job needed; of more than one, `status` and `response` are the last one's.
        attempts: requests sent for it, retries included.
        elapsed_seconds: from the read to the result, waits and back-offs included; to the millisecond.
        response: the answer's JSON as it came, or its text if it was none; null if it was empty.
    """

    job_id: str | int | msgspec.UnsetType
    type: str
    position: str
    status: int | None
    attempts: int
    requests: int
    elapsed_seconds: float
    response: msgspec.Raw | str | None


class ResultWriter:
    """Writes the results of delivered entries to a file, or to stdout for `-`.

    Args:
        path: of the file, made when needed and appended to; `-` is stdout.
        scrub: takes every known key out of a group of lines, leaving them valid JSON.
        clock: for `elapsed_seconds`.
        given_up: asked while a pipe takes nothing; True ends the wait with an error.
    """

    def __init__(
        self,
        path: str,
        scrub: Callable[[bytes], bytes],
        clock: Clock,
        given_up: Callable[[], bool] = never,
    ) -> None:
        self._lines = (
            _StandardOutput(given_up)
            if path == "-"
            else LockedAppender(Path(path), durable=False, given_up=given_up)
        )
        self._scrub = scrub
        self._clock = clock

    async def open(self) -> None:
        """Try that results can be written. Raises ConfigurationError."""
        await asyncio.to_thread(self._lines.prove)

    async def write(self, entries: Sequence[Entry]) -> None:
        """Write a line for each entry: a killed process does not lose it, a power cut may until `sync`.

        Raises:
            OutputError: the file has none of the lines.
            BrokenPipeError: nobody reads stdout any more.

        Cancellation: the group is still written, by its thread.
        """
        if not entries:
            return
        now = self._clock.monotonic()
        lines = _ENCODER.encode_lines([_result(entry, now) for entry in entries])
        await asyncio.to_thread(self._lines.append, self._scrub(lines))

    async def sync(self) -> None:
        """Fsync what was written. Raises OutputError. Cancellation: the fsync goes on in its thread."""
        await asyncio.to_thread(self._lines.sync)

    async def close(self) -> None:
        """Sync and close. Raises OutputError."""
        await asyncio.to_thread(self._lines.close)


class _StandardOutput:
    """What a failed write left of a group stays there: stdout cannot be cut."""

    def __init__(self, given_up: Callable[[], bool]) -> None:
        self._given_up = given_up

    def prove(self) -> None:
        if sys.stdout is None:  # so Python says that it was closed; its number may be any other file's now
            raise ConfigurationError("stdout is closed, so results cannot go there; name a file")

    def append(self, lines: bytes) -> None:
        try:
            write_while_read(_STDOUT, lines, self._given_up)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(
                f"cannot write results to stdout: {error.strerror}; some of the last results are missing there"
            ) from error

    def sync(self) -> None:
        """A pipe has nothing to sync, and a redirected file is the caller's."""

    def close(self) -> None:
        """It is the process's, not ours."""


def _result(entry: Entry, now: float) -> Result:
    job, response = entry.job, entry.response
    job_id = job.job_id if job is not None else None
    return Result(
        msgspec.UNSET if job_id is None else job_id,
        entry.kind,
        entry.delivery.position,
        response.status if response is not None else None,
        entry.attempts,
        job.request_count() if job is not None else 0,
        int((now - entry.read_at) * 1000) / 1000,  # `round` takes three times as long
        embeddable(response.body) if response is not None else None,
    )


def embeddable(body: bytes) -> msgspec.Raw | str | None:
    """The body as JSON on one line if it is JSON, else as text; None if it is empty."""
    if not body:
        return None
    try:
        json = _CHECKER.decode(body)
        body.decode()  # the checker lets bytes pass that are no UTF-8
        if _LINE_FEED in body or _RETURN in body:
            return msgspec.Raw(msgspec.json.format(body, indent=-1))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body.decode(errors="replace")
    return json
