"""How late the event loop runs its timers: the first sign of a blocked loop."""

import asyncio
from typing import Final

from permutive_worker.telemetry.counts import Histogram

SAMPLE_SECONDS: Final = 0.25


async def measure_loop_lag(histogram: Histogram) -> None:
    """Observe until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + SAMPLE_SECONDS
        await asyncio.sleep(SAMPLE_SECONDS)
        histogram.observe(max(0.0, loop.time() - due))
