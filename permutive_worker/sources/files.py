"""Lines from files, one after another; and which files an input on the command line means."""

import asyncio
import glob
import os
import stat
from collections import deque
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from permutive_worker.control.unsettled import FIRST
from permutive_worker.errors import ConfigurationError, InputError, InputTakenError, UsageError, WorkerError
from permutive_worker.model import Delivery, Settlement
from permutive_worker.sources.formats import LineSplitter, refusal
from permutive_worker.sources.reader import Interrupt, LineReader, NamedOrigin, TextReader
from permutive_worker.sources.record import Record
from permutive_worker.sources.remembered import Remembered
from permutive_worker.sources.tracked import CheckpointStore, Tracked, is_delivered

# Formats that are not read are listed too: they are refused with a sentence, not left out in silence.
DIRECTORY_SUFFIXES: Final = tuple(
    f"{suffix}{packed}"
    for suffix in (".ndjson", ".jsonl", ".json")
    for packed in ("", ".gz", ".zst", ".bz2", ".xz")
)
_HEAD_BYTES: Final = 16  # more than the first bytes of any format that is told apart


def expand_inputs(inputs: Sequence[str], exclude: Collection[Path]) -> list[Path]:
    """Return the files that `inputs` mean, each once, in the order of the command line.

    Args:
        inputs: paths, globs (`**` goes into folders) or directories. A directory means its
            `DIRECTORY_SUFFIXES`, sorted, not recursive, no dot-files.
        exclude: what the run itself writes; compared by real path and left out wherever it is met.

    Raises:
        UsageError: an input is missing or means no file.
    """
    own = {os.path.realpath(path) for path in exclude}
    files: dict[str, Path] = {}
    for text in inputs:
        for path in _expand(text):
            real_path = os.path.realpath(path)
            if real_path not in own:
                files.setdefault(real_path, path)
    if inputs and not files:
        raise UsageError(f"{' '.join(inputs)}: only this run's own outputs are there, name an input")
    return list(files.values())


def _expand(text: str) -> list[Path]:
    match _mode(text):
        case None if text == "-":
            raise UsageError("- is stdin, which stands alone: name either it or files")
        case None if glob.has_magic(text):
            return _files_of_glob(text)
        case None:
            raise UsageError(f"{text} does not exist: name a file, a directory or a glob")
        case mode if stat.S_ISDIR(mode):
            return _files_of_directory(text)
        case _:  # also a name with brackets in it, which is no glob then
            return [Path(text)]


def _mode(text: str) -> int | None:
    try:
        return os.stat(text).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"{text} cannot be read: {error.strerror}") from None


def _files_of_glob(pattern: str) -> list[Path]:
    names = sorted(glob.glob(pattern, recursive=True))
    files = [Path(name) for name in names if not os.path.isdir(name)]
    if not files:
        raise UsageError(f"{pattern} matches no file")
    return files


def _files_of_directory(directory: str) -> list[Path]:
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise UsageError(f"the directory {directory} cannot be read: {error.strerror}") from None
    files = [
        Path(directory, name)
        for name in names
        if name.endswith(DIRECTORY_SUFFIXES)
        and not name.startswith(".")
        and os.path.isfile(os.path.join(directory, name))
    ]
    if not files:
        raise UsageError(
            f"the directory {directory} holds no input: looked for *.ndjson, *.jsonl and *.json, also with .gz"
        )
    return files


