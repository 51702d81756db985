"""Waits for the API host at the start: a container may be up before its network is."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from permutive_worker.errors import UnreachableError
from permutive_worker.telemetry.logs import logger

WAIT_SECONDS: Final = 0.5  # between two tries
WARN_SECONDS: Final = 10.0  # between two warnings: a service may wait for days


class Reachable(Protocol):
    """A wire that can try whether its host takes connections; see `PlainWire.reach`."""

    async def reach(self) -> None: ...


async def wait_until_reachable(
    wire: Reachable, patience_seconds: float | None, until_stopped: Callable[[], Awaitable[None]]
) -> None:
    """Return when the host takes connections, or at once when the run is stopped.

    Raises:
        UnreachableError: it did not for `patience_seconds`; None waits for ever.
    """
    async with asyncio.TaskGroup() as group:
        trying = group.create_task(_try(wire, patience_seconds))
        stopped = group.create_task(_wait(until_stopped))
        await asyncio.wait((trying, stopped), return_when=asyncio.FIRST_COMPLETED)
        trying.cancel()
        stopped.cancel()
    if not trying.cancelled() and (error := trying.result()):
        raise error


async def _wait(until: Callable[[], Awaitable[None]]) -> None:
    await until()


async def _try(wire: Reachable, patience_seconds: float | None) -> UnreachableError | None:
    """Return the error instead of raising it, for a group would wrap it."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    warn_at = began
    while True:
        try:
            await wire.reach()
            return None
        except UnreachableError as error:
            now = loop.time()
            if patience_seconds is not None and now - began >= patience_seconds:
                return UnreachableError(
                    f"{error}; it was tried for {patience_seconds:g} s, and nothing was read"
                )
            if now >= warn_at:
                warn_at = now + WARN_SECONDS
                logger().warning("host.unreachable", reason=str(error))
        await asyncio.sleep(WAIT_SECONDS)
