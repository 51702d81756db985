"""The sandbox as a server: the imitation behind a listening socket, with its latency and its log.

A protocol of its own (`connection`, `wire`) instead of a web framework: aiohttp's low-level server takes 60 µs
for a request, five times what the imitation needs for it, and will not break an answer on purpose.
"""

import asyncio
import time
from asyncio import Server, TimerHandle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Self

from permutive_worker.sandbox.connection import Connection, Reply
from permutive_worker.sandbox.console import PREFIX, Console
from permutive_worker.sandbox.imitation import Exchange, Imitation
from permutive_worker.sandbox.journal import Journal
from permutive_worker.sandbox.options import SandboxOptions
from permutive_worker.sandbox.wire import Request

_BACKLOG: Final = 1024  # connections that may wait to be accepted: a client may open hundreds at once
_CLOSE_SECONDS: Final = 1  # for a client to read what was written to it


class Sandbox:
    """The imitation on a socket.

    `async with Sandbox(options) as sandbox:` starts it on a free port of this machine.

    Args:
        log: is given a line for each second with requests in it; none logs nothing.
        log_requests: give it a line for each request as well.

    """

    def __init__(
        self,
        options: SandboxOptions | None = None,
        *,
        log: Callable[[str], None] | None = None,
        log_requests: bool = False,
    ) -> None:
        options = options or SandboxOptions()
        self.imitation = Imitation(options)
        self.url = ""
        self._latency_seconds = options.latency_seconds
        self._log = log
        self._log_requests = log_requests
        self._console = Console(self.imitation)
        self._journal = Journal()
        self._connections: set[Connection] = set()
        self._server: Server | None = None
        self._ticker: TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Sandbox({self.url or 'not started'}, {self.imitation.ledger!r})"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; `url` says where.

        Raises:
            OSError: the address cannot be had, for one because the port is in use.

        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connected, host, port, backlog=_BACKLOG)
        bound = self._server.sockets[0].getsockname()[1]
        self.url = f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"
        if self._log:
            self._ticker = loop.call_later(1, self._tick)

    async def close(self) -> None:
        """Stop listening and end every connection, also those that wait. May be called twice."""
        if self._ticker:
            self._ticker.cancel()
        if self._server:
            self._server.close()
            await self._end_connections()
            await self._server.wait_closed()
            self._server = None

    async def _end_connections(self) -> None:
        open_ones = tuple(self._connections)
        for connection in open_ones:
            connection.close()
        if open_ones:
            await asyncio.wait([connection.closed for connection in open_ones], timeout=_CLOSE_SECONDS)
        for connection in tuple(self._connections):
            connection.abort()

    def summary(self) -> dict[str, Any]:
        """Return what GET `/_sandbox/ledger` answers."""
        return self._console.summary()

    def _connected(self) -> Connection:
        return Connection(self._respond, self._connections)

    def _respond(self, request: Request) -> Reply:
        if request.target.startswith(PREFIX):
            return Reply(self._console.receive(request.method, request.target, request.body))
        exchange = self.imitation.receive(
            request.method, request.target, request.key, request.body, time.monotonic()
        )
        if self._log_requests:
            self._log_exchange(exchange)
        return Reply(exchange.answer, self._latency_seconds, exchange.fault.kind)

    def _tick(self) -> None:
        line = self._journal.line(self.imitation.ledger, _time_of_day())
        if line and self._log:
            self._log(line)
        self._ticker = asyncio.get_running_loop().call_later(1, self._tick)

    def _log_exchange(self, exchange: Exchange) -> None:
        if self._log:
            words = [_time_of_day(), exchange.kind, str(exchange.answer.status or "no answer")]
            words += [exchange.fault.kind] * bool(exchange.fault.kind) + ["taken"] * exchange.taken
            self._log("  ".join(words))


def _time_of_day() -> str:
    return datetime.now(UTC).astimezone().strftime("%H:%M:%S")
