"""Tries the lean wire against a server of its own on loopback, before it is trusted with jobs.

It rests on names that aiohttp does not promise. A release that changes them shall cost speed, not jobs.
"""

import asyncio
import gzip
from typing import Final, cast

from permutive_worker.credentials import Credentials, Scrubber
from permutive_worker.http.lean import LeanWire
from permutive_worker.http.plain import open_session
from permutive_worker.model import Request, Response

TIMEOUT_SECONDS: Final = 2.0  # loopback answers in a millisecond; a busy machine in a hundred

_KEY: Final = "self-check"
_REQUEST: Final = Request("POST", "/self-check", b'{"self":"check"}', "self-check")
_BODY: Final = b'{"checked":true}'
_LENGTH: Final = b"Content-Length: %d\r\n" % len(_BODY)
_HEAD: Final = b"HTTP/1.1 200 OK\r\nX-Checked: yes\r\n"
_PACKED: Final = gzip.compress(_BODY, mtime=0)
_ANSWERS: Final = (
    # Packed, and in two chunks.
    _HEAD
    + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"9\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (_PACKED[:9], len(_PACKED) - 9, _PACKED[9:]),
    # On the same connection, which is closed after it.
    _HEAD + b"Connection: close\r\n" + _LENGTH + b"\r\n" + _BODY,
    # On a new one; and behind it one that nobody asked for.
    _HEAD + _LENGTH + b"\r\n" + _BODY + b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
    _HEAD + _LENGTH + b"\r\n" + _BODY,
)
_ANSWERS_BY_CONNECTION: Final = [2, 1, 1]


async def find_fault() -> str | None:
    """Return what the lean wire does wrong here, None if nothing; takes some milliseconds."""
    server = _Server()
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            url = await server.start()
            return await _play(url) or server.fault()
    except Exception as error:  # noqa: BLE001  (whatever it is, the other wire works without)
        return type(error).__name__
    finally:
        server.close()


async def _play(url: str) -> str | None:
    async with open_session(1, TIMEOUT_SECONDS) as session:
        wire = LeanWire(session, url, Credentials(_KEY, Scrubber()), timeout_seconds=TIMEOUT_SECONDS)
        try:
            for number in range(len(_ANSWERS)):
                if not _is_right(await wire.send(_REQUEST)):
                    return f"answer {number} was read wrongly"
        finally:
            wire.close()
    return None


def _is_right(response: Response) -> bool:
    checked = response.headers.get("x-checked") == "yes"
    return checked and (response.status, response.body, response.truncated) == (200, _BODY, False)


class _Server:
    """Gives the answers in turn and keeps how they were asked for."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.connections: list[_Connection] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self.connections:
            connection.transport.abort()

    def answer(self, request: bytes) -> bytes:
        self.requests.append(request)
        return _ANSWERS[min(len(self.requests), len(_ANSWERS)) - 1]

    def fault(self) -> str | None:
        if [connection.answered for connection in self.connections] != _ANSWERS_BY_CONNECTION:
            return "connections were not used as they should be"
        if not all(_is_well_formed(request) for request in self.requests):
            return "a request was sent wrongly"
        return None


def _is_well_formed(request: bytes) -> bool:
    head, _, body = request.partition(b"\r\n\r\n")
    fields = (b"\r\nX-API-Key: self-check\r\n", b"\r\nHost: 127.0.0.1:", b"\r\nContent-Length: 16")
    begun = head.startswith(b"POST /self-check HTTP/1.1\r\n")
    return begun and body == _REQUEST.body and all(field in head for field in fields)


class _Connection(asyncio.Protocol):
    def __init__(self, server: _Server) -> None:
        self.answered = 0
        self._server = server
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._server.connections.append(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(_REQUEST.body):
            request, self._received = self._received, b""
            self.answered += 1
            self.transport.write(self._server.answer(request))