class FileSource:
    """A `ports.Source` of files, as text or gzip, read one after another.

    A file that breaks (cut gzip, I/O error, vanished) does not keep the others from being read: at
    the end `receive` raises one InputError with a sentence for each. A FIFO or a device has no
    size; with one among the paths the source is not rereadable, and nothing is remembered.

    Args:
        paths: of the files.
        max_line_bytes: a longer line is oversize.
        store: what earlier runs did is not done again, and what this one does is remembered.

    Attributes:
        remembered: what must be saved from time to time; None if nothing is.
    """

    kind = "file"
    finite = True
    queue = None

    def __init__(
        self, paths: Sequence[Path], max_line_bytes: int, store: CheckpointStore | None = None
    ) -> None:
        self.rereadable = all(os.path.isfile(path) for path in paths)
        self.remembered = Remembered(store) if store is not None and self.rereadable else None
        self._paths = deque(paths)  # not begun
        self._max_line_bytes = max_line_bytes
        self._interrupt = Interrupt()
        self._current: _Current | None = None
        self._ended_bytes = 0  # as stored, of the files before this one
        self._total_bytes: int | None = None
        self._problems: list[WorkerError] = []

    async def open(self) -> None:
        """Look at every file and its checkpoint, and lock that of the first one.

        Raises:
            UsageError: a file is missing or of a format not read, or another worker is at it.
            ConfigurationError: a checkpoint is corrupt, speaks of another file, or cannot be written.
        """
        sizes_bytes = await asyncio.to_thread(lambda: [size_of_input(path) for path in self._paths])
        if self.rereadable:
            self._total_bytes = sum(sizes_bytes)
        if self.remembered is not None:
            await self._look_back(self.remembered, sizes_bytes)

    async def _look_back(self, remembered: Remembered, sizes_bytes: Sequence[int]) -> None:
        """Leave out what was delivered before."""
        records = await asyncio.to_thread(lambda: [remembered.store.examine(path) for path in self._paths])
        await asyncio.to_thread(remembered.store.begin_anew, self._paths)
        left: list[Path] = []
        for path, size_bytes, record in zip(self._paths, sizes_bytes, records, strict=True):
            if (notice := already_delivered(path, size_bytes, record)) is None:
                left.append(path)
                if record is not None:
                    remembered.before_bytes += record.generations[-1].stored_bytes
                    remembered.again += len(record.generations[-1].reading.unsettled)
                continue
            self._ended_bytes += size_bytes
            remembered.before_bytes += size_bytes
            remembered.notices.append(notice)
        self._paths = deque(left)
        remembered.all_delivered = not left
        if left:
            await remembered.begin(left[0])

    async def receive(self, max_bytes: int) -> Sequence[Delivery]:
        while current := self._current or await self._begin_file():
            try:
                while deliveries := await current.reader.receive(max_bytes):
                    if wanted := current.take(deliveries):
                        return wanted
                if not self._interrupt.is_set:
                    current.end()
            except InputError as error:
                self._problems.append(error)
            await current.close()
            self._current = None
            self._ended_bytes += current.stored_bytes
        if self._problems:
            problems, self._problems = self._problems, []
            is_taken = all(isinstance(one, UsageError) for one in problems)
            raise (InputTakenError if is_taken else InputError)("\n".join(map(str, problems)))
        return ()

    def interrupt(self) -> None:
        self._interrupt.set()
        if self._current:
            self._current.reader.interrupt()
        if self.remembered is not None:
            self.remembered.interrupt()

    def settle(self, settled: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Remember what is done; lines that are returned are read again by the next run."""
        if self.remembered is not None:
            self.remembered.settle(settled)

    async def flush(self) -> None:
        """Nothing to tell: `remembered` is saved by the clock, after the outcomes were synced."""

    async def close(self) -> None:
        self._interrupt.set(final=True)
        if self._current:
            await self._current.reader.close()
        if self.remembered is not None:
            await self.remembered.close()
        self._interrupt.close()

    def bytes_read(self) -> int:
        return self._ended_bytes + (self._current.stored_bytes if self._current else 0)

    def bytes_total(self) -> int | None:
        """None if one of the inputs is a FIFO or a device."""
        return self._total_bytes

    async def _begin_file(self) -> "_Current | None":
        while self._paths and not self._interrupt.is_set:
            path = self._paths[0]
            tracked = None
            if self.remembered is not None:
                try:
                    tracked = await self.remembered.begin(path)
                except (InputError, UsageError, ConfigurationError) as error:
                    self._problems.append(error)
                    self._paths.popleft()
                    continue
                if tracked is None:  # interrupted
                    return None
                self.remembered.started()
            self._paths.popleft()
            self._current = _Current(path, self._max_line_bytes, self._interrupt, tracked)
            return self._current
        return None


class _Current:
    """The file that is being read."""

    def __init__(
        self, path: Path, max_line_bytes: int, interrupt: Interrupt, tracked: Tracked | None
    ) -> None:
        self._tracked = tracked
        if tracked is None:
            # A FIFO is opened without waiting for its writer: the wait for data can be interrupted.
            open_fd = partial(os.open, path, os.O_RDONLY | os.O_NONBLOCK)
            begin, origin = FIRST, NamedOrigin(str(path))
        else:
            open_fd = partial(os.dup, tracked.file.fd)
            begin, origin = tracked.file.unsettled.reading, tracked.file.origin
        splitter = LineSplitter(origin, max_line_bytes, offset=begin.offset, number=begin.number)
        rereadable = os.path.isfile(path)
        self._text = TextReader(
            open_fd, str(path), interrupt, begin_bytes=begin.offset, finish_line=not rereadable
        )
        self.reader = LineReader(self._text, splitter, rereadable=rereadable)

    @property
    def stored_bytes(self) -> int:
        if self._tracked is None:
            return self.reader.stored_bytes
        return max(self._tracked.before_bytes, self.reader.stored_bytes)

    def take(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Return those that were not done by an earlier run."""
        if self._tracked is None:
            return deliveries
        file = self._tracked.file
        self._note_stored_bytes()
        return file.unsettled.receive(deliveries, self.reader.then, unended=self.reader.unended)

    def end(self) -> None:
        """All of it was read."""
        if self._tracked is not None:
            self._note_stored_bytes()
            self._tracked.ended = True

    async def close(self) -> None:
        if self._tracked is not None:
            self._tracked.reading = False
        await self.reader.close()

    def _note_stored_bytes(self) -> None:
        if self._tracked is not None:
            file = self._tracked.file
            file.stored_bytes = max(file.stored_bytes, self._text.stored_bytes)


def already_delivered(path: Path, size_bytes: int, record: Record | None) -> str | None:
    """Say when all of a file of this size was delivered; None if it was not."""
    if record is None or record.finished_at is None or not is_delivered(record, size_bytes):
        return None
    return f"{path} was already delivered on {record.finished_at:%Y-%m-%d at %H:%M:%S UTC}; --restart to send it again"


def size_of_input(path: Path) -> int:
    """Return the size of a file, 0 if it has none. Raises UsageError if it will not be read."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            return 0
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if reason := refusal(head, str(path)):
        raise UsageError(reason)
    return status.st_size
