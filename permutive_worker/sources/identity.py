"""Whether a file is the one that a checkpoint speaks of: by its bytes, for names and inodes lie."""

import hashlib
import os
from pathlib import Path
from typing import Final

from permutive_worker.control.unsettled import Reading
from permutive_worker.sources.record import Generation

HEAD_BYTES: Final = 4096
TAIL_BYTES: Final = 1024


def identify(fd: int, reading: Reading, stored_bytes: int) -> Generation:
    """Return what a checkpoint keeps of an open file that was read up to `stored_bytes`. Raises OSError."""
    status = os.fstat(fd)
    return Generation(
        inode=status.st_ino,
        size_bytes=status.st_size,
        head_sha256=_sha256(fd, 0, min(HEAD_BYTES, status.st_size)),
        stored_bytes=stored_bytes,
        tail_sha256=_tail_sha256(fd, stored_bytes),
        reading=reading,
    )


def what_differs(fd: int, generation: Generation) -> str | None:
    """Say what became of the file since: `truncated`, `replaced`; None if it is the same, grown or not."""
    if os.fstat(fd).st_size < generation.size_bytes:
        return "truncated"
    head = _sha256(fd, 0, min(HEAD_BYTES, generation.size_bytes))
    if head != generation.head_sha256:
        return "replaced"
    if _tail_sha256(fd, generation.stored_bytes) != generation.tail_sha256:
        return "replaced"
    return None


def no_file(reading: Reading, stored_bytes: int) -> Generation:
    """Return what a checkpoint keeps of lines that are no longer in any file: nothing will be found equal."""
    return Generation(0, stored_bytes, "", stored_bytes, "", reading)


def find_renamed(path: Path, generation: Generation) -> tuple[Path, int] | None:
    """Return the file in the directory of `path` that a checkpoint speaks of, and an open descriptor. Raises OSError."""
    directory = Path(os.path.realpath(path)).parent
    with os.scandir(directory) as entries:
        names = [entry.name for entry in entries if entry.inode() == generation.inode and entry.is_file()]
    for name in names:
        fd = os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC)
        if what_differs(fd, generation) is None:
            return path.parent / name, fd
        os.close(fd)
    return None


def _tail_sha256(fd: int, end: int) -> str:
    begin = max(0, end - TAIL_BYTES)
    return _sha256(fd, begin, end - begin)


def _sha256(fd: int, offset: int, size_bytes: int) -> str:
    return hashlib.sha256(os.pread(fd, size_bytes, offset)).hexdigest()
