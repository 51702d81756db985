"""An event loop whose clock jumps to the next timer: seconds of waiting cost nothing."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.threads = 0  # at work for the loop: time stands still until they are done

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(None if self.threads and timeout != 0 else 0)
        if not ready and timeout:
            self.now += timeout
        return ready


class JumpLoop(asyncio.SelectorEventLoop):
    """`time()` starts at 0 and moves only when everybody sleeps."""

    def __init__(self) -> None:
        self._jumps = _JumpSelector()
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> "asyncio.Future[Any]":
        self._jumps.threads += 1
        work = super().run_in_executor(executor, func, *args)
        work.add_done_callback(self._thread_is_done)
        return work

    def _thread_is_done(self, _: "asyncio.Future[Any]") -> None:
        self._jumps.threads -= 1


def run_jumping(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=JumpLoop) as runner:
        return runner.run(work)
