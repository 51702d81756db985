"""The link to a broker: connects, connects again with growing waits, and tells of it once."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from permutive_worker.control.backoff import Backoff
from permutive_worker.errors import LinkError, UnreachableError, WorkerError
from permutive_worker.telemetry.logs import logger

CONNECT_SECONDS: Final = 10.0  # one try; also how long a start waits for a broker that starts beside it
# A broker that was restarted is back in a second; one that is gone for hours is asked every 2.5 s.
BACKOFF: Final = Backoff(initial_seconds=0.2, factor=2.0, max_seconds=5.0)


class Link:
    """Whether the broker can be reached.

    Whoever uses it waits for `up`, and reports a break as `lost(generation, …)`; several reports of one
    break, also late ones, are one.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[None]], where: str, dice: Callable[[], float] = random.random
    ) -> None:
        """`where` must hold no password: it is told."""
        self._connect = connect
        self._where = where
        self._dice = dice
        self._generation = 0
        self._is_up = asyncio.Event()
        self._broken = asyncio.Event()

    @property
    def is_away(self) -> bool:
        return not self._is_up.is_set()

    async def open(self) -> None:
        """Connect; one that cannot be reached is tried for CONNECT_SECONDS.

        Raises:
            UnreachableError, ConfigurationError: as the broker's `connect`.
        """
        last = UnreachableError(f"{self._where} does not answer within {CONNECT_SECONDS:g} s")
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                for failures in range(1, 1000):
                    try:
                        await self._connect()
                        break
                    except (UnreachableError, LinkError) as error:
                        last = UnreachableError(str(error))
                    await asyncio.sleep(BACKOFF.seconds(failures, self._dice()))
        except TimeoutError:
            raise last from None
        self._came_up()

    async def up(self) -> int:
        """Wait until it is there; returns the generation of this link, for `lost`."""
        await self._is_up.wait()
        return self._generation

    def lost(self, generation: int, error: Exception) -> None:
        """A call on the link of that generation found it broken."""
        if generation != self._generation or self.is_away:
            return
        self._is_up.clear()
        self._broken.set()
        logger().warning("source.away", broker=self._where, reason=str(error))

    async def run(self) -> None:
        """Connect again whenever it is lost, until cancelled."""
        while True:
            await self._broken.wait()
            self._broken.clear()
            await self._reconnect()
            self._came_up()
            logger().info("source.back", broker=self._where)

    async def _reconnect(self) -> None:
        failures, told = 0, ""
        while True:
            failures += 1
            await asyncio.sleep(BACKOFF.seconds(failures, self._dice()))
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._connect()
                return
            except (LinkError, UnreachableError, TimeoutError):
                continue
            except WorkerError as error:  # it answers, and refuses: a person must know, once for each reason
                if told != str(error):
                    told = str(error)
                    logger().warning("source.refused", broker=self._where, reason=told)

    def _came_up(self) -> None:
        self._generation += 1
        self._is_up.set()
