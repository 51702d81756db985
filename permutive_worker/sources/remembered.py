"""The inputs of one run that are under way, each with its checkpoint; what the clock saves."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from permutive_worker.control.unsettled import Unsettled
from permutive_worker.errors import InputError, UsageError
from permutive_worker.model import Delivery, Settlement
from permutive_worker.sources.tracked import CheckpointStore, Snapshot, Tracked

MAX_OPEN: Final = 100  # each has two descriptors; many systems give a process 1,024
LOCK_LOOKS: Final = 20  # another worker that only looks at its inputs holds each lock for a moment
LOCK_LOOK_SECONDS: Final = 0.05


class Remembered:
    """What a source of files remembers.

    Attributes:
        notices: a sentence for each input that was delivered before.
        before_bytes: of the inputs as stored, read by earlier runs.
        all_delivered: there is nothing to read.
        again: lines among them that are not done.
        is_full: the next input waits until one of those that are open is done.
        before_write: called in the moment that is about to be written.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self.store = store
        self.notices: list[str] = []
        self.before_bytes = 0
        self.all_delivered = False
        self.again = 0
        self.is_full = False
        self.before_write: Callable[[], None] = _nobody
        self._open: list[Tracked] = []
        self._beginning: asyncio.Task[Tracked] | None = None
        self._room = asyncio.Event()
        self._interrupted = False

    async def begin(self, path: Path, *, follow: bool = False) -> Tracked | None:
        """Open the next input and lock its checkpoint; None if that was interrupted.

        Called again before `started`, it gives the same. Cancellation: safe, what was opened is kept.

        Raises:
            InputError, UsageError, ConfigurationError: it cannot be opened, or must not.
        """
        while len(self._open) >= MAX_OPEN and not self._interrupted:
            self._room.clear()
            self.is_full = True
            await self._room.wait()
        self.is_full = False
        if self._interrupted:
            return None
        if self._beginning is None:
            self._beginning = asyncio.create_task(self._begin(path, follow=follow))
        await asyncio.wait((self._beginning,))
        if self._beginning.exception() is not None:
            failed, self._beginning = self._beginning, None
            return failed.result()
        return self._beginning.result()

    def started(self) -> None:
        """The input that was begun is being read."""
        if self._beginning is not None:
            self._open.append(self._beginning.result())
            self._beginning = None

    def interrupt(self) -> None:
        self._interrupted = True
        self._room.set()

    def settle(self, settled: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Remember what is done; what is returned stays unsettled."""
        done: dict[Unsettled, list[int]] = {}
        acknowledged = Settlement.ACK  # looked up once: before 3.12 an Enum's attribute costs 50 ns
        for delivery, settlement in settled:
            origin: Any = delivery.origin  # ours, so a TrackedOrigin
            if settlement is acknowledged:
                done.setdefault(origin.unsettled, []).append(delivery.number)
            elif delivery.delivered_parts:
                origin.unsettled.note_parts(delivery.number, delivery.delivered_parts)
        for unsettled, numbers in done.items():
            unsettled.settle(numbers)

    async def save(self) -> bool:
        """Append what changed since the last time; return whether anything was.

        That survives a killed process. Raises OutputError: not everything was written.
        Cancellation: safe; a thread that is writing goes on, and never overtakes a later one.
        """
        # What is all done too: until a hundred such files are synced many lines would be sent again.
        return await self._write([one.snapshot(synced=False) for one in self._open])

    async def save_synced(self, sync_outcomes: Callable[[], Awaitable[None]]) -> bool:
        """Do the same so that it survives a power cut.

        `sync_outcomes` is awaited in between: what a synced checkpoint calls done has its outcome on the disk.
        """
        moments = [one.snapshot(synced=True) for one in self._open if not one.is_idle]
        return await self._write(moments, sync_outcomes)

    async def save_idle(self, sync_outcomes: Callable[[], Awaitable[None]]) -> bool:
        """Write what is all done, synced, and close it. Called by one task at a time."""
        idle = [one for one in self._open if one.is_idle]
        if not idle:
            return False
        written = await self._write([one.snapshot(synced=True) for one in idle], sync_outcomes)
        self._open = [one for one in self._open if one not in idle]
        await asyncio.to_thread(_close, idle)
        self._room.set()
        return written

    async def _write(
        self,
        moments: Sequence[Snapshot | None],
        sync_outcomes: Callable[[], Awaitable[None]] | None = None,
    ) -> bool:
        changed = [one for one in moments if one is not None]
        if not changed:
            return False
        self.before_write()
        if sync_outcomes is not None:
            await asyncio.to_thread(_prepare, changed)
            await sync_outcomes()
            await asyncio.to_thread(_write, changed)
        else:
            await asyncio.to_thread(_prepare_and_write, changed)
        return True

    async def close(self) -> None:
        """Unlock everything; save before."""
        if self._beginning is not None:
            await asyncio.wait((self._beginning,))
            if self._beginning.exception() is None:
                self.started()
            self._beginning = None
        opened, self._open = self._open, []
        await asyncio.to_thread(_close, opened)

    async def _begin(self, path: Path, *, follow: bool) -> Tracked:
        looks_left = LOCK_LOOKS
        while True:
            try:
                return await asyncio.to_thread(self.store.begin, path, follow=follow)
            except OSError as error:
                raise InputError(f"{path} cannot be read: {error.strerror}") from error
            except UsageError:
                looks_left -= 1
                if not looks_left:
                    raise
            await asyncio.sleep(LOCK_LOOK_SECONDS)


def _nobody() -> None:
    """Nobody asked to be told."""


def _prepare(moments: Sequence[Snapshot]) -> None:
    for moment in moments:
        moment.prepare()


def _write(moments: Sequence[Snapshot]) -> None:
    for moment in moments:
        moment.write()


def _prepare_and_write(moments: Sequence[Snapshot]) -> None:
    _prepare(moments)
    _write(moments)


def _close(inputs: Sequence[Tracked]) -> None:
    for tracked in inputs:
        tracked.close()
