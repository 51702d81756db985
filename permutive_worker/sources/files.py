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

from permutive_worker.errors import InputError, UsageError
from permutive_worker.model import Delivery, Settlement
from permutive_worker.sources.formats import LineSplitter, refusal
from permutive_worker.sources.reader import Interrupt, LineReader, NamedOrigin, TextReader

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
    size; with one among the paths the source is not rereadable.
    """

    kind = "file"
    finite = True
    queue = None

    def __init__(self, paths: Sequence[Path], max_line_bytes: int) -> None:
        self.rereadable = all(os.path.isfile(path) for path in paths)
        self._paths = deque(paths)  # not begun
        self._max_line_bytes = max_line_bytes
        self._interrupt = Interrupt()
        self._reader: LineReader | None = None
        self._ended_bytes = 0  # as stored, of the files before this one
        self._total_bytes: int | None = None
        self._problems: list[str] = []

    async def open(self) -> None:
        """Look at every file. Raises UsageError for one that is missing or of a format not read."""
        sizes_bytes = await asyncio.to_thread(lambda: [_examine(path) for path in self._paths])
        if self.rereadable:
            self._total_bytes = sum(sizes_bytes)

    async def receive(self, max_bytes: int) -> Sequence[Delivery]:
        while reader := self._reader or self._begin_file():
            try:
                if deliveries := await reader.receive(max_bytes):
                    return deliveries
            except InputError as error:
                self._problems.append(str(error))
            await reader.close()
            self._reader = None
            self._ended_bytes += reader.stored_bytes
        if self._problems:
            problems, self._problems = self._problems, []
            raise InputError("\n".join(problems))
        return ()

    def interrupt(self) -> None:
        self._interrupt.set()
        if self._reader:
            self._reader.interrupt()

    def settle(self, settled: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Files need not be told: what was delivered is not remembered from run to run."""

    async def flush(self) -> None:
        pass

    async def close(self) -> None:
        self._interrupt.set()
        if self._reader:
            await self._reader.close()
        self._interrupt.close()

    def bytes_read(self) -> int:
        return self._ended_bytes + (self._reader.stored_bytes if self._reader else 0)

    def bytes_total(self) -> int | None:
        """None if one of the inputs is a FIFO or a device."""
        return self._total_bytes

    def _begin_file(self) -> LineReader | None:
        if self._interrupt.is_set or not self._paths:
            return None
        path = self._paths.popleft()
        # A FIFO is opened without waiting for its writer: the wait for data can be interrupted.
        text = TextReader(partial(os.open, path, os.O_RDONLY | os.O_NONBLOCK), str(path), self._interrupt)
        splitter = LineSplitter(NamedOrigin(str(path)), self._max_line_bytes)
        self._reader = LineReader(text, splitter, rereadable=os.path.isfile(path))
        return self._reader


def _examine(path: Path) -> int:
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
