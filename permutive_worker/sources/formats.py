"""From stored bytes to lines: which format it is, gzip, and where each line begins. Pure.

Formats are told apart by their first bytes, never by a name: a pipe has none, and names lie.
"""

import zlib
from collections.abc import Iterator
from typing import Final, Protocol

from permutive_worker.errors import InputError
from permutive_worker.model import Delivery, Origin

PIECE_BYTES: Final = 256 * 1024  # of text one step of gunzip gives at most, so no bomb fills memory
HEAD_BYTES: Final = 4 * 1024  # what is kept of a line that is too large

_GZIP: Final = b"\x1f\x8b"
_REFUSED: Final = {  # first bytes: the format, and the tool that unpacks it
    b"\x28\xb5\x2f\xfd": ("zstd", "zstdcat"),
    b"BZh": ("bzip2", "bzcat"),
    b"\xfd7zXZ\x00": ("xz", "xzcat"),
    b"PK\x03\x04": ("zip", "unzip -p"),
}
_BOM: Final = b"\xef\xbb\xbf"
_SLACK_BYTES: Final = len(_BOM) + len(b"\r")  # may be held beyond a line's own bytes


class Decoder(Protocol):
    """Turns stored bytes into text, a bounded piece at a time."""

    def feed(self, stored: bytes) -> Iterator[bytes]:
        """Give the text of `stored`; exhaust it before the next `feed`.

        Raises:
            InputError: the data is damaged; all that could be read was given before.
        """
        ...

    def finish(self) -> None:
        """Hear that this was all. Raises InputError if the data is cut short."""
        ...


def is_undecided(head: bytes) -> bool:
    """Whether more first bytes are needed to tell the format."""
    return any(len(head) < len(magic) and magic.startswith(head) for magic in (_GZIP, *_REFUSED))


def is_gzip(head: bytes) -> bool:
    return head.startswith(_GZIP)


def refusal(head: bytes, name: str) -> str | None:
    """Return why an input that begins with `head` cannot be read, and what to do, else None."""
    for magic, (kind, tool) in _REFUSED.items():
        if head.startswith(magic):
            return f"{name} is {kind} data, which is not read: use `{tool} FILE | permutive-worker run -`"
    return None


def decoder_for(head: bytes, name: str) -> Decoder:
    """Return the decoder for an input that begins with `head`. Raises InputError if there is none."""
    if reason := refusal(head, name):
        raise InputError(reason)
    return GzipDecoder(name) if is_gzip(head) else PlainDecoder()


class PlainDecoder:
    """Text as it is."""

    def feed(self, stored: bytes) -> Iterator[bytes]:
        yield stored

    def finish(self) -> None:
        pass


