"""Lines from one descriptor: blocking reads in a thread, one block ahead of the loop.

Why a thread: regular files are never "ready", and uvloop aborts the process when asked to watch a
redirected stdin. Why `poll` before each read: an interrupt must end a read that waits for a pipe or
a terminal, or the thread would keep the program from ending.
"""

import asyncio
import os
import select
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from operator import attrgetter
from typing import Final

from permutive_worker.control.unsettled import Place
from permutive_worker.errors import InputError
from permutive_worker.model import Delivery
from permutive_worker.sources.formats import LineSplitter, PlainDecoder, decoder_for, is_gzip, is_undecided

READ_BYTES: Final = 256 * 1024  # a thread hop costs about 50 µs: 0.03 µs a line of 150 bytes
SPLIT_BYTES: Final = 64 * 1024  # split at once; bounds the deliveries of a block of empty lines
MAX_DELIVERIES: Final = 1_000  # given at once: each is charged 1,024 bytes on top of its line
# A writer in the middle of a line is given this long to end it: input stops within a second of a stop.
FINISH_LINE_SECONDS: Final = 0.8
_LOOK_SECONDS: Final = 0.05  # how late a second interrupt may be noticed then


class NamedOrigin:
    """An input whose lines are found by its name and their number: `jobs.ndjson:17`."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = os.fsencode(name).decode(errors="replace")  # it goes into JSON, which is UTF-8

    def position(self, delivery: Delivery) -> str:
        return f"{self.name}:{delivery.number}"


class Interrupt:
    """Ends every wait for input, from now on, in any thread.

    Attributes:
        is_final: set for the second time; then the end of a line is not waited for either.
    """

    def __init__(self) -> None:
        self.is_set = False
        self.is_final = False
        self._wake_fd, self._set_fd = os.pipe()
        self._open_fds = [self._wake_fd, self._set_fd]

    def set(self, *, final: bool = False) -> None:
        self.is_final = final or self.is_set
        if not self.is_set:
            self.is_set = True
            os.write(self._set_fd, b"\0")  # never read, so it wakes all waits to come

    def wait_readable(self, fd: int) -> bool:
        """Block until `fd` has something to read, or its end; False once interrupted."""
        poll = select.poll()
        poll.register(self._wake_fd, select.POLLIN)
        poll.register(fd, select.POLLIN)
        ready = [ready_fd for ready_fd, _ in poll.poll()]
        return self._wake_fd not in ready

    def wait_for_rest(self, fd: int, until: float) -> bool:
        """The same after an interrupt; False once it is final, or `until` (monotonic) has passed."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while not self.is_final and time.monotonic() < until:
            if poll.poll(_LOOK_SECONDS * 1000):
                return True
        return False

    def close(self) -> None:
        """Free the descriptors; only when nobody waits any more."""
        self.is_set = self.is_final = True
        while self._open_fds:
            os.close(self._open_fds.pop())


