"""The lean wire: one attempt through the connector and the parser of aiohttp, without its request objects.

`session.request` builds a request, a response, timers and contexts for each call; that is four fifths of
what an attempt costs. Here the bytes of a request are one format string, and connections are held between
attempts, the last one used first, so that few are kept warm and the others age out. DNS, happy eyeballs,
TLS, proxies and the parsing of answers stay aiohttp's.

All names of aiohttp that its documentation does not promise are in this file: `Connector.connect` with
three arguments, `ClientRequest`, `Connection.protocol`, and of the protocol `set_response_params`, `read`
and `should_close`. None has an underscore; they are the same in aiohttp 3.12 to 3.14, and `misfit` says
where they were not tried. An answer that a server sends on an idle connection (a 408, say) is dropped with
the connection; `session.request` hands it to the next request.
"""

import asyncio
import re
from collections import deque
from typing import Final, cast
from urllib.parse import quote

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpResponseParser, HttpResponseParserPy
from multidict import CIMultiDict
from yarl import URL

from permutive_worker import __version__
from permutive_worker.credentials import Credentials
from permutive_worker.errors import TransportError
from permutive_worker.http.plain import (
    KEEPALIVE_SECONDS,
    MAX_BODY_BYTES,
    Connector,
    Deadlines,
    proxy_authorization,
    read_body,
    transport_error,
)
from permutive_worker.model import Request, Response

TESTED: Final = ((3, 12), (3, 14))  # the oldest and the newest aiohttp that passed tests/contract
MAX_AGE_SECONDS: Final = 60.0  # of a connection: a change of the host's address is noticed so soon
FRESH_SECONDS: Final = 0.1  # idle for longer, and half of what nobody asked for (a 408) may be in the parser
REAP_SECONDS: Final = 1.0  # between two looks for connections that are idle for too long
MAX_CACHED_HEADS: Final = 64  # the paths without an id; building one costs 2 µs

_CONNECT_KINDS: Final = {"connect", "connect_timeout", "dns", "tls", "proxy"}
_METHOD: Final = re.compile(r"[A-Z]+")
_TARGET: Final = re.compile(r"[!\"$-~]+")  # visible ASCII without #: nothing here can end the request line
_VALUE: Final = re.compile(r"[!-~]+")


def misfit() -> str | None:
    """Say why this wire was not tried with the aiohttp that is installed; None: it was."""
    version = tuple(int(part) for part in re.findall(r"\d+", aiohttp.__version__)[:2])
    if not TESTED[0] <= version <= TESTED[1]:
        oldest, newest = (".".join(map(str, one)) for one in TESTED)
        return f"aiohttp {aiohttp.__version__} is not one of {oldest} to {newest}"
    if HttpResponseParser is HttpResponseParserPy:
        return "aiohttp's parser in C is not there"  # the other one waits for ever on garbage
    return None


class _Held:
    """An open connection and what it was made of, looked up once.

    Attributes:
        made_at, idle_since: seconds of the loop's clock.
    """

    __slots__ = ("connection", "idle_since", "made_at", "protocol", "transport")

    def __init__(
        self, connection: aiohttp.connector.Connection, protocol: ResponseHandler, now: float
    ) -> None:
        self.connection = connection
        self.protocol = protocol
        self.transport = cast("asyncio.Transport", protocol.transport)
        self.made_at = self.idle_since = now

    def abort(self) -> None:
        """Close it at once, whatever is still to be written."""
        self.transport.abort()
        self.connection.close()


