"""Files whose progress is remembered: which checkpoint belongs to which input, and what to do with it.

store      finds and locks the checkpoint of an input, and says whether it is still the same file
tracked    one input under way: what was read, what is done, and its checkpoint
"""

import hashlib
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from permutive_worker.control.unsettled import UNREAD, Reading, Unsettled
from permutive_worker.errors import ConfigurationError, UsageError
from permutive_worker.sources.checkpoint import (
    CheckpointFile,
    forget_checkpoint,
    hold,
    lock_checkpoint,
    refuse_locked,
)
from permutive_worker.sources.formats import is_gzip
from permutive_worker.sources.identity import find_renamed, identify, no_file, what_differs
from permutive_worker.sources.reader import NamedOrigin
from permutive_worker.sources.record import VERSION, Generation, Record

_NAME_CHARACTERS: Final = 40  # of the input's name, for people; the hash behind it tells inputs apart
_SUFFIX: Final = ".checkpoint"


class TrackedOrigin(NamedOrigin):
    """An input that is told which of its lines are done."""

    __slots__ = ("unsettled",)

    def __init__(self, name: str, unsettled: Unsettled) -> None:
        super().__init__(name)
        self.unsettled = unsettled


class OpenFile:
    """One file (an inode) that is being read.

    Attributes:
        fd: open for as long as it may have to be looked at; reading it moves a duplicate.
        packed: its text is not its bytes.
        stored_bytes: read so far, as stored; for a packed file its reader says so.
        truncated: what was read of it is no longer there.
        passed: nothing more is read of it; while files are followed, another one comes after it.
    """

    def __init__(self, path: Path, fd: int, known: Reading = UNREAD, stored_bytes: int = 0) -> None:
        self.path = path
        self.fd = fd
        self.unsettled = Unsettled(known)
        self.origin = TrackedOrigin(str(path), self.unsettled)
        self.packed = is_gzip(os.pread(fd, 2, 0))
        self.stored_bytes = stored_bytes
        self.truncated = False
        self.passed = False

    @property
    def is_done(self) -> bool:
        return self.passed and not len(self.unsettled)

    def snapshot(self) -> Callable[[], Generation]:
        """Take what a checkpoint says of this moment; the rest of it is found by the call, which blocks."""
        reading = self.unsettled.snapshot()
        stored_bytes = self.stored_bytes if self.packed else reading.next.offset
        if self.truncated:
            return lambda: no_file(reading, stored_bytes)
        return lambda: identify(self.fd, reading, stored_bytes)


class Tracked:
    """One input that is read, with its checkpoint.

    Attributes:
        generations: its files, the newest last; more than one only while a file is followed.
        reading: more of it may be read.
        ended: all of it was read.
        before_bytes: read by earlier runs, as stored.
    """

    def __init__(self, checkpoint: CheckpointFile, record: Record, generations: list[OpenFile]) -> None:
        self.generations = generations
        self.reading = True
        self.ended = False
        self.before_bytes = record.generations[-1].stored_bytes
        self.checkpoint = checkpoint
        self.record = record
        self._orders = 0
        self._saved: tuple[object, ...] = ()
        self._synced: tuple[object, ...] = ()
        self.dropped: list[OpenFile] = []  # done, and still open

    @property
    def file(self) -> OpenFile:
        return self.generations[-1]

    @property
    def is_idle(self) -> bool:
        """Nothing more is read, and nothing that was read is unsettled."""
        return not self.reading and not any(len(one.unsettled) for one in self.generations)

    def snapshot(self, *, synced: bool) -> "Snapshot | None":
        """Return this moment, to be written; None if nothing changed since the last time."""
        state = (self.ended, self.reading, *((id(one), one.unsettled.changes) for one in self.generations))
        if state == (self._synced if synced else self._saved):
            return None
        self._orders += 1
        return Snapshot(self, self._orders, state, synced=synced)

    def note_saved(self, state: tuple[object, ...]) -> None:
        self._saved = state

    def note_synced(self, state: tuple[object, ...]) -> None:
        self._saved = self._synced = state

    def drop(self, file: OpenFile) -> None:
        """Forget a file that is done; it is closed when no thread looks at it any more."""
        self.generations.remove(file)
        self.dropped.append(file)

    def close_dropped(self, files: list[OpenFile]) -> None:
        """A moment without these files was written, so no earlier one will be."""
        for file in files:
            self.dropped.remove(file)
            os.close(file.fd)

    def close(self) -> None:
        """Close its files and unlock its checkpoint, which stays."""
        self.checkpoint.close()  # first, for a thread may be looking at the files to write it
        for file in (*self.generations, *self.dropped):
            os.close(file.fd)
        self.generations, self.dropped = [], []


