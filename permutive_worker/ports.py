"""The protocols between the rooms, on one screen."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from permutive_worker.model import Delivery, Entry, Job, Request, Response, Settlement, Verdict


class Clock(Protocol):
    """Time as an argument, so that tests can move it."""

    def monotonic(self) -> float: ...

    def utc_now(self) -> datetime: ...


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)

    def utc_now(self) -> datetime:
        return datetime.now(UTC)


class Source(Protocol):
    """An input of lines.

    Attributes:
        kind: a metric label: stdin, file, memory …
        finite: it has an end.
        rereadable: a delivery settled with RETRY can be read again. Where it is False (pipes) the
            worker writes such lines to the returned file before it settles them.
        queue: what a source that is a queue has beside this; None for all others.

    A source keeps its memberships, leases and heartbeats alive from open to close, whether or not
    anybody calls `receive`.
    """

    kind: str
    finite: bool
    rereadable: bool

    @property
    def queue(self) -> "Queue | None": ...

    async def open(self) -> None:
        """Raise UsageError if an input is missing; read nothing yet."""
        ...

    async def receive(self, max_bytes: int) -> Sequence[Delivery]:
        """Return the next deliveries in input order, waiting until there is at least one.

        About `max_bytes` of lines at most, one line at least; `()` at the end of input, and ever after.
        Called by one task at a time. Cancellation: safe, nothing that was read is lost.

        Raises:
            InputError: after all that could be read was returned.
        """
        ...

    def interrupt(self) -> None:
        """Stop reading: `receive` returns what is in hand (a fragment is the last line), then `()`.

        A line that is being written may be waited for, less than a second; at a second call no more.
        """
        ...

    def settle(self, settled: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Hear what became of deliveries, each exactly once, in any order. Never waits, never raises."""
        ...

    async def flush(self) -> None:
        """Make what was settled known to where it came from. Cancellation: what is not known then never will be."""
        ...

    async def close(self) -> None: ...

    def bytes_read(self) -> int:
        """Bytes of the inputs as stored (compressed) read so far."""
        ...

    def bytes_total(self) -> int | None:
        """Bytes of all the inputs as stored, None where that cannot be known."""
        ...


class Queue(Protocol):
    """What a queue can be asked and told, beside being a source."""

    @property
    def is_away(self) -> bool:
        """The broker cannot be reached now; the source tries again by itself."""
        ...

    @property
    def redeliveries(self) -> int:
        """Messages received that the broker had given to somebody before."""
        ...

    @property
    def unconfirmed(self) -> int:
        """Settlements the broker will not know of: duplicates to come."""
        ...

    def lag(self) -> int | None:
        """Messages that wait in the queue, as of some seconds ago; None: not known."""
        ...

    def hold(self) -> None:
        """Take nothing from the queue and give back what nobody received; leases live on. `receive` waits."""
        ...

    def resume(self) -> None:
        """End a hold."""
        ...


class Publisher(Protocol):
    """Puts lines into a queue."""

    async def open(self) -> None:
        """Connect. Raises UnreachableError, ConfigurationError."""
        ...

    async def publish(self, lines: Sequence[bytes]) -> int:
        """Put lines into the queue, in order, and return how many the broker has confirmed.

        Raises:
            UnreachableError: the broker went away; how many of `lines` it has is not known.
        """
        ...

    async def close(self) -> None: ...


class Wire(Protocol):
    """Sends one attempt and never retries."""

    async def send(self, request: Request) -> Response:
        """Return the answer, whatever its status.

        Raises:
            TransportError: no status was read.

        Cancellation: safe, the connection is closed and not used again.
        """
        ...


class Destination(Protocol):
    """Turns jobs into requests, and answers into verdicts. Pure."""

    def request(self, job: Job, part: int) -> Request: ...

    def judge(self, request: Request, response: Response, utc_now: Callable[[], datetime]) -> Verdict:
        """`utc_now` is asked only if the answer names a date."""
        ...

    def judge_failure(self, kind: str, *, sent: bool) -> Verdict:
        """`kind` and `sent` as in TransportError."""
        ...


class Limiter(Protocol):
    """A rate of permits, asked for in leases so that a permit costs an integer."""

    def try_take(self, now: float) -> bool:
        """Spend one leased permit."""
        ...

    async def lease(self) -> None:
        """Return when `try_take` is worth asking again. Cancellation: safe."""
        ...

    def drop(self) -> None:
        """Forget unspent permits: the lane pauses."""
        ...


class OutcomeWriter(Protocol):
    """Makes one kind of outcome durable."""

    async def open(self) -> None:
        """Try that it can be written. Raises ConfigurationError."""
        ...

    async def write(self, entries: Sequence[Entry]) -> None:
        """Return once the entries are written so that a killed process does not lose them.

        Raises:
            OutputError: none of them counts as written.
        """
        ...

    async def close(self) -> None:
        """Sync and close. Raises OutputError."""
        ...
