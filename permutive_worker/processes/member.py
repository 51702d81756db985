"""One share of a run, and the process that works on it; another one takes over when it dies.

start ──▶ reports … ──▶ farewell             done, or stopped
  ▲          └────────▶ end of the stream    it died: its last report is kept, what it had in hand is returned,
  └── wait, if it did anything, 0.5 s … ──┘  and its successor goes on from the checkpoints
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from permutive_worker.config import Settings
from permutive_worker.control.exit_code import STOPPED_EARLY
from permutive_worker.delivery.stop import Stop
from permutive_worker.errors import WorkerError
from permutive_worker.processes.merging import add, give_back_pending
from permutive_worker.processes.messages import (
    Command,
    Farewell,
    Frames,
    Order,
    Pause,
    Reload,
    Report,
    frame,
)
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.logs import Lines, logger

MOST_DEATHS: Final = 5  # in a row without a line done: it is no accident then
PATIENCE_SECONDS: Final = (
    4.0  # beyond `drain_seconds`, so that all are gone within 25 s; see LEAVE_SECONDS too
)
BACKOFF_SECONDS: Final = 0.5  # before a second start; doubles with every death that follows
_READ_BYTES: Final = 262_144
_LONGEST_LINE_BYTES: Final = 1_048_576  # of a log; a longer one is passed on in pieces


class Member:
    """One share.

    Attributes:
        report: the last one of the process that is at work, None if none is.
        farewell: how the share ended; None: it did not.
        past: what processes counted that died.
        position_bytes, size_bytes: of its files as stored; kept from process to process.
        lines: of its files as far as they are known, None if they are not.
        restarts: processes after the first.
    """

    def __init__(
        self,
        order: Order,
        size_bytes: int,
        command: Sequence[str],
        past: Counts,
        stop: Stop,
        *,
        greeting: Callable[[], Iterable[Command | Pause]],
        on_report: Callable[[], None],
        on_pause: "Callable[[Member, Pause], None]",
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            order: what each process of it is told first.
            size_bytes: of its files.
            command: runs a worker, given the number of the descriptor to talk by.
            past: empty counts.
            stop: of the whole run.
            greeting: what is true for all by then, which a new process hears after its order.
            on_report: called after each of them.
            on_pause: called with a pause the API asked for.
        """
        self.report: Report | None = None
        self.farewell: Farewell | None = None
        self.past = past
        self.position_bytes = 0
        self.size_bytes = size_bytes
        self.lines: int | None = None
        self.restarts = 0
        self._order = order
        self._command = command
        self._stop = stop
        self._greeting = greeting
        self._on_report = on_report
        self._on_pause = on_pause
        self._writer: asyncio.StreamWriter | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._hurried = asyncio.Event()
        self._lines = Lines(None)

    @property
    def exit_code(self) -> int:
        """A share that was never worked on to an end was stopped."""
        return self.farewell.exit_code if self.farewell is not None else STOPPED_EARLY

    async def run(self) -> None:
        """Return when the share is done, or stopped. Cancellation: the process is told to drain, not awaited."""
        deaths = 0
        while not self._is_stopping():
            try:
                code = await self._live()
            except OSError as error:
                self._stop.request(error=self._not_started(error))
                return
            if self.farewell is not None:
                return
            deaths = 1 if self._bury() else deaths + 1
            if self._is_stopping():
                return
            if deaths >= MOST_DEATHS:
                self._stop.request(error=self._given_up(code))
                return
            seconds = BACKOFF_SECONDS * 2 ** (deaths - 1)
            logger().warning(
                "process.died", process=self._order.number, how=_how(code), again_in_seconds=seconds
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stop.wait()
            self.restarts += 1

    def _is_stopping(self) -> bool:
        return self._stop.requested

    def reload(self, settings: Settings) -> None:
        """Pass on other settings, also to those that come after this process."""
        self._order = msgspec.structs.replace(self._order, settings=settings)
        self.tell(Reload(settings))

    def tell(self, message: Command | Pause | Reload) -> None:
        """Pass it on, now or when the process reads again: it may be stopped, or hang in a write."""
        if isinstance(message, Command) and message.hurry:
            self._hurried.set()
        if self._writer is not None:
            self._writer.write(frame(message))

    def send_signal(self, number: signal.Signals) -> None:
        """Send it to the process that is at work, if one is."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _bury(self) -> bool:
        """Keep what a process told that died; return whether it had done anything."""
        report, self.report = self.report, None
        if report is None:
            return False
        before = self.past.completed
        add(self.past, report.counts)
        give_back_pending(self.past, sum(report.status.pending.values()))
        return self.past.completed > before

    def _given_up(self, code: int) -> WorkerError:
        error = WorkerError(
            f"process {self._order.number} died {MOST_DEATHS} times in a row before it had done anything "
            f"(the last time it {_how(code)}); nothing is lost, run again when the cause is mended"
        )
        error.exit_code = code if code > 0 else STOPPED_EARLY
        return error

    def _not_started(self, error: OSError) -> WorkerError:
        told = WorkerError(
            f"process {self._order.number} could not be started: {error.strerror}; nothing is lost, "
            "run again when the cause is mended, or with fewer processes"
        )
        told.exit_code = STOPPED_EARLY
        return told

    async def _live(self) -> int:
        """Run one process to its end; return its exit code."""
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            try:
                self._process = process = await self._start(theirs)
                theirs.close()  # or its end would not be seen
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._relay(process.stderr))
                    killing = group.create_task(self._kill_if_it_hangs())
                    writer.write(frame(self._order))
                    self._writer = writer
                    for message in self._greeting():
                        self.tell(message)
                    with suppress(OSError):
                        await self._listen(reader)
                    code = await process.wait()
                    killing.cancel()
                    return code
            finally:
                self._writer = self._process = None
                writer.close()

    async def _kill_if_it_hangs(self) -> None:
        """After a stop: it may be suspended, or hang where nothing that it is told reaches it."""
        await self._stop.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._order.settings.delivery.drain_seconds):
                await self._hurried.wait()
        await asyncio.sleep(PATIENCE_SECONDS)
        logger().warning("process.hangs", process=self._order.number, hint="it is killed; nothing is lost")
        self.send_signal(signal.SIGKILL)

    async def _start(self, theirs: socket.socket) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command,
            str(theirs.fileno()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,  # Ctrl-C is for the first process, which tells the others
        )

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        frames = Frames(Report, Pause, Farewell)
        while data := await reader.read(_READ_BYTES):
            for message in frames.feed(data):
                match message:
                    case Report():
                        self._note(message)
                    case Pause():
                        self._on_pause(self, message)
                    case _:
                        self.farewell = message
            self._on_report()

    def _note(self, report: Report) -> None:
        self.report = report
        status = report.status
        self.position_bytes = max(self.position_bytes, status.input_position_bytes)
        if status.total is not None:
            self.lines = self.past.completed + status.total

    async def _relay(self, stderr: asyncio.StreamReader | None) -> None:
        """Pass on what the process logs, whole lines only."""
        if stderr is None:
            return
        rest = b""
        while data := await stderr.read(_READ_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > _LONGEST_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._lines.msg(line.decode(errors="replace"))
        if rest:
            self._lines.msg(rest.decode(errors="replace"))


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def worker_command(module: str) -> list[str]:
    """Return the command that runs a module of ours with this interpreter, found where we were found."""
    # Without -P Python looks for modules in the working directory first: only if it did so for us.
    safe = [] if sys.path[:1] in ([""], [os.getcwd()]) else ["-P"]
    return [sys.executable, *safe, "-m", module]
