"""Write to a pipe or a terminal whose reader may have stopped reading, without waiting for it for ever.

Why not a blocking write: its thread could not be called back, and a stop would wait for it. Why not
O_NONBLOCK on stdout: it would hold for everybody who shares the descriptor. So: `poll`, then no more than
a pipe is sure to take at once.
Source: pipe(7), PIPE_BUF; fifo(7), ENXIO.
"""

import errno
import os
import select
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

_LOOK_SECONDS: Final = 0.1  # how late a stop is noticed
_NOBODY: Final = "nobody reads it"


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data` to a regular file, however often the system takes only a part. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def write_while_read(fd: int, data: bytes, given_up: Callable[[], bool]) -> None:
    """Write `data` to whatever `fd` is, waiting for its reader until `given_up()`.

    Raises:
        OSError: it failed, or was given up (EAGAIN); a part of `data` may be written.
    """
    if stat.S_ISREG(os.fstat(fd).st_mode):
        write_all(fd, data)
        return
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    rest = memoryview(data)
    while rest:
        if poll.poll(_LOOK_SECONDS * 1000):
            try:
                rest = rest[os.write(fd, rest[: select.PIPE_BUF]) :]
            except BlockingIOError:  # somebody else who writes there was quicker
                continue
        elif given_up():
            raise BlockingIOError(errno.EAGAIN, _NOBODY)


def open_fifo(path: Path, given_up: Callable[[], bool]) -> int:
    """Open the writing end once there is a reader. Raises OSError, EAGAIN if it was given up."""
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:  # which says that there is none
                raise
        if given_up():
            raise BlockingIOError(errno.EAGAIN, _NOBODY)
        time.sleep(_LOOK_SECONDS)


def never() -> bool:
    """Wait for ever."""
    return False
