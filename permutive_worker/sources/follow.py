"""Lines from files that go on: what is appended, and what comes after a rotation, until a stop.

A look every quarter of a second; no watcher that a network file system would leave silent.

    renamed     the old file is read to its end and a second beyond, then the new one of that name
    truncated   reading begins again at its first byte; a warning says so
    vanished    the old file is read on, until there is one of that name again

Names are looked at by a task of their own: rotations go on while nobody reads, for the API throttles, and a
file that nobody opened before the next one came would never be found.
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
        self._looking: asyncio.Task[None] | None = None
        self._problem: InputError | None = None

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
        await asyncio.to_thread(self.remembered.store.begin_anew, self._paths, follow=True)
        try:
            await self._begin_all()
        except BaseException:
            await self.remembered.close()
            raise
        self._looking = asyncio.create_task(self._look_often())

    async def _begin_all(self) -> None:
        for path in self._paths:
            tracked = await self.remembered.begin(path, follow=True)
            assert tracked is not None  # noqa: S101  (nobody interrupts an opening)
            self.remembered.started()
            self.remembered.before_bytes += sum(one.unsettled.next.offset for one in tracked.generations)
            self._followers.append(_Follower(path, tracked, self._max_line_bytes))

    async def receive(self, max_bytes: int) -> Sequence[Delivery]:
        while not self._interrupted.is_set():
            if self._problem is not None:
                raise self._problem
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
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait((self._looking,))
        await self.remembered.close()

    async def _look_often(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            for follower in tuple(self._followers):
                try:
                    await follower.look()
                except OSError as error:
                    self._problem = InputError(f"{follower.path} cannot be read: {error.strerror}")
                    return

    def bytes_read(self) -> int:
        return self.remembered.before_bytes + sum(one.new_bytes for one in self._followers)

    def bytes_total(self) -> int | None:
        """None: there is no end."""
        return None


class _Follower:
    """One name: the file that has it, and those that had it and are not done."""

    def __init__(self, path: Path, tracked: Tracked, max_line_bytes: int) -> None:
        self.new_bytes = 0  # given by this run and by none before
        self.path = path
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
            raise InputError(f"{self.path} cannot be read: {error.strerror}") from error
        return ()

    async def look(self) -> None:
        """Open the file that has the name now, if it is another one. Raises OSError."""
        fd = await asyncio.to_thread(_open_another, self.path, self._tracked.file.fd)
        if fd is not None:
            file = OpenFile(self.path, fd)
            self._tracked.generations.append(file)
            self._files.append(file)

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
            logger().warning("input.truncated", input=str(self.path), hint="read again from its first byte")
            return self._begin_again()
        if len(self._files) == 1:
            return False
        return self._has_lingered() and (self._tail.end() or self._succeed())

    def _has_lingered(self) -> bool:
        now = asyncio.get_running_loop().time()
        if self._ended_at is None:
            self._ended_at = now
        return now >= self._ended_at + LINGER_SECONDS

    def _begin_again(self) -> bool:
        """Begin the file that was cut from its first byte: another one, as far as the checkpoint goes."""
        cut, generations = self._tail.file, self._tracked.generations
        cut.truncated = True
        again = OpenFile(cut.path, os.dup(cut.fd))
        generations.insert(generations.index(cut) + 1, again)
        self._files.insert(1, again)
        return self._succeed()

    def _succeed(self) -> bool:
        """Begin the file that comes next."""
        self._files.popleft()
        self._tail.file.passed = True
        self._tail = self._begin(self._files[0])
        self._ended_at = None
        return True

    def _begin(self, file: OpenFile) -> "_Tail":
        return _Tail(file, self._max_line_bytes)

    def _drop_what_is_done(self) -> None:
        for file in self._tracked.generations[:-1]:
            if file.is_done:
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


def _open_another(path: Path, fd: int) -> int | None:
    """Open the file of this name if it is another one than that of `fd`; None too while there is none."""
    try:
        another = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if os.path.samestat(os.fstat(another), os.fstat(fd)):
        os.close(another)
        return None
    return another


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