class TextReader:
    """The text of one input in blocks. `next_block` blocks: for a thread.

    Args:
        open_fd: opens the input, in that thread. Non-blocking for a FIFO, or it waits for its writer.
        name: what error sentences call the input.
        begin_bytes: of text that is passed over: a plain file is read from there, a packed one unpacked.
        finish_line: an interrupt in the middle of a line of text (not gzip) waits `FINISH_LINE_SECONDS`
            for the rest of it; what follows stays in the pipe.

    Attributes:
        stored_bytes: read so far, as they are in the input, with what was passed over.
        text_bytes: what they were unpacked to.
    """

    def __init__(
        self,
        open_fd: Callable[[], int],
        name: str,
        interrupt: Interrupt,
        *,
        begin_bytes: int = 0,
        finish_line: bool = False,
    ) -> None:
        self.stored_bytes = 0
        self.text_bytes = 0
        self._open_fd = open_fd
        self._name = name
        self._interrupt = interrupt
        self._begin_bytes = begin_bytes
        self._finish_line = finish_line
        self._last_byte = b""
        self._blocks = self._read_blocks()

    def next_block(self) -> bytes:
        """Return the next text, b"" at the end; after an interrupt, what is left of the last read.

        Raises:
            InputError: the input cannot be read further.
        """
        block = next(self._blocks, b"")
        self.text_bytes += len(block)
        return block

    def close(self) -> None:
        self._blocks.close()

    def _read_blocks(self) -> Generator[bytes, None, None]:
        try:
            fd = self._open_fd()
            try:
                yield from self._decode(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise InputError(f"{self._name} cannot be read: {error.strerror}") from error

    def _decode(self, fd: int) -> Iterator[bytes]:
        head = b""
        while is_undecided(head) and (stored := self._read(fd)):
            head += stored
        decoder = decoder_for(head, self._name)
        if self._begin_bytes and not is_gzip(head):
            os.lseek(fd, self._begin_bytes, os.SEEK_SET)
            self.stored_bytes = self.text_bytes = self._begin_bytes
            head = b""
        if head:
            yield from self._text(decoder.feed(head))
        while stored := self._read(fd):
            yield from self._text(decoder.feed(stored))
        if not self._interrupt.is_set:
            decoder.finish()
        elif self._finish_line and isinstance(decoder, PlainDecoder) and self._last_byte not in b"\n":
            yield self._rest_of_line(fd)

    def _rest_of_line(self, fd: int) -> bytes:
        """What the writer adds to the line it is writing, soon. A byte at a time: the next line is not ours."""
        until = time.monotonic() + FINISH_LINE_SECONDS
        rest = bytearray()
        while not rest.endswith(b"\n") and self._interrupt.wait_for_rest(fd, until):
            try:
                byte = os.read(fd, 1)
            except BlockingIOError:
                continue
            if not byte:
                break
            rest += byte
        self.stored_bytes += len(rest)
        return bytes(rest)

    def _text(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Give the text that is not passed over."""
        for block in blocks:
            passed_bytes = min(len(block), self._begin_bytes - self.text_bytes)
            if passed_bytes > 0:
                self.text_bytes += passed_bytes
                block = block[passed_bytes:]
            if block:
                yield block

    def _read(self, fd: int) -> bytes:
        while self._interrupt.wait_readable(fd):
            try:
                stored = os.read(fd, READ_BYTES)
            except BlockingIOError:  # another process that shares the pipe was quicker
                continue
            self.stored_bytes += len(stored)
            self._last_byte = stored[-1:]
            return stored
        return b""


class LineReader:
    """The deliveries of one input, read one block ahead.

    Args:
        rereadable: a cut last line (by an interrupt or a damage) is left for the next run, and an
            interrupt drops what was not split yet. Else every byte that was read is given.
    """

    def __init__(self, text: TextReader, splitter: LineSplitter, *, rereadable: bool) -> None:
        self._text = text
        self._splitter = splitter
        self._rereadable = rereadable
        self._reading: asyncio.Future[bytes] | None = None
        self._pieces: deque[bytes] = deque()  # text that is not split yet
        self._lines: Sequence[Delivery] = ()  # split
        self._given = 0  # how many of them
        self._ended = False
        self._error: InputError | None = None

    @property
    def stored_bytes(self) -> int:
        """What of the stored bytes has been given as lines: not what is read ahead, or totals are guessed low."""
        text = self._text
        return (
            text.stored_bytes * self.then.offset // text.text_bytes if text.text_bytes else text.stored_bytes
        )

    @property
    def then(self) -> Place:
        """Where the next line to be given begins."""
        if self._given < len(self._lines):
            line = self._lines[self._given]
            return Place(line.place, line.number)
        return Place(self._splitter.offset, self._splitter.number)

    @property
    def unended(self) -> bool:
        """Whether the line given last had no line end."""
        return self._splitter.unended and self._given == len(self._lines)

    async def receive(self, max_bytes: int) -> Sequence[Delivery]:
        """As in `ports.Source`. Cancellation: safe, the thread's block is kept."""
        while self._given == len(self._lines):
            if self._pieces:
                self._lines = ()  # freed before the next ones are made
                self._lines, self._given = self._splitter.feed(self._pieces.popleft()), 0
            elif not self._ended:
                await self._read()
            elif self._error:
                error, self._error = self._error, None
                raise error
            else:
                return ()
        return self._take(max_bytes)

    def interrupt(self) -> None:
        """Call it after `Interrupt.set`."""
        if self._rereadable:
            self._ended = True
            self._pieces.clear()

    async def close(self) -> None:
        """Wait for the thread, which an `Interrupt` that is set has ended, and close the descriptor."""
        while reading := self._reading:
            await asyncio.wait((reading,))
            if self._reading is reading:  # nobody receives any more
                self._reading = None
                reading.exception()  # looked at, so that asyncio does not report it
        self._text.close()

    async def _read(self) -> None:
        reading = self._reading = self._reading or self._start_reading()
        if not reading.done():
            await asyncio.wait((reading,))  # unlike `await reading`: a cancellation does not reach it
        self._reading = None
        try:
            block = reading.result()
        except InputError as error:
            self._end(error)
            return
        if self._ended:  # interrupted meanwhile
            return
        if block:
            self._reading = self._start_reading()
            self._pieces.extend(block[at : at + SPLIT_BYTES] for at in range(0, len(block), SPLIT_BYTES))
        else:
            self._end()

    def _end(self, error: InputError | None = None) -> None:
        self._ended = True
        whole_lines = self._splitter.number - 1
        if error:
            how_far = f" (lines 1 to {whole_lines:,} were read)" if whole_lines else ""
            self._error = InputError(f"{error}{how_far}")
        if error is None or not self._rereadable:
            self._lines, self._given = self._splitter.finish(), 0

    def _take(self, max_bytes: int) -> Sequence[Delivery]:
        """Give lines of at most `max_bytes` with their ends, one at least."""
        lines, begin = self._lines, self._given
        bound = lines[begin].place + max_bytes
        if self._splitter.offset <= bound:
            end = len(lines)
        else:  # the line before the first that begins beyond the bound ends beyond it
            end = bisect_right(lines, bound, begin + 1, key=attrgetter("place")) - 1
        self._given = max(begin + 1, min(end, begin + MAX_DELIVERIES))
        return lines[begin : self._given]

    def _start_reading(self) -> asyncio.Future[bytes]:
        return asyncio.get_running_loop().run_in_executor(None, self._text.next_block)
