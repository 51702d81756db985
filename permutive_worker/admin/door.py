"""What keeps whoever knocks at the admin server from costing the delivery anything that matters.

connections    64; one more, and the oldest goes: silent ones cannot lock a probe out
requests       a budget for each second; beyond it answers come late, and dear ones not at all
Host           at loopback only names of this machine: a page of another site cannot read through a name
               of its own that leads here (DNS rebinding)
"""

import asyncio
import ipaddress
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

MOST_CONNECTIONS: Final = 64  # four times the most viewers; the worker needs its descriptors for the API
BUDGET: Final = 200  # a second; measured, 32 clients that ask for /status without end cost 1 % of a core
WAIT_SECONDS: Final = 0.5  # with MOST_CONNECTIONS a bound on what comes beyond the budget
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
        cost = _DEAR.get(request.path, 1)
        if self._spend(cost) > BUDGET:
            await asyncio.sleep(WAIT_SECONDS)
            if cost > 1:
                raise web.HTTPServiceUnavailable(text="asked too often\n", headers={hdrs.RETRY_AFTER: "1"})
        return await handler(request)

    def _spend(self, cost: int) -> int:
        """Return what was spent in this second."""
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._second, self._spent = second, 0
        self._spent += cost
        return self._spent


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
