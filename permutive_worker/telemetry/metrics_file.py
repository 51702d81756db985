"""The file of `--metrics-file`: the worker's metrics, for the textfile collector of node_exporter.

A run that ends between two scrapes leaves its numbers there, and one that is killed those it had. A run that fails
must not hide the last success, so that is taken over from the file of the run before.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest

from permutive_worker.errors import ConfigurationError
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.logs import logger
from permutive_worker.telemetry.metrics import LAST_SUCCESS, WorkerCollector
from permutive_worker.telemetry.status import Look

EVERY_SECONDS: Final = 15.0  # node_exporter is seldom asked more often
_SUFFIX: Final = ".prom"  # node_exporter reads no others
# Somebody else than the worker reads it, and it holds nothing personal; a umask may still take rights away.
_MODE: Final = 0o644


@asynccontextmanager
async def metrics_file(path: str | None, counts: Counts, look: Look, version: str) -> AsyncIterator[None]:
    """Write the file at once, every 15 seconds and when the block ends, also by an error; None writes nothing.

    A write that fails later than at the start is logged: numbers are no outcome.

    Raises:
        ConfigurationError: the file cannot be written at the start.
    """
    if path is None:
        yield
        return
    file = MetricsFile(path, counts, look, version)
    await file.open()
    ended = asyncio.Event()
    keeping = asyncio.create_task(file.keep(ended))
    try:
        yield
    finally:
        ended.set()
        await keeping


class MetricsFile:
    """One file, always whole: it is written beside itself and renamed."""

    def __init__(self, path: str, counts: Counts, look: Look, version: str) -> None:
        self._path = Path(os.path.realpath(path))  # what a link leads to is replaced, not the link
        self._counts = counts
        # Not those of the process: node_exporter has its own by the same names.
        self._registry = CollectorRegistry()
        self._registry.register(WorkerCollector(counts, look, version))
        self._failing = False

    async def open(self) -> None:
        """Take over the last success and write for the first time. Raises ConfigurationError."""
        if self._path.exists() and not self._path.is_file():
            raise ConfigurationError(f"the metrics file {self._path} is no file: name another")
        if self._path.suffix != _SUFFIX:
            logger().warning("metrics_file.unread", hint="node_exporter reads only names that end with .prom")
        try:
            self._counts.last_success_at = await asyncio.to_thread(last_success, self._path)
            await self._write()
        except OSError as error:
            raise ConfigurationError(
                f"cannot write the metrics to {self._path}: {error.strerror}; make its directory writable, "
                "or name another path"
            ) from error

    async def keep(self, ended: asyncio.Event) -> None:
        """Write now and then, and once more when `ended` is set."""
        last = False
        while not last:
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_SECONDS):
                    await ended.wait()
            last = ended.is_set()  # asked before the write: what ends meanwhile is in another one
            try:
                await self._write()
                self._failing = False
            except OSError as error:
                if not self._failing:  # told once
                    logger().warning("metrics_file.failed", path=str(self._path), error=error.strerror)
                self._failing = True

    async def _write(self) -> None:
        text = generate_latest(self._registry)  # in the loop, so that it is one moment
        await asyncio.to_thread(_replace, self._path, text)


def last_success(path: Path) -> datetime | None:
    """When a run last ended with success, by the file it left; None if that cannot be told.

    Raises:
        OSError: the file is there and cannot be read.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return None
    with suppress(ValueError, OverflowError, StopIteration):
        told = next(line for line in lines if line.startswith(LAST_SUCCESS.encode() + b" "))
        seconds = float(told.split()[1])
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    return None


def _replace(path: Path, text: bytes) -> None:
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    os.rename(beside, path)
