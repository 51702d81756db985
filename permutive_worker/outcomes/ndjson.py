"""Append groups of lines to a file that others append to, rename, fill up and get killed over.

    lock → still the file at this path? → torn tail to FILE.torn → append → fsync → unlock

Why: several workers may share one dead-letter file, and a replay takes it away under their hands.
How: flock on the open file; who waited for it looks again whether the path still means that file.
A file is whole lines and, after a kill or a power cut, at most one torn tail, which the next group
moves aside; a group that fails is cut off again, so it is there as a whole or not at all.
Source: flock(2), open(2); all of it blocks, so coroutines call it in a thread, once a group.
"""

import errno
import fcntl
import os
import stat
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from permutive_worker.errors import ConfigurationError, OutputError
from permutive_worker.outcomes.pipe import never, open_fifo, write_all, write_while_read

_BLOCK_BYTES: Final = 64 * 1024

_REMEDIES: Final = {
    errno.ENOSPC: "free space on its disk",
    errno.EDQUOT: "raise the quota of this user or free space",
    errno.EFBIG: "raise the limit on file sizes or move the file away",
    errno.ENOENT: "make its directory",
    errno.EAGAIN: "read from it",
    errno.ENOTDIR: "name a path below a directory",
    errno.EISDIR: "name a file, not a directory",
    errno.EACCES: "let this user write there",
    errno.EPERM: "let this user write there",
    errno.EROFS: "make its file system writable",
}


class LockedAppender:
    """Appends groups of lines to one file that several processes may share.

    The file is made, 0600, with the first group. Every method blocks and may be called from any
    thread: a cancelled `asyncio.to_thread` leaves its thread at work, and the next call waits for it.

    Args:
        path: of the file; a pipe or a device is written to as it is.
        durable: fsync each group; else `sync()` does when it is called.
        given_up: asked while a pipe takes nothing; True ends the wait with an error.
    """

    def __init__(self, path: Path, *, durable: bool = True, given_up: Callable[[], bool] = never) -> None:
        self.path = path
        self._given_up = given_up
        self._durable = durable
        self._one_at_a_time = threading.Lock()
        self._fd: int | None = None
        self._unsynced = False

    def prove(self) -> None:
        """Try that the file could be written. Raises ConfigurationError."""
        prove_writable(self.path)

    def append(self, lines: bytes) -> None:
        """Append whole lines, each with its line end.

        Raises:
            OutputError: none of the lines is in the file.
        """
        with self._one_at_a_time, _as_output_error(self.path):
            try:
                fd = self._lock()
                if stat.S_ISREG(os.fstat(fd).st_mode):
                    _move_torn_tail(fd, self.path)
                    _append_all_or_nothing(fd, lines, durable=self._durable)
                    self._unsynced = not self._durable
                else:
                    write_while_read(fd, lines, self._given_up)
            finally:
                self._unlock()

    def reorder(self, lines: Sequence[bytes]) -> None:
        """Put lines that were appended, each with its line end, into this order; the others stay before them.

        A copy takes the place of the file, so a kill leaves the one or the other. A file that does not
        hold all of them any more, since somebody took it, is left alone.

        Raises:
            OutputError: the file is as it was.
        """
        with self._one_at_a_time, _as_output_error(self.path):
            try:
                fd = self._lock()
                if stat.S_ISREG(os.fstat(fd).st_mode):
                    _replace_reordered(fd, self.path, lines)
            finally:
                self._unlock()

    def sync(self) -> None:
        """Fsync what was appended without; others append meanwhile. Raises OutputError."""
        with _as_output_error(self.path):
            with self._one_at_a_time:
                if self._fd is None or not self._unsynced:
                    return
                fd, self._unsynced = os.dup(self._fd), False
            try:
                os.fsync(fd)
            except OSError:
                self._unsynced = True
                raise
            finally:
                os.close(fd)

    def close(self) -> None:
        """Sync and close; a later `append` opens the file again. Raises OutputError."""
        with self._one_at_a_time, _as_output_error(self.path):
            self._close()

    def _lock(self) -> int:
        while True:
            if self._fd is None:
                # Of a pipe we must not hold the reading end too: the write to a reader that is gone would wait.
                fifo = self.path.is_fifo()
                self._fd = open_fifo(self.path, self._given_up) if fifo else _open_to_append(self.path)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            if _is_at(self._fd, self.path):
                return self._fd
            self._close()  # renamed or removed since it was opened; closing unlocks it

    def _unlock(self) -> None:
        if self._fd is not None:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is None:
            return
        try:
            if self._unsynced:
                os.fsync(fd)
                self._unsynced = False
        finally:
            os.close(fd)