class Snapshot:
    """What a checkpoint says of one moment. Both steps block, and raise OutputError."""

    def __init__(self, tracked: Tracked, order: int, state: tuple[object, ...], *, synced: bool) -> None:
        self._tracked = tracked
        self._order = order
        self._state = state
        self._synced = synced
        self._finished = tracked.ended and tracked.is_idle
        # What is done needs not be there any more when the next run begins.
        left = [file for file in tracked.generations if file is tracked.file or not file.is_done]
        self._parts = [file.snapshot() for file in left]
        self._dropped = [] if synced else list(tracked.dropped)
        self._line: bytes | None = None

    def prepare(self) -> None:
        """Find out the rest; at once, while the files are open."""
        self._line = self._tracked.checkpoint.prepare(self._make_record, self._order)

    def write(self) -> None:
        if self._line is None:  # a later moment is written already
            return
        tracked, checkpoint = self._tracked, self._tracked.checkpoint
        if self._synced:
            checkpoint.replace(self._line, self._order)
            tracked.note_synced(self._state)
        else:
            checkpoint.append(self._line, self._order)
            tracked.note_saved(self._state)
            tracked.close_dropped(self._dropped)

    def _make_record(self) -> Record:
        record = self._tracked.record
        finished_at = datetime.now(UTC) if self._finished else None
        parts = [part() for part in self._parts]
        return Record(VERSION, record.input, record.destination, _this_worker(), finished_at, parts)


