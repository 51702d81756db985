"""Looks host names up in threads that nobody waits for at the exit.

Why not the loop's own `getaddrinfo`: a resolver that does not answer holds its thread for half a minute,
and loop and interpreter wait for their threads when they end. A look-up is rare: aiohttp keeps its answer.
Source: getaddrinfo(3).
"""

import asyncio
import socket
from contextlib import suppress
from threading import Thread

from aiohttp.abc import AbstractResolver, ResolveResult


class Names(AbstractResolver):
    """A resolver for aiohttp's connector."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host, the best first.

        Raises:
            OSError: it has none.

        Cancellation: at once; the thread ends when the system's resolver does.
        """
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[ResolveResult]] = loop.create_future()

        def look_up() -> None:
            answer = _addresses_or_error(host, port, family)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_give, found, answer)

        Thread(target=look_up, name="names", daemon=True).start()
        return await found

    async def close(self) -> None:
        """Nothing to close."""


def _give(found: "asyncio.Future[list[ResolveResult]]", answer: list[ResolveResult] | OSError) -> None:
    if found.done():  # cancelled
        return
    if isinstance(answer, OSError):
        found.set_exception(answer)
    else:
        found.set_result(answer)


def _addresses_or_error(host: str, port: int, family: int) -> list[ResolveResult] | OSError:
    try:
        return _addresses(host, port, family)
    except OSError as error:
        return error
    except UnicodeError:  # a label that is empty or too long
        return OSError(0, "it is no host name")


def _addresses(host: str, port: int, family: int) -> list[ResolveResult]:
    infos = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [
        ResolveResult(
            hostname=host,
            # With the scope of a link-local address, which the address alone does not have.
            host=socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0],
            port=port,
            family=kind,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for kind, _, protocol, _, address in infos
    ]
