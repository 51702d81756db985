"""What a run needs of the process: loop, signals, logs, progress, summary, exit code."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
import msgspec

from permutive_worker.cli.bar import progress_shown
from permutive_worker.config import Settings
from permutive_worker.control.exit_code import STOPPED_EARLY
from permutive_worker.credentials import Keyring
from permutive_worker.errors import OutputError
from permutive_worker.model import Summary
from permutive_worker.telemetry.logs import configure_logs, logger
from permutive_worker.worker import Worker

# Young objects of a run die young; the defaults look at them 70 times as often. gc.disable() is
# slower: measured, memory grows and every cache miss is paid for.
GC_THRESHOLDS: Final = (50_000, 20, 100)


def run_to_exit(settings: Settings, keyring: Keyring, make: Callable[[], Worker]) -> int:
    """Run one worker in this process and return its exit code.

    `make` is called inside the loop. Raises WorkerError if nothing was sent.
    """
    configure_logs(
        settings.log.level,
        settings.log.format,
        None,
        keyring.scrub_text,
        colors=not os.environ.get("NO_COLOR"),
    )
    for warning in keyring.warnings:
        logger().warning("credentials.weak", reason=warning)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(settings, make))


def _loop_factory() -> "Callable[[], asyncio.AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:  # not on this platform: asyncio's own loop does
        return None
    return uvloop.new_event_loop


async def _run(settings: Settings, make: Callable[[], Worker]) -> int:
    worker = make()
    _stop_on_signals(worker)
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    async with progress_shown(settings.log.progress, worker.counts, worker.look, sys.stderr):
        summary = await worker.run()
    for notice in worker.notices():
        click.echo(f"permutive-worker: {notice}", err=True)
    for error in worker.errors():
        click.echo(f"permutive-worker: {error}", err=True)
    if worker.stopping.why == "guard":
        click.echo(f"permutive-worker: stopped by the guard: {worker.guard.tripped}", err=True)
    return _tell(settings, summary)


def _stop_on_signals(worker: Worker) -> None:
    """The first SIGINT or SIGTERM drains, the second does not wait, the third leaves."""

    def on_signal() -> None:
        if worker.stopping.hurried:
            # Somebody we write to does not read, and a thread hangs in that write.
            os.write(2, b"permutive-worker: left at once; what was not settled is not in any count\n")
            os._exit(STOPPED_EARLY)
        elif worker.stopping.requested:
            worker.hurry()
        else:
            logger().info("run.stopping", hint="again to not wait for requests in flight")
            worker.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)


def _tell(settings: Settings, summary: Summary) -> int:
    line = msgspec.json.encode(summary)
    click.echo(line, err=True)
    if settings.output.summary is None:
        return summary.exit_code
    try:
        _write_private(Path(settings.output.summary), line + b"\n")
    except OSError as error:
        told = OutputError(f"the summary {settings.output.summary} cannot be written: {error.strerror}")
        click.echo(f"permutive-worker: {told}", err=True)
        return summary.exit_code if summary.exit_code == 1 else told.exit_code
    return summary.exit_code


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
