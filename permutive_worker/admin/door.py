"""What keeps whoever knocks at the admin server from costing the delivery anything that matters.

connections    64; one more, and the oldest goes: silent ones cannot lock a probe out
bytes          a small buffer each; what is no HTTP is answered with 400, and leaves no log line and no memory
requests       a budget for each second; beyond it answers come late
Host           at loopback only names of this machine: a page of another site cannot read through a name
               of its own that leads here (DNS rebinding)
"""

import asyncio
import ipaddress
import logging
import socket
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.http import HttpProcessingError
from aiohttp.typedefs import Handler

MOST_CONNECTIONS: Final = 64  # four times the most viewers; the worker needs its descriptors for the API
BUDGET: Final = 1000  # a second: 100 scrapes, far more than anybody needs who watches
WAIT_SECONDS: Final = 0.5  # with MOST_CONNECTIONS a bound on what comes beyond the budget: 128 a second
_RECEIVE_BYTES: Final = (
    16384  # twice the longest header; by itself a system keeps megabytes for who sends fast
)
_DEAR: Final = {"/metrics": 10, "/status": 10}  # times a probe


class Door:
    """Stands before every request.

    Args:
        host: that is listened on.
    """

    def __init__(self, host: str) -> None:
        self._is_loopback = is_loopback(host)
        self._second = 0
        self._spent = 0  # in that second

    def narrow(self, listening: asyncio.Server) -> None:
        """Bound what a connection may send ahead; those it accepts inherit it."""
        for one in listening.sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)

    def protocol(self, server: web.Server) -> asyncio.BaseProtocol:
        """Make room for a connection, and return its protocol."""
        for oldest in server.connections[: max(0, len(server.connections) - MOST_CONNECTIONS + 1)]:
            if oldest.transport is not None:
                oldest.transport.abort()
        return server()

    async def enter(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The middleware."""
        host = request.headers.get(hdrs.HOST)  # None: no browser
        if self._is_loopback and host is not None and not is_unmistakable(host):
            raise web.HTTPForbidden(text="ask for it by its address, or as localhost\n")
        if self._spend(_DEAR.get(request.path, 1)) > BUDGET:
            await asyncio.sleep(WAIT_SECONDS)
        return await handler(request)

    def _spend(self, cost: int) -> int:
        """Return what was spent in this second."""
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._second, self._spent = second, 0
        self._spent += cost
        return self._spent


class Unread(logging.LoggerAdapter[logging.Logger]):
    """Says nothing of what a client sent that is no HTTP: it would fill the log, and memory.

    The frames of such an error hold what came, and it holds them: a ring for the garbage collector, which is
    set to look seldom.
    """

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        error = kwargs.get("exc_info")
        if isinstance(error, HttpProcessingError):
            error.__traceback__ = None
        else:
            super().log(level, msg, *args, **kwargs)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on this host."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def is_unmistakable(host: str) -> bool:
    """Whether a Host, with or without a port, is an address or localhost, which no DNS server can redirect."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    name = name.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost") or _address(name) is not None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
