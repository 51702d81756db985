"""The plain wire: one attempt through `aiohttp.ClientSession.request`.

Known of aiohttp 3.10 to 3.14: an answer that a server sends on an idle connection (a 408, say) is
handed to the next request on it. Idle connections are dropped after 10 s to make that rare. And a session
sends a GET or DELETE again by itself; ours (`open_session`) does not. Of aiohttp's names that are not public this
file uses `TCPConnector._create_connection` and `ClientSession._retry_connection`.
"""

import asyncio
import base64
import math
import ssl
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from permutive_worker import __version__
from permutive_worker.credentials import Credentials
from permutive_worker.errors import TransportError
from permutive_worker.http.handshake import shake_hands
from permutive_worker.http.names import Names
from permutive_worker.http.sweep import Sweep
from permutive_worker.http.tls import trusting
from permutive_worker.model import Request, Response

MAX_BODY_BYTES: Final = 256 * 1024  # of an answer; what is beyond is not read
KEEPALIVE_SECONDS: Final = 10  # shorter than any server's, or its close looks like a reset after sending
DNS_SECONDS: Final = 60  # a host that moves is found again so soon
MAX_CACHED_URLS: Final = 64  # the paths without an id; parsing one costs 5 µs

_CONNECT_KINDS: Final = {"connect", "connect_timeout", "dns", "tls", "proxy"}


