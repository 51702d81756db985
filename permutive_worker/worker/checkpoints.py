"""When checkpoints are written: often and cheaply, once a second for good, and at the end."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Final

from permutive_worker.config import Settings
from permutive_worker.credentials import Keyring
from permutive_worker.delivery.stop import Stop
from permutive_worker.errors import OutputError
from permutive_worker.outcomes.results import ResultWriter
from permutive_worker.ports import Clock, OutcomeWriter
from permutive_worker.sources.remembered import Remembered
from permutive_worker.sources.tracked import CheckpointStore
from permutive_worker.telemetry.counts import Counts

IDLE_SECONDS: Final = 0.05  # a hundred small files may be open: so 2,000 a second at most
SYNC_SECONDS: Final = 1.0  # what a power cut may cost; an fsync of each file that is read


def checkpoint_store(settings: Settings, keyring: Keyring, *, restart: bool = False) -> CheckpointStore:
    """Return the store of this destination; a rehearsal at another host is not the real run."""
    workspaces = sorted(key.workspace_id or key.name for key in keyring)
    destination = " ".join([settings.http.base_url, *workspaces])
    return CheckpointStore(Path(os.path.abspath(settings.state.dir)), destination, restart=restart)


class CheckpointClock:
    """Saves what a source remembers. A checkpoint that cannot be written stops the run, with 74."""

    def __init__(
        self,
        remembered: Remembered,
        writers: Iterable[OutcomeWriter],
        every_seconds: float,
        stop: Stop,
        counts: Counts,
        clock: Clock,
    ) -> None:
        """Of `writers` those that do not sync what they write are synced before a checkpoint is."""
        self._remembered = remembered
        self._unsynced = [writer for writer in writers if isinstance(writer, ResultWriter)]
        self._every_seconds = every_seconds
        self._stop = stop
        self._counts = counts
        self._clock = clock
        self._failed = False

    @property
    def works(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """What is to run side by side."""
        return [self._save_often, self._save_synced, self._save_idle]

    async def _save_often(self) -> None:
        """Save often until cancelled, or until it fails."""
        while not self._failed:
            await asyncio.sleep(self._every_seconds)
            await self._save(self._remembered.save())

    async def _save_idle(self) -> None:
        """Write and close what is all done, so that there is room for more files."""
        while not self._failed:
            await asyncio.sleep(IDLE_SECONDS)
            await self._save(self._remembered.save_idle(self._sync_outcomes))

    async def _save_synced(self) -> None:
        """Save every second for good; beside `_save_often`, for a disk may take long."""
        while not self._failed:
            await asyncio.sleep(SYNC_SECONDS)
            await self._save(self._remembered.save_synced(self._sync_outcomes))

    async def save_last(self) -> None:
        """Save for good; when the writers are closed, so that what it calls done has its outcome on the disk."""
        self._unsynced = []
        await self._save(self._remembered.save_synced(self._sync_outcomes))
        await self._save(self._remembered.save_idle(self._sync_outcomes))

    async def _save(self, saving: Coroutine[Any, Any, bool]) -> None:
        try:
            written = await saving
        except OutputError as error:
            if not self._failed:  # told once
                self._failed = True
                self._stop.request(error=error)
            return
        if written:
            self._counts.checkpoint_at = self._clock.utc_now()

    async def _sync_outcomes(self) -> None:
        for writer in self._unsynced:
            await writer.sync()
