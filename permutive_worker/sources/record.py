"""The record of a checkpoint: what it says, and how it stands on the disk.

A file of lines, each with its checksum: the first one a state that was synced, the others later ones
that were appended, so that the last valid line counts. A kill or a power cut can tear the last line
only (or leave NULs there); anything else that is wrong was done by somebody, and is never guessed at.
"""

import hashlib
from datetime import datetime
from typing import Final

import msgspec

from permutive_worker.control.unsettled import Reading

VERSION: Final = 1
_CHECKSUM_DIGITS: Final = 16  # it finds accidents; nobody attacks his own checkpoint
_ENCODER: Final = msgspec.json.Encoder()


class Generation(msgspec.Struct, frozen=True):
    """One file under the input's name; while a file is followed there may be several, the newest last.

    Attributes:
        inode: tells a renamed file.
        size_bytes: as stored.
        head_sha256: of its first 4 KiB, or of all of it if it was smaller.
        stored_bytes: read so far, as stored.
        tail_sha256: of the 1 KiB before that.
        reading: how far it is, in bytes and lines of text.
    """

    inode: int
    size_bytes: int
    head_sha256: str
    stored_bytes: int
    tail_sha256: str
    reading: Reading


class Record(msgspec.Struct, frozen=True):
    """What is remembered of one input on its way to one destination.

    Attributes:
        input: its real path.
        destination: host and workspaces.
        worker: the process that wrote it, for whoever waits for it.
        finished_at: all of it was read, and all of that is done.
    """

    version: int
    input: str
    destination: str
    worker: str
    finished_at: datetime | None
    generations: list[Generation]


class CorruptRecord(ValueError):  # noqa: N818  (named as what was found)
    """It says something that we did not write; the text says what."""


class ForeignRecord(CorruptRecord):
    """It is sound, but of another version."""


def encode_record(record: Record) -> bytes:
    """Return the line of a record, with its line end."""
    json = _ENCODER.encode(record)
    return _checksum(json) + b" " + json + b"\n"


def decode_records(data: bytes) -> Record:
    """Return the last record of a file.

    Raises:
        CorruptRecord: there is none, or more than the last line is damaged.
    """
    lines = data.removesuffix(b"\n").split(b"\n")
    record = _decode_line(lines[0], 1)
    for number, line in enumerate(lines[1:], 2):
        try:
            record = _decode_line(line, number)
        except ForeignRecord:
            raise
        except CorruptRecord:
            if number < len(lines):
                raise
    return record


def _decode_line(line: bytes, number: int) -> Record:
    checksum, _, json = line.partition(b" ")
    if checksum != _checksum(json):
        raise CorruptRecord(f"line {number} is damaged" if line else "it is empty")
    try:
        if msgspec.json.decode(json, type=_Version).version != VERSION:
            raise ForeignRecord("another version of the worker wrote it")
        return msgspec.json.decode(json, type=Record)
    except msgspec.MsgspecError:
        raise CorruptRecord(f"line {number} is no checkpoint") from None


class _Version(msgspec.Struct):
    version: int


def _checksum(json: bytes) -> bytes:
    return hashlib.sha256(json).hexdigest()[:_CHECKSUM_DIGITS].encode()
