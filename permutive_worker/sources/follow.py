"""Lines from files that go on: what is appended, and what comes after a rotation, until a stop.

A look every quarter of a second; no watcher that a network file system would leave silent.

    renamed     the old file is read to its end and a second beyond, then the new one of that name
    truncated   reading begins again at its first byte; a warning says so
    vanished    the old file is read on, until there is one of that name again
"""

import asyncio
import os
import stat
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from permutive_worker.control.unsettled import Place
from permutive_worker.errors import InputError, UsageError
from permutive_worker.model import Delivery, Settlement
from permutive_worker.sources.formats import LineSplitter, is_gzip, refusal
from permutive_worker.sources.reader import MAX_DELIVERIES
from permutive_worker.sources.remembered import MAX_OPEN, Remembered
from permutive_worker.sources.tracked import CheckpointStore, OpenFile, Tracked
from permutive_worker.telemetry.logs import logger

POLL_SECONDS: Final = 0.25
LINGER_SECONDS: Final = 1.0  # a writer goes on with a renamed file until it opens the new one
READ_BYTES: Final = 64 * 1024
_HEAD_BYTES: Final = 16


class FollowSource:
    """A `ports.Source` of files that have no end; it ends by `interrupt` only.

    A line is given once its line end is there, or once its file has a successor.

    Args:
        paths: of the files; all are read in turns.
        max_line_bytes: a longer line is oversize.
        store: where it is remembered how far each file is, a renamed one too.

    Attributes:
        remembered: what must be saved from time to time.
    """

    kind = "file"
    finite = False
    rereadable = True
    queue = None

    def __init__(self, paths: Sequence[Path], max_line_bytes: int, store: CheckpointStore) -> None:
        self.remembered = Remembered(store)
        self._paths = list(paths)
        self._max_line_bytes = max_line_bytes
        self._followers: deque[_Follower] = deque()
        self._interrupted = asyncio.Event()

    async def open(self) -> None:
        """Open every file and lock its checkpoint.

        Raises:
            UsageError: a file is missing, packed or no regular file; or another worker is at it.
            ConfigurationError: a checkpoint is corrupt, cannot be written, or its file is not to be found.
        """
        if len(self._paths) > MAX_OPEN:
            raise UsageError(f"--follow takes at most {MAX_OPEN} files: start another worker for the others")
        for path in self._paths:
            await asyncio.to_thread(_refuse_what_has_no_tail, path)
        try:
            await self._begin_all()
        except BaseException:
            await self.remembered.close()
            raise

    async def _begin_all(self) -> None:
        for path in self._paths:
            tracked = await self.remembered.begin(path, follow=True)
            assert tracked is not None  # noqa: S101  (nobody interrupts an opening)
            self.remembered.started()
            self.remembered.before_bytes += sum(one.unsettled.next.offset for one in tracked.generations)
            self._followers.append(_Follower(path, tracked, self._max_line_bytes))

    async def receive(self, max_bytes: int) -> Sequence[Delivery]:
        while not self._interrupted.is_set():
            for _ in range(len(self._followers)):
                self._followers.rotate(-1)
                if lines := await self._followers[-1].receive(max_bytes):
                    return lines
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._interrupted.wait()
            except TimeoutError:
                pass
        return ()

    def interrupt(self) -> None:
        self._interrupted.set()
        self.remembered.interrupt()

    def settle(self, settled: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Remember what is done; lines that are returned are read again by the next run."""
        self.remembered.settle(settled)

    async def flush(self) -> None:
        """Nothing to tell: `remembered` is saved by the clock, after the outcomes were synced."""

    async def close(self) -> None:
        self._interrupted.set()
        await self.remembered.close()

    def bytes_read(self) -> int:
        return self.remembered.before_bytes + sum(one.new_bytes for one in self._followers)

    def bytes_total(self) -> int | None:
        """None: there is no end."""
        return None


class _Follower:
    """One name: the file that has it, and those that had it and are not done."""

    def __init__(self, path: Path, tracked: Tracked, max_line_bytes: int) -> None:
        self.new_bytes = 0  # given by this run and by none before
        self._path = path
        self._tracked = tracked
        self._max_line_bytes = max_line_bytes
        self._files = deque(tracked.generations)  # that are to be read, in this order
        self._tail = self._begin(self._files[0])
        self._ended_at: float | None = None  # when a file that has a successor was first at its end

    async def receive(self, max_bytes: int) -> Sequence[Delivery]:
        """Return what is there to be delivered, nothing if there is nothing now.

        Raises:
            InputError: the file cannot be read.

        Cancellation: safe, what was read is read again.
        """
        try:
            while (lines := self._tail.take(max_bytes)) or await self._read_on():
                wanted = self._note(lines)
                if wanted:
                    return wanted
        except OSError as error:
            raise InputError(f"{self._path} cannot be read: {error.strerror}") from error
        return ()

    def _note(self, lines: Sequence[Delivery]) -> Sequence[Delivery]:
        unsettled = self._tail.file.unsettled
        if not lines:
            return ()
        before_bytes = unsettled.next.offset
        wanted = unsettled.receive(lines, self._tail.then, unended=self._tail.unended)
        self.new_bytes += unsettled.next.offset - before_bytes
        return wanted

    async def _read_on(self) -> bool:
        """Read what was appended, or go on to the next file; False if there is nothing to do now."""
        self._drop_what_is_done()
        if block := await asyncio.to_thread(self._tail.read):
            self._ended_at = None
            self._tail.feed(block)
            return True
        if block is None:
            logger().warning("input.truncated", input=str(self._path), hint="read again from its first byte")
            self._tail.file.truncated = True
            self._files.clear()
            return await self._succeed()
        if len(self._files) == 1 and not await asyncio.to_thread(_is_another, self._path, self._tail.file.fd):
            return False
        return self._has_lingered() and (self._tail.end() or await self._succeed())

    def _has_lingered(self) -> bool:
        now = asyncio.get_running_loop().time()
        if self._ended_at is None:
            self._ended_at = now
        return now >= self._ended_at + LINGER_SECONDS

    async def _succeed(self) -> bool:
        """Begin the file that has the name now."""
        if len(self._files) > 1:
            self._files.popleft()
        else:
            try:
                fd = await asyncio.to_thread(os.open, self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:  # gone again
                return False
            file = OpenFile(self._path, fd)
            self._files = deque([file])
            self._tracked.generations.append(file)
        self._tail = self._begin(self._files[0])
        self._ended_at = None
        return True

    def _begin(self, file: OpenFile) -> "_Tail":
        return _Tail(file, self._max_line_bytes)

    def _drop_what_is_done(self) -> None:
        for file in self._tracked.generations[:-1]:
            if file not in self._files and not len(file.unsettled):
                self._tracked.drop(file)


class _Tail:
    """One file, read at the speed it grows."""

    def __init__(self, file: OpenFile, max_line_bytes: int) -> None:
        begin = file.unsettled.reading
        self.file = file
        self._splitter = LineSplitter(file.origin, max_line_bytes, offset=begin.offset, number=begin.number)
        self._lines: deque[Delivery] = deque()
        self._read_bytes = begin.offset

    @property
    def then(self) -> Place:
        if self._lines:
            return Place(self._lines[0].place, self._lines[0].number)
        return Place(self._splitter.offset, self._splitter.number)

    @property
    def unended(self) -> bool:
        return self._splitter.unended and not self._lines

    def read(self) -> bytes | None:
        """Return what comes next, b"" at the end, None if the file was cut; blocks. Raises OSError."""
        block = os.pread(self.file.fd, READ_BYTES, self._read_bytes)
        return block if block or os.fstat(self.file.fd).st_size >= self._read_bytes else None

    def feed(self, block: bytes) -> None:
        self._read_bytes += len(block)
        self._lines.extend(self._splitter.feed(block))

    def end(self) -> bool:
        """Nothing more will come: give a last line that has no line end; False if there is none."""
        self._lines.extend(self._splitter.finish())
        return bool(self._lines)

    def take(self, max_bytes: int) -> list[Delivery]:
        taken: list[Delivery] = []
        while self._lines and len(taken) < MAX_DELIVERIES:
            max_bytes -= len(self._lines[0].raw) + 1
            if max_bytes < 0 and taken:
                break
            taken.append(self._lines.popleft())
        return taken


def _is_another(path: Path, fd: int) -> bool:
    """Whether the name means another file than this one. Not, as long as it means none."""
    try:
        return not os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _refuse_what_has_no_tail(path: Path) -> None:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UsageError(f"{path} is no regular file, so it cannot be followed; leave --follow out")
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if is_gzip(head) or refusal(head, str(path)):
        raise UsageError(f"{path} is compressed, so it cannot be followed; leave --follow out")
