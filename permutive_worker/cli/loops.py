"""The loop of a command, and an end of it that waits for nothing that can hang.

`asyncio.run` cancels what is left once and waits for it, then for threads, then for names that are looked up: a
resolver that does not answer holds the last two for half a minute and more.
"""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from threading import Thread
from typing import Any, Final, TypeVar

END_SECONDS: Final = 1.0  # everything was closed before: what still waits then waits for somebody who is gone
CANCEL_SECONDS: Final = 0.2  # libraries that use asyncio.wait_for swallow a cancellation (Python before 3.12)

Result = TypeVar("Result")
MakeLoop = Callable[[], asyncio.AbstractEventLoop]


def loop_factory() -> MakeLoop | None:
    try:
        import uvloop
    except ImportError:  # not on this platform: asyncio's own loop does
        return None
    return uvloop.new_event_loop


def run_in_loop(work: Coroutine[Any, Any, Result], make_loop: MakeLoop | None = None) -> Result:
    """Return what it returns. What does not end with it is left to the end of the process: see `leave` in `main.py`."""
    runner = asyncio.Runner(loop_factory=make_loop)
    loop = runner.get_loop()
    try:
        return runner.run(work)
    finally:
        loop.run_until_complete(_end(loop))
        asyncio.set_event_loop(None)
        closing = Thread(target=_close, args=(loop,), name="loop-close", daemon=True)
        closing.start()
        closing.join(END_SECONDS)


async def _end(loop: asyncio.AbstractEventLoop) -> None:
    left, given_up_at = asyncio.all_tasks() - {asyncio.current_task()}, loop.time() + END_SECONDS
    while left and loop.time() < given_up_at:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_SECONDS)
    with suppress(TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            await loop.shutdown_asyncgens()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
        if loop.remove_signal_handler(number):  # here, for only a loop that runs does, and in this thread
            signal.signal(number, _too_late)


def _too_late(_number: int, _frame: object) -> None:
    """What ended so far has its exit code."""


def _close(loop: asyncio.AbstractEventLoop) -> None:
    with suppress(RuntimeError):  # a thread had news for it
        loop.close()
