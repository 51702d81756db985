"""Lines from standard input: a pipe, a terminal or a redirected file."""

import os
import sys
from collections.abc import Sequence
from functools import partial

from permutive_worker.errors import UsageError
from permutive_worker.model import Delivery, Settlement
from permutive_worker.sources.formats import LineSplitter
from permutive_worker.sources.reader import Interrupt, LineReader, NamedOrigin, TextReader


class StdinSource:
    """A `ports.Source` of what is piped in, as text or gzip.

    At most one block is read ahead of what was received, so a writer that is too fast is held up
    by its pipe. What was read cannot be read again. The descriptor stays open: it is not ours.
    """

    kind = "stdin"
    finite = True
    rereadable = False
    queue = None

    def __init__(self, max_line_bytes: int, fd: int = 0) -> None:
        self._fd = fd
        self._interrupt = Interrupt()
        text = TextReader(partial(os.dup, fd), "stdin", self._interrupt, finish_line=True)
        splitter = LineSplitter(NamedOrigin("stdin"), max_line_bytes)
        self._reader = LineReader(text, splitter, rereadable=False)

    async def open(self) -> None:
        if self._is_closed():
            raise UsageError("standard input is closed: pipe lines into it or name a file")

    async def receive(self, max_bytes: int) -> Sequence[Delivery]:
        return await self._reader.receive(max_bytes)

    def interrupt(self) -> None:
        self._interrupt.set()

    def settle(self, settled: Sequence[tuple[Delivery, Settlement]]) -> None:
        """A pipe has nobody to tell."""

    async def flush(self) -> None:
        pass

    async def close(self) -> None:
        self._interrupt.set(final=True)
        await self._reader.close()
        self._interrupt.close()

    def bytes_read(self) -> int:
        return self._reader.stored_bytes

    def bytes_total(self) -> int | None:
        return None

    def _is_closed(self) -> bool:
        # Python looked at descriptor 0 when it started; since then it may have become something else.
        if self._fd == 0 and (sys.stdin is None or sys.stdin.closed):
            return True
        try:
            os.fstat(self._fd)
        except OSError:
            return True
        return False
