"""Messages that were fetched and not yet received: bounded by count and bytes."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from permutive_worker.model import Delivery

MAX_COUNT: Final = (
    512  # what a worker that is slow keeps from others; a fetch of 200 is as cheap as one of 2,000
)
MAX_BYTES: Final = 1024 * 1024


class Prefetch:
    """Handed over between the task that fetches and `receive`. Cancellation: safe, nothing is half taken."""

    def __init__(self, max_count: int = MAX_COUNT, max_bytes: int = MAX_BYTES) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._messages: deque[Delivery] = deque()
        self._bytes = 0
        self._mean_bytes = 1.0  # of the messages so far, decaying
        self._closed = False
        self._error: Exception | None = None
        self._came = asyncio.Event()
        self._left = asyncio.Event()

    def __len__(self) -> int:
        return len(self._messages)

    async def room(self) -> int:
        """Wait until at least half of it is free, and return how many messages to fetch.

        Half, so that a fetch is worth its round trip. How large the messages will be is guessed from
        those before: one may overshoot.
        """
        while not self._closed and not self._is_half_free():
            self._left.clear()
            await self._left.wait()
        by_bytes = int((self._max_bytes - self._bytes) / self._mean_bytes)
        return max(1, min(self._max_count - len(self._messages), by_bytes))

    def _is_half_free(self) -> bool:
        return 2 * len(self._messages) <= self._max_count and 2 * self._bytes <= self._max_bytes

    def put(self, messages: Iterable[Delivery]) -> None:
        """Add messages, also beyond the bound: they are here."""
        for message in messages:
            size_bytes = len(message.raw)
            self._bytes += size_bytes
            self._mean_bytes += (size_bytes - self._mean_bytes) / 64
            self._messages.append(message)
        self._came.set()

    async def take(self, max_bytes: int) -> Sequence[Delivery]:
        """Wait for messages and return about `max_bytes` of them, one at least; `()` once closed.

        Raises:
            Exception: what `fail` was given, once.
        """
        while not self._messages and not self._closed:
            self._came.clear()
            await self._came.wait()
        if self._error is not None and not self._messages:
            error, self._error = self._error, None
            raise error
        taken: list[Delivery] = []
        room_bytes = max_bytes
        while self._messages and (not taken or room_bytes >= len(self._messages[0].raw)):
            message = self._messages.popleft()
            room_bytes -= len(message.raw)
            taken.append(message)
        self._bytes -= max_bytes - room_bytes
        self._left.set()
        return taken

    def drain(self) -> list[Delivery]:
        """Take back what nobody has taken."""
        left = list(self._messages)
        self._messages.clear()
        self._bytes = 0
        self._left.set()
        return left

    def close(self, error: Exception | None = None) -> None:
        """`take` gives what is here, then raises the error, then gives `()`."""
        self._closed = True
        self._error = self._error or error
        self._came.set()
        self._left.set()