class GzipDecoder:
    """Streaming gunzip: any number of members, zero padding between and after them.

    Source: RFC 1952; the padding is what tape and block devices leave, and gzip(1) takes it too.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._member = _new_member()

    def feed(self, stored: bytes) -> Iterator[bytes]:
        text = bytearray()  # gathered, since each piece costs a thread hop and members may be tiny
        try:
            for piece in self._inflate_members(stored):
                text += piece
                if len(text) >= PIECE_BYTES:
                    yield bytes(text)
                    text.clear()
        except InputError:
            if text:
                yield bytes(text)
            raise
        if text:
            yield bytes(text)

    def _inflate_members(self, stored: bytes) -> Iterator[bytes]:
        while stored:
            if self._member.eof:
                stored = stored.lstrip(b"\0")
                if not stored:
                    return
                self._member = _new_member()
            yield from self._inflate(stored)
            stored = self._member.unused_data

    def finish(self) -> None:
        if not self._member.eof:
            raise InputError(
                f"{self._name} ends in the middle of its gzip data: get the whole of it and run it again"
            )

    def _inflate(self, stored: bytes) -> Iterator[bytes]:
        """Give the text of this member, as far as `stored` goes."""
        while True:
            before = self._member.copy()  # about 2 µs a step
            try:
                piece = self._member.decompress(stored, PIECE_BYTES)
            except zlib.error:
                if text := _salvage(before, stored):
                    yield text
                raise InputError(
                    f"{self._name} holds damaged gzip data: get a sound copy and run it again"
                ) from None
            if piece:
                yield piece
            stored = self._member.unconsumed_tail
            # A full piece may leave text inside zlib although all input is taken: ask once more.
            if self._member.eof or (not stored and len(piece) < PIECE_BYTES):
                return


def _new_member() -> "zlib._Decompress":
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # 16: expect a gzip header and check its CRC


def _salvage(member: "zlib._Decompress", stored: bytes) -> bytes:
    """Return the text before the damage: zlib keeps it back from the call that finds the damage."""
    text = bytearray()
    try:
        for at in range(len(stored)):
            text += member.decompress(stored[at : at + 1])
    except zlib.error:
        pass
    return bytes(text)


class LineSplitter:
    r"""Cuts text into lines, whatever the blocks it comes in.

    A line ends with `\n` or `\r\n`; the last one may end with the text. A BOM on the first line is
    dropped. Blank lines are lines. Of a line longer than `max_line_bytes` only the first `HEAD_BYTES`
    are ever held; its `oversize_bytes` says how long it was.

    Args:
        origin: what the deliveries name as theirs.
        max_line_bytes: without the line end.
        offset: bytes of text before the first line that is fed, when reading is resumed.
        number: of that line.

    Attributes:
        offset: where the next line to be given begins.
        number: of that line.
        unended: the last line that was given had no line end.
    """

    def __init__(self, origin: Origin, max_line_bytes: int, *, offset: int = 0, number: int = 1) -> None:
        self.offset = offset
        self.number = number
        self.unended = False
        self._origin = origin
        self._max_line_bytes = max_line_bytes
        self._held = bytearray()  # of the line that has not ended yet
        self._held_limit_bytes = max(max_line_bytes, HEAD_BYTES) + _SLACK_BYTES
        self._length_bytes = 0  # of that line, with what was thrown away
        self._last_byte = b""  # of that line: a \r may belong to its end

    def feed(self, block: bytes) -> list[Delivery]:
        """Return the lines that end in `block`."""
        lines = block.split(b"\n")
        rest = lines.pop()
        if not lines:
            self._hold(rest)
            return []
        self._hold(lines[0])
        deliveries = [self._end_line(end_bytes=1)]
        if len(block) <= self._max_line_bytes:
            self._add(lines, deliveries, has_cr=b"\r" in block)
        else:
            self._add_with_care(lines, deliveries)
        self._hold(rest)
        return deliveries

    def finish(self) -> list[Delivery]:
        """Return the last line if it has no line end."""
        self.unended = self._length_bytes > 0
        return [self._end_line(end_bytes=0)] if self.unended else []

    def _add(self, lines: list[bytes], deliveries: list[Delivery], *, has_cr: bool) -> None:
        """Add all lines but the first. The hot loop: 0.33 µs a line, most of it `Delivery()`."""
        origin, offset, number = self._origin, self.offset, self.number
        for line in lines[1:]:
            raw = line.removesuffix(b"\r") if has_cr else line
            deliveries.append(Delivery(raw, origin, offset, number))
            offset += len(line) + 1
            number += 1
        self.offset, self.number = offset, number

    def _add_with_care(self, lines: list[bytes], deliveries: list[Delivery]) -> None:
        """The same where a line may be too large."""
        for raw in lines[1:]:
            self._hold(raw)
            deliveries.append(self._end_line(end_bytes=1))

    def _hold(self, piece: bytes) -> None:
        self._length_bytes += len(piece)
        self._last_byte = piece[-1:] or self._last_byte
        if self._length_bytes <= self._held_limit_bytes:
            self._held += piece
        else:
            self._held += piece[: HEAD_BYTES + _SLACK_BYTES]
            del self._held[HEAD_BYTES + _SLACK_BYTES :]

    def _end_line(self, *, end_bytes: int) -> Delivery:
        begin = len(_BOM) if self.offset == 0 and self._held.startswith(_BOM) else 0
        line_bytes = self._length_bytes - begin - (self._last_byte == b"\r")
        oversize_bytes = line_bytes if line_bytes > self._max_line_bytes else 0
        kept_bytes = min(line_bytes, HEAD_BYTES) if oversize_bytes else line_bytes
        raw = bytes(self._held[begin : begin + kept_bytes])
        delivery = Delivery(raw, self._origin, self.offset, self.number, oversize_bytes)
        self.offset += self._length_bytes + end_bytes
        self.number += 1
        self._held.clear()
        self._length_bytes = 0
        self._last_byte = b""
        return delivery