class CheckpointStore:
    """The checkpoints of one destination. Everything blocks.

    Args:
        directory: made, 0700, with the first checkpoint.
        destination: host and workspaces; the same input for another one is another matter.
        restart: what is known of the inputs does not count, and is forgotten by `begin_anew`.
    """

    def __init__(self, directory: Path, destination: str, *, restart: bool = False) -> None:
        self._directory = directory
        self._destination = destination
        self._restart = restart

    def path_of(self, path: Path, *, follow: bool = False) -> Path:
        """Where the checkpoint of an input is.

        A link that is followed is known by its own name: what it leads to may change.
        """
        real = os.path.realpath(path)
        if follow:
            real = os.path.join(os.path.realpath(path.parent), path.name)
        told = re.sub(r"[^\w.-]", "_", os.path.basename(real), flags=re.ASCII)[:_NAME_CHARACTERS]
        both = os.fsencode(real) + b"\0" + self._destination.encode()
        return self._directory / f"{told}.{hashlib.sha256(both).hexdigest()[:16]}{_SUFFIX}"

    def examine(self, path: Path) -> Record | None:
        """Return what is known of an input, so that all is refused before anything is sent.

        Raises:
            UsageError: another worker is delivering it.
            ConfigurationError: its checkpoint is corrupt, or speaks of another file.
        """
        if self._restart:
            return None
        checkpoint = lock_checkpoint(self.path_of(path), str(path), None)
        try:
            if checkpoint.record is not None:
                with open(path, "rb") as file:
                    _refuse_another_file(path, file.fileno(), checkpoint.record)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from None
        finally:
            checkpoint.close()
        return checkpoint.record

    def begin_anew(self, paths: Iterable[Path], *, follow: bool = False) -> None:
        """With `restart`: forget these inputs, if no other worker is at any of them.

        Raises:
            UsageError, ConfigurationError: as `forget`.
        """
        if not self._restart:
            return
        checkpoints = {self.path_of(path, follow=follow): str(path) for path in paths}
        for checkpoint, name in checkpoints.items():
            refuse_locked(checkpoint, name)
        for checkpoint, name in checkpoints.items():
            forget_checkpoint(checkpoint, name)

    def begin(self, path: Path, *, follow: bool = False) -> Tracked:
        """Open an input and lock its checkpoint, until it is closed.

        Args:
            path: of the input.
            follow: files that had its name before are looked for and go on too.

        Raises:
            OSError: the input cannot be opened.
            UsageError, ConfigurationError: as `examine`.
        """
        with ExitStack() as undo:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            undo.callback(os.close, fd)
            own = self.path_of(path, follow=follow)
            fresh = self._record(path, [identify(fd, UNREAD, 0)])
            checkpoint = lock_checkpoint(own, str(path), fresh)
            undo.callback(checkpoint.close)
            record = checkpoint.record or fresh
            if follow:
                files = _find_generations(path, fd, record)
            else:
                _refuse_another_file(path, fd, record)
                (generation,) = record.generations
                files = [OpenFile(path, fd, generation.reading, generation.stored_bytes)]
            undo.pop_all()
        return Tracked(checkpoint, record, files)

    @contextmanager
    def alone_with(self, paths: Sequence[Path]) -> Iterator[None]:
        """Keep other runs in several processes from these inputs until the block ends.

        Checkpoints do not suffice: of such runs that begin at once each could lock one, and all be refused.

        Raises:
            UsageError: another one has them.
            ConfigurationError: that cannot be kept where checkpoints are.
        """
        first = min(paths, key=os.path.realpath, default=None)
        if first is None:
            yield
            return
        with hold(self.path_of(first).with_suffix(".processes"), str(first)):
            yield

    def forget(self, path: Path) -> None:
        """Forget an input, also one that is no longer there. Raises UsageError, ConfigurationError."""
        forget_checkpoint(self.path_of(path), str(path))

    def _record(self, path: Path, generations: list[Generation]) -> Record:
        real = os.fsencode(os.path.realpath(path)).decode(errors="replace")
        return Record(VERSION, real, self._destination, _this_worker(), None, generations)


def _this_worker() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def is_checkpoint(path: Path) -> bool:
    """Whether it is one of our files by its name, so that a glob does not deliver it."""
    return path.name.endswith((_SUFFIX, f"{_SUFFIX}.new"))


def is_delivered(record: Record, size_bytes: int) -> bool:
    """Whether all of an input of this size is done."""
    return record.finished_at is not None and record.generations[-1].stored_bytes == size_bytes


def _find_generations(path: Path, fd: int, record: Record) -> list[OpenFile]:
    """Return the files of a followed input, the one that has its name now last.

    Raises:
        ConfigurationError: one of them is neither there nor renamed in the same directory.
    """
    files: list[OpenFile] = []
    with ExitStack() as undo:
        for generation in record.generations:
            if generation is record.generations[-1] and what_differs(fd, generation) is None:
                files.append(OpenFile(path, fd, generation.reading, generation.stored_bytes))
                break
            found = find_renamed(path, generation)
            if found is None:
                raise ConfigurationError(
                    f"the file that was {path} when its checkpoint was written is not in its directory any more, so "
                    "what is left of it cannot be read: put it back under any name, or send what is in "
                    f"{path} now from its first line with --restart"
                )
            renamed, renamed_fd = found
            undo.callback(os.close, renamed_fd)
            files.append(OpenFile(renamed, renamed_fd, generation.reading, generation.stored_bytes))
        else:
            files.append(OpenFile(path, fd))
        undo.pop_all()
    return files


def _refuse_another_file(path: Path, fd: int, record: Record) -> None:
    if len(record.generations) > 1:
        raise ConfigurationError(
            f"of {path} an earlier file of that name is not done yet: go on with --follow, "
            "or send what is in it now from its first line with --restart"
        )
    if differs := what_differs(fd, record.generations[0]):
        raise ConfigurationError(
            f"{path} was {differs} since its checkpoint was written: put the file back that was begun, "
            "or send what is in it now from its first line with --restart"
        )
