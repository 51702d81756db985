"""The lean wire: one attempt through the connector and the parser of aiohttp, without what is between them.

`session.request` builds a request, a response, timers and contexts for each call; that is four fifths of
what an attempt costs. Here the bytes of a request are one format string, and connections are held between
attempts, the last one used first, so that few are kept warm and the others age out. DNS, happy eyeballs,
TLS, proxies and the parsing of answers stay aiohttp's; but what its connector has made speaks to `_Held`
from then on, which hands each byte to the parser, and a whole answer to the attempt that waits for it.

All names of aiohttp that its documentation does not promise are in this file, but for two in `plain`: `Connector.connect` with
three arguments, `ClientRequest`, `Connection.protocol`, of that `transport`, `connection_lost` and
`should_close`, the arguments of `HttpResponseParser`, and what its bodies ask of a protocol: `connected`,
`pause_reading`, `resume_reading` and, before 3.14, `_reading_paused`. They are the same in aiohttp 3.12 to
3.14, and `misfit` says where they were not tried. An answer that a server sends on an idle connection (a
408, say) is dropped with the connection; `session.request` hands it to the next request.
"""

import asyncio
import re
from collections import deque
from typing import Final, cast

import aiohttp
from aiohttp.base_protocol import BaseProtocol
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_parser import HttpResponseParser, HttpResponseParserPy, RawResponseMessage
from multidict import CIMultiDict
from yarl import URL

from permutive_worker.credentials import Credentials
from permutive_worker.errors import TransportError
from permutive_worker.http.plain import (
    KEEPALIVE_SECONDS,
    MAX_BODY_BYTES,
    Connector,
    connect_error,
    proxy_authorization,
)
from permutive_worker.http.request_bytes import RequestBytes
from permutive_worker.http.sweep import Sweep
from permutive_worker.model import Request, Response

TESTED: Final = ((3, 12), (3, 14))  # the oldest and the newest aiohttp that passed tests/contract
MAX_AGE_SECONDS: Final = 60.0  # of a connection: a change of the host's address is noticed so soon
PIECE_BYTES: Final = 4096  # unpacked at once: 4 MB at most; aiohttp 3.13.0 sets no bound of its own


def misfit() -> str | None:
    """Say why this wire was not tried with the aiohttp that is installed; None: it was."""
    version = tuple(int(part) for part in re.findall(r"\d+", aiohttp.__version__)[:2])
    if not TESTED[0] <= version <= TESTED[1]:
        oldest, newest = (".".join(map(str, one)) for one in TESTED)
        return f"aiohttp {aiohttp.__version__} is not one of {oldest} to {newest}"
    if HttpResponseParser is HttpResponseParserPy:
        return "aiohttp's parser in C is not there"  # the other one waits for ever on garbage
    return None


def _can_skim() -> bool:
    """Whether a parser that is told of no bodies is ready for the next head after each; in some 3.14 and later."""
    parser = HttpResponseParser(None, asyncio.get_running_loop(), 1, response_with_body=False)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    try:
        return all(len(parser.feed_data(head)[0]) == 1 for _ in range(2))
    except Exception:  # noqa: BLE001  (it did something else with what came behind the first head)
        return False


