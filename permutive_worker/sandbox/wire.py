"""HTTP/1.1 as bytes: requests out of what a socket gives, answers into what it takes.

Pure, and no more than a test server on one machine needs: bodies by Content-Length or in chunks, pipelining,
`Expect: 100-continue`. It is here because it takes a fifth of the time of a general server, and because a
server whose answers are damaged on purpose wants to write its own bytes.
Source: RFC 9112.
"""

from http import HTTPStatus
from typing import Final

import msgspec

from permutive_worker.sandbox.answers import Answer

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_MAX_HEAD_BYTES: Final = 64 << 10
_MAX_BODY_BYTES: Final = 64 << 20  # ten events of 950 KB and 5,000 segments fit in it several times
_HEADERS: Final = frozenset({"content-length", "x-api-key", "transfer-encoding", "connection", "expect"})
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


class Request(msgspec.Struct):
    """One request; `key` is what `X-API-Key` holds."""

    method: str
    target: str
    keep_alive: bool
    key: str | None = None
    length: int = 0
    chunked: bool = False
    expects_continue: bool = False
    body: bytes = b""


class BadRequestError(Exception):
    """The bytes are no request that can be read; the connection is of no further use."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Parser:
    """Gives the requests in what is fed to it, one by one."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._request: Request | None = None
        self._chunks = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> Request | None:
        """Return the next complete request, none while there is not all of it.

        Raises:
            BadRequestError: this is not HTTP, or more than a request may be.

        """
        request = self._request or self._read_head()
        if request is None:
            return None
        body = self._read_chunks() if request.chunked else self._read_bytes(request.length)
        if body is None:
            return None
        request.body = body
        self._request = None
        return request

    def take_expectation(self) -> bool:
        """Say, once, whether the client waits for `CONTINUE` before it sends its body."""
        request = self._request
        if request is None or not request.expects_continue:
            return False
        request.expects_continue = False
        return True

    def _read_head(self) -> Request | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end > _MAX_HEAD_BYTES or (end < 0 and len(self._buffer) > _MAX_HEAD_BYTES):
            raise BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are too large.")
        if end < 0:
            return None
        self._request = _parse_head(self._buffer[:end].decode("latin-1"))
        del self._buffer[: end + 4]
        return self._request

    def _read_bytes(self, length: int) -> bytes | None:
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return body

    def _read_chunks(self) -> bytes | None:
        """Return the body once its last chunk is there; the whole chunks before it are kept meanwhile."""
        while (line_end := self._buffer.find(b"\r\n")) >= 0:
            size = _chunk_size(bytes(self._buffer[:line_end]), len(self._chunks))
            end = line_end + 2 + size
            if len(self._buffer) < end + 2:
                return None
            self._chunks += self._buffer[line_end + 2 : end]
            del self._buffer[: end + 2]
            if not size:
                body, self._chunks = bytes(self._chunks), bytearray()
                return body
        return None


def _parse_head(text: str) -> Request:
    first, *lines = text.split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequestError(HTTPStatus.BAD_REQUEST, "This is not HTTP/1.1.")
    request = Request(words[0], words[1], keep_alive=words[2] != "HTTP/1.0")
    for line in lines:
        name, _, value = line.partition(":")
        name = name.lower()
        if name in _HEADERS:
            _apply_header(request, name, value.strip())
    return request


def _apply_header(request: Request, name: str, value: str) -> None:
    match name:
        case "content-length":
            request.length = _length(value)
        case "x-api-key":
            request.key = value
        case "transfer-encoding":
            request.chunked = value.lower() == "chunked"
        case "connection":
            request.keep_alive = request.keep_alive and value.lower() != "close"
        case "expect":
            request.expects_continue = value.lower() == "100-continue"


def _length(value: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise BadRequestError(HTTPStatus.BAD_REQUEST, "Content-Length is no number.")
    return _bounded(int(value))


def _chunk_size(line: bytes, before: int) -> int:
    try:
        size = int(line.partition(b";")[0], 16)
    except ValueError:
        raise BadRequestError(HTTPStatus.BAD_REQUEST, "The size of a chunk is no number.") from None
    _bounded(before + size)
    return size


def _bounded(length: int) -> int:
    if not 0 <= length <= _MAX_BODY_BYTES:
        raise BadRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large.")
    return length


def encode(answer: Answer, *, keep_alive: bool, with_body: bool = True) -> bytes:
    """Return the answer in one piece; without its body for HEAD, whose headers are the same."""
    head = encode_head(answer, len(answer.body))
    ending = b"\r\n" if keep_alive else b"Connection: close\r\n\r\n"
    return head + ending + answer.body if with_body else head + ending


def encode_truncated(answer: Answer) -> bytes:
    """Return half of the answer, which promises more: at least a byte, if there is nothing to halve."""
    promised = max(1, len(answer.body))
    return encode_head(answer, promised) + b"\r\n" + answer.body[: promised // 2]


def encode_head(answer: Answer, length: int) -> bytes:
    """Return the status line and the headers, without the empty line that ends them."""
    retry_after = answer.retry_after_seconds
    hint = "" if retry_after is None else f"Retry-After: {retry_after:g}\r\n"
    return (
        f"HTTP/1.1 {answer.status} {_PHRASES.get(answer.status, 'Unknown')}\r\nServer: Permutive-Sandbox\r\n"
        f"Content-Type: {answer.content_type}\r\nContent-Length: {length}\r\n{hint}"
    ).encode()
