"""The file of one checkpoint: locked for as long as it is used, replaced as a whole or appended to.

    synced    a new file is written, synced, locked and renamed over the old one; the directory is synced
    else      a line is appended: that survives a killed process, though not a power cut

The lock is what keeps two workers from one input. It is on the inode, so the new file is locked
before it takes the old one's place, and who gets a lock looks whether the path still means that file.
All of it blocks, so coroutines call it in a thread.
"""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from permutive_worker.errors import ConfigurationError, OutputError, UsageError
from permutive_worker.sources.record import CorruptRecord, Record, decode_records, encode_record


class CheckpointFile:
    """One checkpoint that is ours; make it with `lock_checkpoint`.

    Threads may write at once: a disk that takes long to sync does not keep lines from being appended,
    and what was appended meanwhile is carried over to the new file.

    Attributes:
        record: what it said when it was locked, None if it was not there.
    """

    def __init__(self, path: Path, fd: int | None, record: Record | None) -> None:
        self.path = path
        self.record = record
        self._fd = fd
        self._replacing = threading.Lock()  # taken before the other one
        self._changing = threading.Lock()
        self._written = 0  # the highest order
        self._last_line = b""
        self._closed = False

    def prepare(self, make_record: Callable[[], Record], order: int) -> bytes | None:
        """Return the line of a record, None if one of a higher order was written or all is closed.

        Raises:
            OutputError: what belongs into the record cannot be found out.
        """
        with self._changing, _as_output_error(self.path):
            return None if self._closed or order < self._written else encode_record(make_record())

    def append(self, line: bytes, order: int) -> None:
        """Append a line, unless one of a higher order was written: threads overtake each other.

        Raises:
            OutputError: it could not be written; what was there before still holds.
        """
        with self._changing, _as_output_error(self.path):
            if self._fd is None or order < self._written:
                return
            size_bytes = os.fstat(self._fd).st_size
            try:
                _write(self._fd, line)
            except OSError:
                with suppress(OSError):  # the first error is the one to tell
                    os.ftruncate(self._fd, size_bytes)
                raise
            self._written, self._last_line = order, line

    def replace(self, line: bytes, order: int) -> None:
        """Put a synced file with this line, and what was appended since, in the place of the old one.

        Raises:
            OutputError: as `append`.
        """
        with self._replacing, _as_output_error(self.path):
            if self._closed:
                return
            beside = self.path.with_name(self.path.name + ".new")
            fd = os.open(beside, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _write(fd, line)
                os.fsync(fd)
                self._swap(fd, beside, line, order)
            except BaseException:
                os.close(fd)
                raise
            _sync_directory(self.path.parent)

    def close(self) -> None:
        """Unlock; the file stays. Nothing is written any more once it returns."""
        with self._replacing, self._changing:
            self._closed = True
            self._close()

    def _swap(self, fd: int, beside: Path, line: bytes, order: int) -> None:
        with self._changing:
            if order < self._written:
                _write(fd, self._last_line)
            else:
                self._written, self._last_line = order, line
            os.rename(beside, self.path)
            self._close()
            self._fd = fd

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


@contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write the checkpoint {path}: {error.strerror or error}; free space or mend its directory "
            "and run again: what was not remembered will be sent again"
        ) from error


def lock_checkpoint(path: Path, name: str, first: Record | None) -> CheckpointFile:
    """Return the checkpoint at `path`, locked.

    Args:
        path: of the checkpoint; its directory is made, 0700, if it is to be written.
        name: what sentences call the input.
        first: what a new one says; None: it is only looked at, and not made.

    Raises:
        UsageError: another worker has it.
        ConfigurationError: it is corrupt, or cannot be read or written.
    """
    try:
        if first is not None:
            _make_directory(path.parent)
        elif not path.exists():
            return CheckpointFile(path, None, None)
        return _lock_in_its_directory(path, name, first)
    except (OSError, OutputError) as error:
        raise _not_kept(path, error) from error


@contextmanager
def hold(path: Path, name: str) -> Iterator[None]:
    """Lock a file that is there only for that, until the block ends. Raises as `lock_checkpoint`."""
    try:
        _make_directory(path.parent)
        fd = None
        while fd is None:  # whoever had it may remove it in between
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            fd = _lock(path, name)
    except OSError as error:
        raise _not_kept(path, error) from error
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(fd)


def _not_kept(path: Path, error: OSError | OutputError) -> ConfigurationError:
    cause = error if isinstance(error, OSError) else error.__cause__
    return ConfigurationError(
        f"cannot keep the checkpoint {path}: {getattr(cause, 'strerror', None) or cause}; make that place "
        "writable or name another directory with --state-dir"
    )


def refuse_locked(path: Path, name: str) -> None:
    """Raise UsageError if another worker has the checkpoint at `path`, ConfigurationError if that cannot be seen."""
    try:
        if (fd := _lock(path, name)) is not None:
            os.close(fd)
    except NotADirectoryError:
        pass  # then there is none
    except OSError as error:
        raise ConfigurationError(f"cannot look at the checkpoint {path}: {error.strerror}") from error


def forget_checkpoint(path: Path, name: str) -> None:
    """Remove the checkpoint at `path`, sound or not, if there is one.

    Raises:
        UsageError: another worker has it.
        ConfigurationError: it cannot be removed.
    """
    try:
        if (fd := _lock(path, name)) is not None:
            path.unlink()
            os.close(fd)
    except NotADirectoryError:
        pass  # then there is none
    except OSError as error:
        raise ConfigurationError(f"cannot remove the checkpoint {path}: {error.strerror}") from error


def _make_directory(path: Path) -> None:
    """Make it and those above it that are missing, all for this user only; `mkdir -p` is more generous."""
    if not path.is_dir():
        _make_directory(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def _lock_in_its_directory(path: Path, name: str, first: Record | None) -> CheckpointFile:
    directory_fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory_fd, fcntl.LOCK_EX)  # of two workers that start at once one makes the file
        fd = _lock(path, name)
        known = _read(fd, path, name) if fd is not None else None
        checkpoint = CheckpointFile(path, fd, known)
        if first is not None:
            # A known one too: what is appended behind a torn last line would make all of it corrupt.
            begin = first if known is None else msgspec.structs.replace(known, worker=first.worker)
            checkpoint.replace(encode_record(begin), 0)
        return checkpoint
    finally:
        os.close(directory_fd)


def _lock(path: Path, name: str) -> int | None:
    """Return the file at `path`, locked; None if there is none. Raises UsageError."""
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
        except BlockingIOError:
            other = _holder(fd)
            os.close(fd)
            raise UsageError(
                f"another worker{other} is delivering {name} (it has {path} locked): wait for it, or stop it"
            ) from None
        except FileNotFoundError:
            pass
        os.close(fd)  # replaced or removed since it was opened


def _holder(fd: int) -> str:
    """Say which worker wrote a checkpoint that is locked."""
    try:
        return f", {decode_records(os.pread(fd, os.fstat(fd).st_size, 0)).worker},"
    except CorruptRecord:  # or it is being written just now
        return ""


def _read(fd: int, path: Path, name: str) -> Record:
    try:
        return decode_records(os.pread(fd, os.fstat(fd).st_size, 0))
    except CorruptRecord as corrupt:
        os.close(fd)
        raise ConfigurationError(
            f"the checkpoint of {name} cannot be trusted: {corrupt} ({path}); "
            "put a sound copy there, or send all of it again with --restart"
        ) from None


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