class _Held(asyncio.Protocol):
    """An open connection, taken over from aiohttp's protocol: one answer for each request.

    Most answers come in one piece, with a length and not packed. Those are skimmed: the parser reads the head,
    and what follows it is the body. From the first answer that is not so all pass the parser, for 2 µs more.

    Attributes:
        made_at, idle_since, deadline: seconds of the loop's clock.
        spoilt: it must not be used again.
    """

    connected = True  # what a body asks before it waits; nobody waits for these
    _reading_paused = False

    def __init__(
        self, connection: aiohttp.connector.Connection, handler: ResponseHandler, now: float, *, skims: bool
    ) -> None:
        self.connection = connection
        self.transport = cast("asyncio.Transport", handler.transport)
        self.made_at = self.idle_since = self.deadline = now
        self.spoilt = False
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Response] | None = None  # what the attempt waits for
        self._message: RawResponseMessage | None = None  # the head of its answer
        self._content: aiohttp.StreamReader | None = None  # and the body, as it comes
        self._skims = skims
        self._renew_parser(with_body=not skims)
        self.transport.set_protocol(self)

    def _renew_parser(self, *, with_body: bool) -> None:
        """Forget what was read before. Not for each answer: it costs 2 µs."""
        self._parser = HttpResponseParser(
            cast("BaseProtocol", self),
            self._loop,
            MAX_BODY_BYTES,
            payload_exception=aiohttp.ClientPayloadError,
            response_with_body=with_body,
            read_until_eof=True,
            auto_decompress=with_body,
        )

    def exchange(self, data: bytes, *, with_body: bool = True) -> asyncio.Future[Response]:
        """Send a request and return its answer to be; that raises TransportError."""
        self._answer = answer = self._loop.create_future()
        if not with_body:  # the parser would wait for what the answer to a HEAD promises
            self._skims, self.spoilt = False, True
            self._renew_parser(with_body=False)
        self.transport.write(data)
        return answer

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None or answer.done():
            self.spoilt = True  # nobody asked for it: it must not become the next one's
            return
        try:
            if not (self._skims and self._skim(data, answer)):
                # The head apart: its status decides, even if what is behind it is none of a body.
                body_at = data.find(b"\r\n\r\n") + 4
                self._read(data[:body_at], answer)
                for at in range(body_at, len(data), PIECE_BYTES):
                    self._read(data[at : at + PIECE_BYTES], answer)
        except Exception:  # noqa: BLE001  (whatever it is, these bytes are no answer)
            self.transport.close()
            self._fail("protocol")

    def _skim(self, data: bytes, answer: asyncio.Future[Response]) -> bool:
        """Whether this was a whole answer of the usual form: then that is all there is to do."""
        body_at = data.find(b"\r\n\r\n") + 4
        try:
            answers, _, _ = self._parser.feed_data(data[:body_at])
        except Exception:  # noqa: BLE001  (that was not the end of the head: it has lines without CR)
            answers = []
        if len(answers) == 1:
            message = answers[0][0]
            length = message.headers.get("Content-Length")
            if (
                length is not None
                and message.code >= 200
                and int(length) == len(data) - body_at
                and not (message.compression or message.chunked)
            ):
                self.spoilt = message.should_close
                self._answer = None
                answer.set_result(Response(message.code, message.headers, data[body_at:]))
                return True
        self._skims = False
        self._renew_parser(with_body=True)
        return False

    def _read(self, data: bytes, answer: asyncio.Future[Response]) -> None:
        if answer.done():  # and there is more
            self.spoilt = True
            return
        answers, _, _ = self._parser.feed_data(data)
        for message, content in answers:
            if self._message is not None:  # a second one
                self.spoilt = True
                break
            if 100 <= message.code < 200 and message.code != 101:  # the answer is yet to come
                continue
            self._message, self._content = message, content
            self.spoilt |= message.should_close or message.code == 101
        if self._content is not None:
            self._look_at(self._content)

    def _look_at(self, content: aiohttp.StreamReader) -> None:
        """It may be all there, or more than is wanted."""
        if content.exception() is not None:  # it could not be unpacked
            self._finish(b"", truncated=True)
        elif content.is_eof() or content.total_bytes > MAX_BODY_BYTES or self._reading_paused:
            body = content.read_nowait()
            self._finish(body[:MAX_BODY_BYTES], truncated=len(body) > MAX_BODY_BYTES or not content.is_eof())

    def _finish(self, body: bytes, *, truncated: bool) -> None:
        answer, message = self._answer, self._message
        self._answer = self._message = self._content = None
        if answer is None or answer.done() or message is None:
            return
        self.spoilt = self.spoilt or truncated or self._has_begun_another()
        if message.chunked:  # trailers stay in the parser, which takes them for fields of its next answer
            self._renew_parser(with_body=True)
        answer.set_result(Response(message.code, message.headers, body, truncated))

    def _has_begun_another(self) -> bool:
        """Whether the parser holds half a head, which the next answer would complete."""
        try:  # between two answers these bytes are nothing
            return bool(self._parser.feed_data(b"\r\n\r\n")[0])
        except Exception:  # noqa: BLE001
            return True

    def connection_lost(self, error: Exception | None) -> None:
        self._handler.connection_lost(error)  # for the connector, which does not know of us
        if self._content is not None and error is None:
            try:
                self._parser.feed_eof()  # the proper end of an answer that says no length
                self._look_at(self._content)
            except Exception:  # noqa: BLE001, S110  (half an answer, which is what `_fail` makes of it)
                pass
        self._fail("disconnected" if error is None else "reset")
        self.__dict__.pop("_parser", None)  # each holds the other

    def expire(self) -> None:
        """The time of the attempt is over."""
        self._fail("timeout")

    def _fail(self, kind: str) -> None:
        self.spoilt = True
        if self._message is not None:  # its status was read, and decides
            self._finish(b"", truncated=True)
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(TransportError(kind, sent=True))

    def pause_reading(self) -> None:
        """A body is far longer than what is kept of it, or in a chunk for each few bytes."""
        self._reading_paused = True
        if hasattr(self._parser, "pause_reading"):  # since 3.14: it unpacks no more of what it has
            self._parser.pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Never: nothing of such an answer is read any more."""

    def hand_back(self) -> None:
        """Give it to the session's pool."""
        self.transport.set_protocol(self._handler)
        self.connection.release()
        self.__dict__.pop("_parser", None)  # each holds the other

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
        self._timeout_seconds = timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._idle: deque[_Held] = deque()  # the last one was used last
        self._busy: set[_Held] = set()
        self._waiting = 0
        self._skims = _can_skim()
        self._sweep = Sweep(self._end_late)
        self._closed = False
        self._proxy: URL | None = None
        self._proxy_headers: dict[str, str] = {}
        if proxy is not None:
            self._proxy = URL(proxy).with_user(None)
            self._proxy_headers = proxy_authorization(URL(proxy))
        self._bytes = RequestBytes(
            self._base,
            self._target().headers,
            credentials,
            # Over TLS the proxy's password is in the CONNECT only.
            self._proxy_headers if self._proxy is not None and self._base.scheme == "http" else None,
        )

    def __repr__(self) -> str:
        return f"<LeanWire {self._base.origin()} idle={len(self._idle)}>"

    async def send(self, request: Request) -> Response:
        """Send one attempt; see `ports.Wire.send`.

        Units: at most `timeout_seconds` + 0.1 s, connecting included.

        Raises:
            ValueError: method, path or key hold what would break the request; it holds none of them.
        """
        data = self._bytes.of(request)
        now = self._loop.time()
        deadline = now + self._timeout_seconds
        held = self._take(now) or await self._connect(deadline)
        held.deadline = deadline
        self._busy.add(held)
        if not self._sweep.runs:
            self._sweep.start()
        try:
            response = await held.exchange(data, with_body=request.method != "HEAD")
        except BaseException:
            held.abort()
            raise
        finally:
            self._busy.discard(held)
        if not self._keep(held):
            held.abort()
        return response

    def close(self) -> None:
        """Close the idle connections; those in use close when their attempt ends."""
        self._closed = True
        if not self._busy:
            self._sweep.stop()
        while self._idle:
            self._idle.pop().connection.close()

    def _end_late(self, now: float) -> bool:
        idle = self._idle
        for held in self._busy:
            if held.deadline <= now:
                held.expire()
        while idle and idle[0].idle_since <= now - KEEPALIVE_SECONDS:
            idle.popleft().connection.close()
        return bool(self._busy or idle)

    def _take(self, now: float) -> _Held | None:
        """Return the connection that was used last, if it is still good."""
        idle = self._idle
        while idle:
            held = idle.pop()
            # Closed by the server, or spoken on.
            if not (held.spoilt or held.transport.is_closing()) and now - held.idle_since < KEEPALIVE_SECONDS:
                return held
            held.connection.close()
        return None

    def _keep(self, held: _Held) -> bool:
        """Hold it for the next attempt, unless it must not be used again."""
        now = self._loop.time()
        if (
            held.spoilt
            or held.transport.get_write_buffer_size()  # answered before it had read all
            or held.made_at < now - MAX_AGE_SECONDS
            or self._closed
        ):
            return False
        if self._waiting:  # the session's pool hands it on
            held.hand_back()
            return True
        held.idle_since = now
        self._idle.append(held)
        return True

    async def _connect(self, deadline: float) -> _Held:
        connector, task = self._session.connector, asyncio.current_task()
        waits = connector is not None and connector.limit > 0  # for a free connection, perhaps
        self._waiting += waits
        try:
            async with asyncio.timeout_at(deadline):
                return await self._open()
        except (aiohttp.ClientError, OSError) as error:  # aiohttp's texts hold the URL
            raise connect_error(error, proxied=self._proxy is not None) from None
        finally:
            self._waiting -= waits
            if isinstance(connector, Connector) and task is not None:
                connector.forget(task)  # what the plain wire asks; here it is known anyway

    async def _open(self) -> _Held:
        connector = self._session.connector
        if connector is None:
            raise aiohttp.ClientConnectionError
        connection = await connector.connect(self._target(), traces=[], timeout=self._session.timeout)
        protocol = connection.protocol
        if protocol is None or connection.closed or protocol.should_close:  # closed or spoken on already
            connection.close()
            raise aiohttp.ClientConnectionError
        return _Held(connection, protocol, self._loop.time(), skims=self._skims)

    def _target(self) -> aiohttp.ClientRequest:
        """Return what the connector wants; a new one each time, as it writes to the headers of a proxy."""
        return aiohttp.ClientRequest(
            "POST",
            self._base,
            session=self._session,
            proxy=self._proxy,
            proxy_headers=CIMultiDict(self._proxy_headers) if self._proxy is not None else None,
        )