def open_session(
    max_connections: int, timeout_seconds: float, tls: ssl.SSLContext | None = None
) -> aiohttp.ClientSession:
    """A session for the wires of all lanes: no cookies, no redirects, no `.netrc`, TLS verified.

    aiohttp's jar would hand one user's cookie to the next, and `trust_env` would send `.netrc`
    passwords to the API: proxies are passed explicitly instead. Must be called in a running loop.
    `max_connections` is 0 for no bound; `tls` says whose certificates are trusted (`http.tls`);
    None: those the system trusts.
    """
    session = aiohttp.ClientSession(
        connector=Connector(
            limit=max_connections,
            resolver=Names(),
            ttl_dns_cache=DNS_SECONDS,
            keepalive_timeout=KEEPALIVE_SECONDS,
            tls=tls,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        # Of one address of the host; the sweep ends the rest. Not rounded up to whole seconds.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeout_seconds, ceil_threshold=math.inf),
        trust_env=False,
    )
    # Else a GET or DELETE whose held connection breaks is sent again, past gate and count; no public name says so.
    session._retry_connection = False  # noqa: SLF001
    return session


class Connector(aiohttp.TCPConnector):
    """Remembers who failed, or was cancelled, before there was a connection: nothing of that request was sent.

    Costs nothing where a connection is used again.
    """

    def __init__(self, *, tls: ssl.SSLContext | None, **options: Any) -> None:
        super().__init__(ssl=tls or True, **options)
        self.tls = tls
        self._cut: set[asyncio.Task[Any] | None] = set()

    async def _create_connection(self, *arguments: Any, **named: Any) -> Any:
        try:  # names, TCP, TLS, the proxy
            return await super()._create_connection(*arguments, **named)
        except (asyncio.CancelledError, aiohttp.ClientError, OSError):
            self._cut.add(asyncio.current_task())
            raise

    def forget(self, task: asyncio.Task[Any]) -> bool:
        """Whether this task failed so; asked once."""
        cut = task in self._cut
        self._cut.discard(task)
        return cut


class Deadlines:
    """One sweep over what is in flight instead of a timer for each attempt.

    All deadlines are equally long, so insertion order is deadline order and a sweep looks at the
    late ones only. A late call's task is cancelled; `PlainWire.send` turns that into a timeout.
    A task has one call at a time.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._deadlines: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.get_running_loop()
        self._sweep = Sweep(self._end_late)

    def begin(self) -> asyncio.Task[Any]:
        task = asyncio.current_task(self._loop)
        assert task is not None  # noqa: S101  (a wire is awaited by a task)
        self._deadlines[task] = self._loop.time() + self._timeout_seconds
        if not self._sweep.runs:
            self._sweep.start()
        return task

    def end(self, task: asyncio.Task[Any]) -> None:
        del self._deadlines[task]
        self._late.discard(task)

    def is_timeout(self, task: asyncio.Task[Any]) -> bool:
        """Whether a cancellation that reached the call is the sweep's alone; then it is taken back."""
        return task in self._late and task.uncancel() == 0

    def _end_late(self, now: float) -> bool:
        for task, deadline in self._deadlines.items():
            if deadline > now:
                break
            if task not in self._late:
                self._late.add(task)
                task.cancel()
        return bool(self._deadlines)


class PlainWire:
    """A ports.Wire for one set of credentials at one host."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        credentials: Credentials,
        *,
        timeout_seconds: float,
        proxy: str | None = None,
        headers: Mapping[str, str] | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        """The key is looked up for each attempt, so a replaced one is used at once.

        `headers` go beside our own, or replace them; of an answer `max_body_bytes` are read.
        """
        self._session = session
        self._base = URL(base_url)
        self._credentials = credentials
        self._headers = CIMultiDict(
            {
                "Accept": "application/json",
                "Accept-Encoding": "gzip, deflate",
                "Content-Type": "application/json",
                "User-Agent": f"permutive-worker/{__version__}",
            }
        )
        self._headers.update(headers or {})
        self._max_body_bytes = max_body_bytes
        self._deadlines = Deadlines(timeout_seconds)
        self._timeout_seconds = timeout_seconds
        self._urls: dict[str, URL] = {}
        self._key = ""  # the one in the headers
        self._proxy = URL(proxy).with_user(None) if proxy is not None else None
        self._proxy_options: dict[str, Any] = {}
        if self._proxy is not None:
            authorization = proxy_authorization(URL(proxy or ""))
            self._proxy_options = {"proxy": self._proxy, "proxy_headers": authorization}
            if self._base.scheme == "http":  # the proxy reads the request itself; over TLS only the CONNECT
                self._headers.update(authorization)

    def __repr__(self) -> str:
        return f"<PlainWire {self._base.origin()}>"

    async def send(self, request: Request) -> Response:
        """Send one attempt; see `ports.Wire.send`.

        Units: at most `timeout_seconds` + 0.1 s, connecting included.
        """
        task = self._deadlines.begin()
        answer: aiohttp.ClientResponse | None = None
        try:
            answer = await self._session.request(
                request.method,
                self._urls.get(request.path) or self._url(request),
                data=request.body or None,
                headers=self._headers_for(request),
                allow_redirects=False,
                **self._proxy_options,
            )
            content = answer.content
            if content.is_eof() and content.total_bytes <= self._max_body_bytes:  # it came with the head
                return Response(answer.status, answer.headers, content.read_nowait())
            body, truncated = await read_body(content, self._max_body_bytes)
            if truncated:
                answer.close()
            return Response(answer.status, answer.headers, body, truncated)
        except asyncio.CancelledError:
            if answer is not None:
                answer.close()
            unsent = self._is_unsent(task)
            if not self._deadlines.is_timeout(task):
                raise
            if answer is not None:  # its status was read, and decides
                return Response(answer.status, answer.headers, b"", truncated=True)
            raise TransportError("connect_timeout" if unsent else "timeout", sent=not unsent) from None
        except (aiohttp.ClientError, OSError) as error:
            # aiohttp's texts hold the URL, and so `k=`.
            if self._is_unsent(task):
                raise connect_error(error, proxied=self._proxy is not None) from None
            raise transport_error(error) from None
        finally:
            self._deadlines.end(task)

    def _is_unsent(self, task: asyncio.Task[Any]) -> bool:
        connector = self._session.connector
        return isinstance(connector, Connector) and connector.forget(task)

    def _headers_for(self, request: Request) -> CIMultiDict[str]:
        if request.key_in_query:
            headers = self._headers.copy()
            headers.pop("X-API-Key", None)
            return headers
        if self._credentials.key is not self._key:
            self._key = self._headers["X-API-Key"] = self._credentials.key
        return self._headers

    def _url(self, request: Request) -> URL:
        if request.key_in_query:
            return self._join(request.path).update_query(k=self._credentials.key)
        url = self._join(request.path)
        if len(self._urls) < MAX_CACHED_URLS:
            self._urls[request.path] = url
        return url

    def _join(self, path: str) -> URL:
        return URL(str(self._base).rstrip("/") + path, encoded=True)

    async def reach(self) -> None:
        """Try once whether the host takes connections, by way of the proxy if there is one.

        Raises:
            UnreachableError: it does not; one sentence that says where and why.
        """
        connector = self._session.connector
        tls = connector.tls if isinstance(connector, Connector) else None
        headers = self._proxy_options.get("proxy_headers", {})
        await shake_hands(self._base, self._proxy, headers, tls or trusting(), self._timeout_seconds)


async def read_body(content: aiohttp.StreamReader, max_bytes: int) -> tuple[bytes, bool]:
    """Return the body, at most `max_bytes` of it, and whether that is not all of it.

    A status that was read decides, whatever happens to the body: this never raises for it.
    """
    body = bytearray()
    try:
        body += await content.readany()
        while not content.at_eof() and len(body) <= max_bytes:
            body += await content.readany()
    except (aiohttp.ClientError, OSError):
        return b"", True
    return bytes(body[:max_bytes]), len(body) > max_bytes or not content.at_eof()


def proxy_authorization(url: URL) -> dict[str, str]:
    """RFC 7617, from the user-info of the proxy's URL."""
    if url.user is None:
        return {}
    token = base64.b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
    return {"Proxy-Authorization": f"Basic {token}"}


def transport_error(error: BaseException) -> TransportError:
    """Translate at the border. Only what fails before the first byte is certainly not sent."""
    match error:
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return TransportError("proxy", sent=False)
        case aiohttp.ClientConnectorDNSError():
            return TransportError("dns", sent=False)
        case aiohttp.ClientSSLError():
            return TransportError("tls", sent=False)
        case aiohttp.ConnectionTimeoutError():
            return TransportError("connect_timeout", sent=False)
        case aiohttp.ClientConnectorError():
            return TransportError("connect", sent=False)
        case aiohttp.ServerDisconnectedError():
            return TransportError("disconnected", sent=True)
        case aiohttp.ServerTimeoutError() | TimeoutError():
            return TransportError("timeout", sent=True)
        case aiohttp.ClientOSError() | OSError():
            return TransportError("reset", sent=True)
    return TransportError("protocol", sent=True)


def connect_error(error: BaseException, *, proxied: bool) -> TransportError:
    """Translate what happened before there was a connection: names, TCP, TLS, the tunnel of a proxy."""
    kind = transport_error(error).kind
    if kind == "timeout":
        kind = "connect_timeout"
    elif kind not in _CONNECT_KINDS:  # whatever else breaks there
        kind = "proxy" if proxied else "connect"
    return TransportError(kind, sent=False)
