"""What is looked at while a run lasts: how late the loop is, key files, lanes that are held, old jobs."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final

from permutive_worker.credentials import Keyring
from permutive_worker.delivery.expiry import Expiry
from permutive_worker.delivery.lane import Lane
from permutive_worker.delivery.lane_news import LaneNews
from permutive_worker.delivery.standstills import Standstills
from permutive_worker.delivery.trouble import Trouble
from permutive_worker.ports import Clock
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.logs import logger
from permutive_worker.telemetry.loop_lag import measure_loop_lag

KEY_LOOK_SECONDS: Final = 5.0  # how often a key file is looked at
LANE_LOOK_SECONDS: Final = 1.0  # so late is a time that passed noticed, in which no answer came


class Watch:
    """Its `works` run until they are cancelled."""

    def __init__(
        self,
        lanes: Mapping[str, Lane],
        keyring: Keyring,
        counts: Counts,
        trouble: Trouble,
        expiry: Expiry,
        standstills: Standstills | None,
        clock: Clock,
        cpu_seconds: Callable[[], float],
    ) -> None:
        """`cpu_seconds` is the processor time of the loop's thread; where time is not real it says 0.0."""
        self._lanes = lanes
        self._keyring = keyring
        self._counts = counts
        self._trouble = trouble
        self._expiry = expiry
        self._standstills = standstills
        self._clock = clock
        self._news = LaneNews()
        self._looked_at = clock.monotonic()
        self._read_cpu_seconds = cpu_seconds
        self._cpu_seconds = cpu_seconds()
        self._asked = asyncio.Event()  # to look at the key files

    @property
    def works(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """What is to run side by side."""
        return [lambda: measure_loop_lag(self._loop_was_late), self._watch_keys, self._watch_lanes]

    def _loop_was_late(self, lag_seconds: float) -> None:
        self._counts.event_loop_lag.observe(lag_seconds)
        busy = self._busy_since_last_look()
        for lane in self._lanes.values():
            lane.loop_was_late(lag_seconds, busy)

    def _busy_since_last_look(self) -> float:
        """The share of the time that the loop's thread had something to do, and a processor to do it."""
        now, cpu_seconds = self._clock.monotonic(), self._read_cpu_seconds()
        busy_seconds, seconds = cpu_seconds - self._cpu_seconds, now - self._looked_at
        self._looked_at, self._cpu_seconds = now, cpu_seconds
        return busy_seconds / seconds if seconds > 0 else 0.0

    def look_at_keys(self) -> None:
        """Look at the key files now, and not only when it is time to."""
        self._asked.set()

    async def _watch_keys(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(KEY_LOOK_SECONDS):
                    await self._asked.wait()
            self._asked.clear()
            if await asyncio.to_thread(self._keyring.refresh):
                logger().info("credentials.reloaded")
                for lane in self._lanes.values():
                    lane.key_changed()

    async def _watch_lanes(self) -> None:
        while True:
            await asyncio.sleep(LANE_LOOK_SECONDS)
            self._trouble.look()
            now = self._clock.monotonic()
            self._expiry.look(self._lanes.values(), now)
            self._news.look(self._lanes.values())
            if self._standstills is not None:
                self._standstills.look(self._lanes.values(), now)
