"""The configuration and the keys are read again while a run lasts, when SIGHUP asks for it."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from permutive_worker.config import KEYS, Loaded, Settings
from permutive_worker.errors import ConfigurationError
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.logs import logger, set_log_level
from permutive_worker.worker.reload import Taken


class Reloadable(Protocol):
    """A running worker; see `worker.Worker`."""

    @property
    def counts(self) -> Counts: ...

    def reload(self, settings: Settings) -> Taken: ...


class Reloader:
    """Asked by a signal handler. A configuration that is refused changes nothing but the log and a metric."""

    def __init__(self, worker: Reloadable, load: Callable[[], Loaded]) -> None:
        """`load` reads all layers again; in a thread, for a file may be far away."""
        self._worker = worker
        self._load = load
        self._asked = False
        self._task: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """Read again; once more if that is already under way, for the file may have changed since."""
        self._asked = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._reload())

    async def _reload(self) -> None:
        while self._asked:
            self._asked = False
            try:
                loaded = await asyncio.to_thread(self._load)
                taken = self._worker.reload(loaded.settings)
            except ConfigurationError as error:
                self._worker.counts.reload_refused = True
                for sentence in str(error).splitlines():
                    logger().error("config.refused", reason=sentence, hint="what was in force stays in force")
            else:
                self._worker.counts.reload_refused = False
                _tell(loaded, taken)
                set_log_level(taken.settings.log.level)


def _tell(loaded: Loaded, taken: Taken) -> None:
    logger().info("config.reloaded", changed=taken.changed)
    for name, holder in loaded.held.items():
        if KEYS[name].reloads:
            logger().warning("config.held", key=name, by=holder, hint="what the file says is not used")
    for name in taken.needs_restart:
        logger().warning("config.needs_restart", key=name, hint="the old value stays in force until then")
