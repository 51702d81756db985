"""A stderr that is waited for, but not for ever.

A terminal after Ctrl-S, a log driver that hangs, a pager that nobody turns over: a write to them blocks the thread of
the loop, and then nothing is delivered, no lease is kept, and no signal ends the process. So what is not taken is
dropped. Why not O_NONBLOCK: it would hold for everybody who shares the descriptor.
Source: pipe(7), PIPE_BUF.
"""

import io
import os
import select
import stat
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

WAIT_SECONDS: Final = 1.0  # for a reader that is busy; one that let us wait so long is not waited for again
_STDERR: Final = 2


class Patient(io.FileIO):
    """Writes to a pipe or terminal as long as it is read."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "w", closefd=False)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._wait_seconds = WAIT_SECONDS

    def write(self, data: "ReadableBuffer", /) -> int:
        """Return the length of `data`, also if it was dropped. Raises OSError."""
        rest = memoryview(data).cast("B")
        size_bytes = len(rest)
        while rest:
            if not self._poll.poll(self._wait_seconds * 1000):
                self._wait_seconds = 0.0
                break
            self._wait_seconds = WAIT_SECONDS
            rest = rest[os.write(self.fileno(), rest[: select.PIPE_BUF]) :]
        return size_bytes


def be_patient_with_stderr() -> None:
    """Put a `Patient` in its place, unless it is a file, or closed, or somebody else's."""
    stream = sys.__stderr__
    if stream is None or stream is not sys.stderr or stat.S_ISREG(os.fstat(_STDERR).st_mode):
        return
    stream.flush()
    sys.stderr = io.TextIOWrapper(
        Patient(_STDERR),
        encoding=stream.encoding,
        errors=stream.errors,
        write_through=True,
    )