def prove_writable(path: Path) -> None:
    """Try that `path` could be written, leaving nothing behind; its directory must be there.

    Raises:
        ConfigurationError: it could not.
    """
    try:
        real = Path(os.path.realpath(path))
        os.stat(real.parent)  # what is said of it must not be of a file that is tried there
        if path.exists() and not path.is_file():
            _prove_special_file(path)
        else:
            _prove_regular_file(real)
    except OSError as error:
        raise ConfigurationError(_sentence(path, error, "or name another path")) from error


def replaying_path(path: Path) -> Path:
    """Where a dead-letter file is while it is replayed."""
    return path.with_name(path.name + ".replaying")


def take_for_replay(path: Path) -> Path | None:
    """Rename FILE to FILE.replaying and return that, whole lines only; None if there is no FILE.

    A FILE.replaying that a killed replay left is returned first, and FILE stays where it is. Writers
    that wait for the lock see that their file went away, and start a new one.

    Raises:
        OutputError: it could not be renamed.
    """
    replaying = replaying_path(path)
    with _as_output_error(path):
        while not replaying.exists():
            try:
                fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            except FileNotFoundError:
                # Another replay may have renamed it since the look above.
                return replaying if replaying.exists() else None
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                # Only who holds the lock of the file at this path may rename it.
                if _is_at(fd, path) and not replaying.exists():
                    _move_torn_tail(fd, path)
                    os.rename(path, replaying)
                    _sync_directory(path)
            finally:
                os.close(fd)
    return replaying


def _open_to_append(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        fd = os.open(path, flags | os.O_CREAT, 0o600)
        _sync_directory(path)
        return fd


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _move_torn_tail(fd: int, path: Path) -> None:
    """Move the bytes after the last line end, which a kill left, to FILE.torn."""
    size_bytes = os.fstat(fd).st_size
    if size_bytes == 0 or os.pread(fd, 1, size_bytes - 1) == b"\n":
        return
    start = _end_of_last_line(fd, size_bytes)
    torn = _open_to_append(path.with_name(path.name + ".torn"))
    try:
        for offset in range(start, size_bytes, _BLOCK_BYTES):
            write_all(torn, os.pread(fd, min(_BLOCK_BYTES, size_bytes - offset), offset))
        write_all(torn, b"\n")
        os.fsync(torn)
    finally:
        os.close(torn)
    os.ftruncate(fd, start)


def _end_of_last_line(fd: int, size_bytes: int) -> int:
    """The offset after the last line end, 0 if there is none."""
    end = size_bytes
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        found = os.pread(fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _append_all_or_nothing(fd: int, lines: bytes, *, durable: bool) -> None:
    size_bytes = os.fstat(fd).st_size
    try:
        write_all(fd, lines)
        if durable:
            os.fsync(fd)
    except OSError:
        with suppress(OSError):  # the first error is the one to tell; a torn tail is moved aside later
            os.ftruncate(fd, size_bytes)
        raise


def _replace_reordered(fd: int, path: Path, lines: Sequence[bytes]) -> None:
    left = Counter(lines)
    copy_path = path.with_name(path.name + ".sorting")
    with open(os.dup(fd), "rb") as file:
        file.seek(0)
        others = []
        for line in file:
            if left[line] > 0:
                left[line] -= 1
            else:
                others.append(line)
    if any(left.values()):
        return
    copy = os.open(copy_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(copy, stat.S_IMODE(os.fstat(fd).st_mode))
        write_all(copy, b"".join((*others, *lines)))
        os.fsync(copy)
        os.rename(copy_path, path)
        _sync_directory(path)
    except OSError:
        with suppress(OSError):
            os.unlink(copy_path)
        raise
    finally:
        os.close(copy)


def _prove_regular_file(path: Path) -> None:
    if path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC))
    try:
        # Beside the file, not in it: another worker may be using it. A page, for a full disk takes
        # an empty file.
        with tempfile.TemporaryFile(dir=path.parent, buffering=0) as probe:
            write_all(probe.fileno(), bytes(4096))
            os.fsync(probe.fileno())
    except PermissionError:
        if not path.exists():  # a file may be writable in a directory that is not
            raise


def _prove_special_file(path: Path) -> None:
    # Not by opening it: that would wait for the reader of a pipe, or tell it that we are done.
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _sync_directory(path: Path) -> None:
    """Make the name of a new or renamed file survive a power cut."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            _sentence(path, error, "and run again: nothing unwritten was acknowledged")
        ) from error


def _sentence(path: Path, error: OSError, and_then: str) -> str:
    remedy = _REMEDIES.get(error.errno or 0, "make it writable")
    return f"cannot write to {path}: {error.strerror or error}; {remedy}, {and_then}"
