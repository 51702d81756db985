"""What the first process and its workers tell each other, in frames over a socket pair.

first → worker    Order once, then Command, Pause and Reload; the end of the stream is the end of the first process
worker → first    Report often, Pause, and Farewell once; without a farewell the process died
"""

import struct
from collections.abc import Iterator
from functools import reduce
from operator import or_
from typing import Any, Final, Literal

import msgspec

from permutive_worker.config import Settings
from permutive_worker.processes.merging import slots
from permutive_worker.telemetry.status import Status

_HEAD: Final = struct.Struct("!I")  # the length of what follows


class Order(msgspec.Struct, frozen=True, tag=True):
    """What one worker is to do: its files, by settings that hold its share of every limit."""

    number: int  # of the process, from 1
    run_id: str
    settings: Settings
    paths: list[bytes]  # as the system has them


class Command(msgspec.Struct, frozen=True, tag=True):
    """Stop; or stop without waiting for what is in flight."""

    why: Literal["stop", "guard", "halt", "pause"]
    hurry: bool = False


class Reload(msgspec.Struct, frozen=True, tag=True):
    """Take what of these settings a running worker can; they hold its share of every limit."""

    settings: Settings


class Report(msgspec.Struct, frozen=True, tag=True):
    """One moment of a worker: the law of conservation holds in it."""

    counts: dict[str, Any]  # the `vars` of `Counts`; `merging.add` takes them
    status: Status


class Pause(msgspec.Struct, frozen=True, tag=True):
    """The API asked one worker to wait, which holds for all of them.

    `until` is in monotonic seconds, which all processes of a machine count alike.
    """

    workspace: str
    until: float


class Farewell(msgspec.Struct, frozen=True, tag=True):
    """How a worker ended.

    Attributes:
        exit_code: what its run would have ended with alone.
        errors: exit code and sentence of each.
        refused: it never began; `errors` say why.
        stopped: it did not read its files to their end: by itself, if nobody told it to.
        tripped: why its guard stopped it.
    """

    exit_code: int
    errors: list[tuple[int, str]] = []
    refused: bool = False
    stopped: bool = False
    tripped: str | None = None


def frame(message: Order | Command | Pause | Reload | Report | Farewell) -> bytes:
    """Return a message as it is sent."""
    data = msgspec.msgpack.encode(message, enc_hook=slots)
    return _HEAD.pack(len(data)) + data


class Frames:
    """Cuts a stream of bytes into its messages."""

    def __init__(self, *types: type) -> None:
        union: Any = reduce(or_, types)
        self._decoder = msgspec.msgpack.Decoder(union)
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Any]:
        """Give every message that is whole now."""
        self._rest += data
        while len(self._rest) >= _HEAD.size:
            end = _HEAD.size + _HEAD.unpack_from(self._rest)[0]
            if len(self._rest) < end:
                return
            message, self._rest = self._rest[_HEAD.size : end], self._rest[end:]
            yield self._decoder.decode(message)
