"""Calls that block, in a thread of their own that no exit waits for."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")
_Call = tuple[Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class BlockingCalls:
    """Runs one call after the other. Why not an executor: Python waits for those at its exit, and a library
    that waits for a dead broker may take a minute.

    Attributes:
        kept: lives as long as the thread, which forgets it. For what blocks whoever forgets it last.
    """

    def __init__(self, name: str) -> None:
        self.kept: object = None
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._name = name
        self._is_begun = False

    async def run(self, function: Callable[[], Result]) -> Result:
        """Return what it returns. Cancellation: the call goes on, its result is nobody's."""
        return await self.start(function)

    def start(self, function: Callable[[], Result]) -> "asyncio.Future[Result]":
        if not self._is_begun:
            self._is_begun = True
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._calls.put((function, loop, future))
        return future

    def end(self) -> None:
        """The thread ends after the calls that were made."""
        if self._is_begun:
            self._is_begun = False
            self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            function, loop, future = call
            result, error = None, None
            try:
                result = function()
            except Exception as raised:  # noqa: BLE001  (raised where it was called)
                error = raised
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(_resolve, future, result, error)
            del call, function, future, result, error  # not kept until the next call
        self.kept = None


def _resolve(future: "asyncio.Future[Any]", result: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