class LeanWire:
    """A ports.Wire for one set of credentials at one host. `close` it before the session."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        credentials: Credentials,
        *,
        timeout_seconds: float,
        proxy: str | None = None,
    ) -> None:
        """The key is looked up for each attempt, so a replaced one is used at once."""
        self._session = session
        self._base = URL(base_url)
        self._credentials = credentials
        self._deadlines = Deadlines(timeout_seconds)
        self._loop = asyncio.get_running_loop()
        self._idle: deque[_Held] = deque()  # the last one was used last
        self._connecting = 0
        self._reaper: asyncio.TimerHandle | None = None
        self._closed = False
        self._proxy: URL | None = None
        self._proxy_headers: dict[str, str] = {}
        if proxy is not None:
            self._proxy = URL(proxy).with_user(None)
            self._proxy_headers = proxy_authorization(URL(proxy))
        self._key = ""  # the one in the heads
        self._heads: dict[str, bytes] = {}  # of POST requests, by path, up to the value of Content-Length
        self._prefix, self._fields = self._build_prefix(), self._build_fields()

    def __repr__(self) -> str:
        return f"<LeanWire {self._base.origin()} idle={len(self._idle)}>"

    async def send(self, request: Request) -> Response:
        """Send one attempt; see `ports.Wire.send`.

        Units: at most `timeout_seconds` + 0.1 s, connecting included.

        Raises:
            ValueError: method, path or key hold what would break the request; it holds none of them.
        """
        data = self._bytes_of(request)
        task = self._deadlines.begin()
        held: _Held | None = None
        message = None
        try:
            held = self._take() or await self._connect()
            protocol = held.protocol
            without_body = request.method == "HEAD"
            if without_body:
                protocol.set_response_params(skip_payload=True, read_until_eof=True)
            held.transport.write(data)
            message, content = await protocol.read()
            while 100 <= message.code < 200 and message.code != 101:
                message, content = await protocol.read()
            if content.is_eof() and content.total_bytes <= MAX_BODY_BYTES:  # it came with the head
                body, truncated = content.read_nowait(), False
            else:
                body, truncated = await read_body(content, MAX_BODY_BYTES)
            if message.chunked:  # trailers stay in the parser, which takes them for fields of its next answer
                protocol.set_response_params(read_until_eof=True)
            if not without_body and self._keep(held):
                held = None
            return Response(message.code, message.headers, body, truncated)
        except asyncio.CancelledError:
            if held is None and isinstance(self._session.connector, Connector):
                self._session.connector.forget(task)  # what the plain wire asks; here it is known anyway
            if not self._deadlines.is_timeout(task):
                raise
            if message is not None and message.code >= 200:  # its status was read, and decides
                return Response(message.code, message.headers, b"", truncated=True)
            raise TransportError(
                "connect_timeout" if held is None else "timeout", sent=held is not None
            ) from None
        except (aiohttp.ClientError, aiohttp.EofStream, HttpProcessingError, OSError) as error:
            raise self._failure(error, sent=held is not None) from None  # aiohttp's texts hold the URL
        finally:
            self._deadlines.end(task)
            if held is not None:
                held.abort()

    def close(self) -> None:
        """Close the idle connections; those in use close when their attempt ends."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        while self._idle:
            self._idle.pop().connection.close()

    def _take(self) -> _Held | None:
        """Return the connection that was used last, if it is still good."""
        idle = self._idle
        while idle:
            held = idle.pop()
            # Closed by the server, or spoken on: an answer nobody asked for must not become the next one's.
            spoilt = held.transport.is_closing() or len(held.protocol)
            idle_seconds = self._loop.time() - held.idle_since
            if not spoilt and idle_seconds < KEEPALIVE_SECONDS:
                if idle_seconds > FRESH_SECONDS:
                    held.protocol.set_response_params(read_until_eof=True)
                return held
            held.connection.close()
        return None

    def _keep(self, held: _Held) -> bool:
        now = self._loop.time()
        if (
            held.protocol.should_close
            or held.transport.get_write_buffer_size()  # answered before it had read all
            or held.made_at < now - MAX_AGE_SECONDS
            or self._closed
        ):
            return False
        if self._connecting:  # perhaps for want of a free connection: the session's pool hands it on
            held.connection.release()
            return True
        held.idle_since = now
        self._idle.append(held)
        if self._reaper is None:
            self._reaper = self._loop.call_later(REAP_SECONDS, self._reap)
        return True

    def _reap(self) -> None:
        idle, oldest = self._idle, self._loop.time() - KEEPALIVE_SECONDS
        while idle and idle[0].idle_since <= oldest:
            idle.popleft().connection.close()
        self._reaper = self._loop.call_later(REAP_SECONDS, self._reap) if idle else None

    async def _connect(self) -> _Held:
        connector = self._session.connector
        if connector is None:
            raise aiohttp.ClientConnectionError
        self._connecting += 1
        try:
            connection = await connector.connect(self._target(), traces=[], timeout=self._session.timeout)
        finally:
            self._connecting -= 1
        protocol = connection.protocol
        if protocol is None or connection.closed or protocol.should_close:  # closed or spoken on already
            connection.close()
            raise aiohttp.ClientConnectionError
        # Not for each request: the parser that it makes costs 2 µs. It lasts until a chunked answer, or some idle time.
        protocol.set_response_params(read_until_eof=True)
        return _Held(connection, protocol, self._loop.time())

    def _target(self) -> aiohttp.ClientRequest:
        """Return what the connector wants; a new one each time, as it writes to the headers of a proxy."""
        return aiohttp.ClientRequest(
            "POST",
            self._base,
            session=self._session,
            proxy=self._proxy,
            proxy_headers=CIMultiDict(self._proxy_headers) if self._proxy is not None else None,
        )

    def _failure(self, error: BaseException, *, sent: bool) -> TransportError:
        kind = transport_error(error).kind
        if sent:
            return TransportError("protocol" if kind in _CONNECT_KINDS else kind, sent=True)
        if kind == "timeout":
            kind = "connect_timeout"
        elif kind not in _CONNECT_KINDS:  # whatever else breaks before there is a connection
            kind = "proxy" if self._proxy is not None else "connect"
        return TransportError(kind, sent=False)

    def _bytes_of(self, request: Request) -> bytes:
        if self._credentials.key is not self._key:
            self._key = self._credentials.key
            self._heads.clear()
        if request.key_in_query or request.method != "POST":
            return self._rare_bytes_of(request)
        head = self._heads.get(request.path) or self._post_head(request.path)
        return b"%b%d\r\n\r\n%b" % (head, len(request.body), request.body)

    def _post_head(self, path: str) -> bytes:
        head = self._head("POST", path, key_in_query=False) + b"Content-Length: "
        if len(self._heads) < MAX_CACHED_HEADS:
            self._heads[path] = head
        return head

    def _rare_bytes_of(self, request: Request) -> bytes:
        head = self._head(request.method, request.path, key_in_query=request.key_in_query)
        if not request.body and request.method in {"GET", "HEAD"}:
            return head + b"\r\n"
        return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(request.body), request.body)

    def _head(self, method: str, path: str, *, key_in_query: bool) -> bytes:
        if key_in_query:
            target = f"{self._prefix}{path}{'&' if '?' in path else '?'}k={quote(self._key, safe='')}"
            fields = self._fields
        else:
            target = self._prefix + path
            fields = f"X-API-Key: {self._key}\r\n{self._fields}"
        if not (_METHOD.fullmatch(method) and _TARGET.fullmatch(target) and _VALUE.fullmatch(self._key)):
            raise ValueError("a request's method, path or key holds a character that must be encoded")
        return f"{method} {target} HTTP/1.1\r\n{fields}".encode("ascii")

    def _build_prefix(self) -> str:
        prefix = self._base.raw_path.rstrip("/")
        by_proxy = self._proxy is not None and self._base.scheme == "http"
        return f"{self._base.origin()}{prefix}" if by_proxy else prefix

    def _build_fields(self) -> str:
        """Return what is the same in all requests; over TLS the proxy's password is in the CONNECT only."""
        fields = {
            "Host": self._target().headers["Host"],
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "Content-Type": "application/json",
            "User-Agent": f"permutive-worker/{__version__}",
        }
        if self._base.scheme == "http":
            fields |= self._proxy_headers
        return "".join(f"{name}: {value}\r\n" for name, value in fields.items())
