"""Outcomes as an async stream of bounded length, for `permutive_worker.stream`."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Final

from permutive_worker.model import Entry, Outcome
from permutive_worker.outcomes.memory import outcome_from_entry

# One group of the settler: a reader that keeps up never makes it wait.
MAX_WAITING: Final = 1000


class QueueWriter:
    """A ports.OutcomeWriter that waits while nobody takes outcomes; iterate it to take them.

    An outcome counts as written when it is in hand here.
    """

    def __init__(self) -> None:
        self._waiting: deque[Outcome] = deque()
        self._changed = asyncio.Event()
        self._ended = False
        self._abandoned = False

    async def open(self) -> None:
        """Nothing to try."""

    async def write(self, entries: Sequence[Entry]) -> None:
        while len(self._waiting) >= MAX_WAITING and not self._abandoned:
            await self._change()
        if not self._abandoned:
            self._waiting.extend(map(outcome_from_entry, entries))
            self._changed.set()

    async def close(self) -> None:
        """Nothing to close: the end of the run is told by `end`, also if it fails before its first outcome."""

    def end(self) -> None:
        """End the iteration after what is in hand."""
        self._ended = True
        self._changed.set()

    def abandon(self) -> None:
        """Nobody takes outcomes any more: drop them, so that the run can end."""
        self._abandoned = True
        self._waiting.clear()
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def __aiter__(self) -> AsyncIterator[Outcome]:
        while self._waiting or not self._ended:
            while self._waiting:
                outcome = self._waiting.popleft()
                self._changed.set()
                yield outcome
            if not self._ended:
                await self._change()
