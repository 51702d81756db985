"""What a run needs of the process: loop, signals, logs, progress, summary, exit code."""

import asyncio
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import click
import msgspec

from permutive_worker.cli.bar import progress_shown
from permutive_worker.cli.descriptors import ensure_descriptors
from permutive_worker.cli.directory import is_homeless
from permutive_worker.cli.hints import hints
from permutive_worker.cli.loops import loop_factory, run_in_loop
from permutive_worker.cli.printable import printable
from permutive_worker.cli.reload import Reloader
from permutive_worker.cli.summary_table import summary_table
from permutive_worker.cli.terminal import has_terminal, is_terminal
from permutive_worker.config import Loaded, Settings
from permutive_worker.control.exit_code import STOPPED_EARLY
from permutive_worker.control.guard import Guard
from permutive_worker.credentials import Keyring
from permutive_worker.delivery.stop import Stop
from permutive_worker.errors import OutputError, WorkerError
from permutive_worker.model import End, Summary
from permutive_worker.outcomes.ndjson import prove_writable
from permutive_worker.ports import OutcomeWriter
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.logs import configure_logs, logger
from permutive_worker.telemetry.status import Status
from permutive_worker.worker.reload import Taken

# Young objects of a run die young; the defaults look at them 70 times as often. gc.disable() is
# slower: measured, memory grows and every cache miss is paid for.
GC_THRESHOLDS: Final = (50_000, 20, 100)


class Run(Protocol):
    """What a run looks like from here: one `Worker`, or several as a `Fleet`."""

    counts: Counts
    stopping: Stop
    guard: Guard

    @property
    def writers(self) -> Mapping[End, OutcomeWriter]: ...

    async def run(self) -> Summary: ...

    def stop(self) -> None: ...

    def hurry(self) -> None: ...

    def reload(self, settings: Settings) -> Taken: ...

    def look(self) -> Status: ...

    def notices(self) -> list[str]: ...

    def errors(self) -> list[Exception]: ...


def run_to_exit(
    settings: Settings,
    keyring: Keyring,
    make: Callable[[], Run],
    *,
    load: Callable[[], Loaded] | None = None,
    hinting: bool = True,
) -> int:
    """Run one worker, or a fleet of them, in this process and return its exit code.

    `make` is called inside the loop; `load` reads the settings again at SIGHUP. With `hinting` a person at a
    terminal is told where undelivered lines are. Raises WorkerError if nothing was sent.
    """
    configure_logs(
        settings.log.level,
        settings.log.format,
        None,
        keyring.scrub_text,
        colors=not os.environ.get("NO_COLOR"),
    )
    _leave_no_core()
    for warning in keyring.warnings:
        logger().warning("credentials.weak", reason=warning)
    ensure_descriptors(settings, len(keyring))
    if settings.output.summary is not None:
        prove_writable(Path(settings.output.summary))
    try:
        return run_in_loop(_run(settings, make, load, hinting=hinting), loop_factory())
    except WorkerError:
        raise
    except Exception as bug:
        if is_homeless(bug):
            raise
        logger().error("run.failed_inside", error=type(bug).__name__, exc_info=True)
        _say(sentence_of(bug))
        return 1


def _leave_no_core() -> None:
    """A crash shall not write the key and people's identifiers to a file that nobody asked for."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))


async def _run(
    settings: Settings, make: Callable[[], Run], load: Callable[[], Loaded] | None, *, hinting: bool
) -> int:
    worker = make()
    _stop_on_signals(worker)
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    watched = is_terminal(sys.stderr)
    with _reloading(worker, load):
        async with progress_shown(
            settings.log.progress, worker.counts, worker.look, sys.stderr, last_line=not watched
        ):
            summary = await worker.run()
    if watched and summary.read:
        for row in summary_table(summary, worker.counts):
            _write_line(row)
    for notice in worker.notices():
        _say(notice)
    for sentence in dict.fromkeys(map(sentence_of, worker.errors())):  # one for many groups that failed alike
        _say(sentence)
    if worker.stopping.why == "guard":
        _say(f"stopped by the guard: {worker.guard.tripped}")
    if hinting and watched:
        for hint in hints(worker, summary, settings.output.dead_letters):
            _say(hint)
    return _tell(settings, summary)


def sentence_of(error: Exception) -> str:
    if isinstance(error, WorkerError):
        return str(error)
    return f"a bug in the worker ({type(error).__name__}): please report it with the log; nothing unwritten was acknowledged"


def _say(sentence: str) -> None:
    _write_line(f"permutive-worker: {printable(sentence)}")


def _write_line(line: str) -> None:
    """Write to stderr, which may be a terminal that is gone: no reason to end otherwise than is said."""
    try:
        click.echo(line, err=True)
    except OSError:
        # What is left in the buffer would fail again at the exit, and change its code.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _stop_on_signals(worker: Run) -> None:
    """The first SIGINT, SIGTERM or (of a terminal that is gone) SIGHUP drains; the second does not wait, the third leaves.

    A second SIGHUP asks for no more than the first: the system sends one, and the shell may send another.
    """

    def on_signal() -> None:
        if worker.stopping.hurried:
            # Somebody we write to does not read, and a thread hangs in that write.
            _say("left at once; what was not settled is not in any count")
            os._exit(STOPPED_EARLY)
        elif worker.stopping.requested:
            worker.hurry()
        else:
            logger().info("run.stopping", hint="a second signal does not wait for requests in flight")
            worker.stop()

    def on_hangup() -> None:
        if not worker.stopping.requested:
            on_signal()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
        loop.add_signal_handler(signal.SIGHUP, on_hangup)


@contextmanager
def _reloading(worker: Run, load: Callable[[], Loaded] | None) -> Iterator[None]:
    """Without a terminal SIGHUP reads the settings again, unless nohup says otherwise."""
    if load is None or has_terminal() or signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, Reloader(worker, load).ask)
    try:
        yield
    finally:
        # One that comes too late must not end the process with a signal instead of its exit code.
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _tell(settings: Settings, summary: Summary) -> int:
    line = msgspec.json.encode(summary)
    _write_line(line.decode())
    if settings.output.summary is None:
        return summary.exit_code
    try:
        _write_private(Path(settings.output.summary), line + b"\n")
    except OSError as error:
        told = OutputError(f"the summary {settings.output.summary} cannot be written: {error.strerror}")
        _say(str(told))
        return summary.exit_code if summary.exit_code == 1 else told.exit_code
    return summary.exit_code


def _write_private(path: Path, data: bytes) -> None:
    # Without O_NONBLOCK a named pipe without a reader would hold up the end for ever.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
