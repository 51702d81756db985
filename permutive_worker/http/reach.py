"""Waits for the API host at the start: a container may be up before its network is."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from permutive_worker.errors import UnreachableError
from permutive_worker.telemetry.logs import logger

WAIT_SECONDS: Final = 0.5  # between two tries


class Reachable(Protocol):
    """A wire that can try whether its host takes connections; see `PlainWire.reach`."""

    async def reach(self) -> None: ...


async def wait_until_reachable(
    wire: Reachable, patience_seconds: float | None, is_stopped: Callable[[], bool]
) -> None:
    """Return when the host takes connections, or when the run is stopped.

    Raises:
        UnreachableError: it did not for `patience_seconds`; None waits for ever.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not is_stopped():
        try:
            await wire.reach()
            return
        except UnreachableError as error:
            if is_stopped():
                return
            if patience_seconds is not None and loop.time() - began >= patience_seconds:
                raise
            logger().warning("host.unreachable", reason=str(error))
        await asyncio.sleep(WAIT_SECONDS)
