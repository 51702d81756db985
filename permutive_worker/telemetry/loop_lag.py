"""How late the event loop runs its timers: the first sign of a loop that is blocked or has too much to do."""

import asyncio
from collections.abc import Callable
from typing import Final

SAMPLE_SECONDS: Final = 0.05


async def measure_loop_lag(on_sample: Callable[[float], None]) -> None:
    """Tell the lag in seconds, twenty times a second, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + SAMPLE_SECONDS
        await asyncio.sleep(SAMPLE_SECONDS)
        on_sample(max(0.0, loop.time() - due))
