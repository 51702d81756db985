"""One client's connection: its requests in, their answers out, in order, late or damaged if they are to be.

No task and no await: bytes come, an answer is computed, bytes go; what must wait is a timer.
"""

import asyncio
import socket
import struct
from asyncio import TimerHandle
from collections.abc import Callable
from functools import partial
from typing import Final, cast

import msgspec

from permutive_worker.sandbox.answers import Answer, ok
from permutive_worker.sandbox.faults import HANG, RESET, TRUNCATE
from permutive_worker.sandbox.wire import (
    CONTINUE,
    BadRequestError,
    Parser,
    Request,
    encode,
    encode_truncated,
)

_HANG_SECONDS: Final = 300
_NO_LINGERING: Final = struct.pack("ii", 1, 0)  # SO_LINGER of 0: closing sends RST instead of FIN


class Reply(msgspec.Struct, frozen=True):
    """What to answer, how long after, and what goes wrong with it."""

    answer: Answer
    delay_seconds: float = 0
    fault: str = ""


class Connection(asyncio.Protocol):
    """Serves one connection.

    Args:
        respond: gives the reply to a request.
        connections: this one is in there for as long as it is open.

    """

    def __init__(self, respond: Callable[[Request], Reply], connections: "set[Connection]") -> None:
        self._respond = respond
        self._connections = connections
        self._parser = Parser()
        self._timer: TimerHandle | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport = asyncio.Transport()  # replaced before anything else is called

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        self._connections.discard(self)
        self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        if self._timer is None:
            self._proceed()

    def close(self) -> None:
        """End the connection; a request that waits for its answer gets none."""
        end = self._transport.close if self._timer is None else self._transport.abort
        end()

    def abort(self) -> None:
        """End the connection without waiting for what has not been read yet."""
        self._transport.abort()

    def _proceed(self) -> None:
        """Answer the requests that are there, until one has to wait."""
        while self._timer is None and not self._transport.is_closing():
            try:
                request = self._parser.next()
            except BadRequestError as error:
                self._give_up(error)
                return
            if request is None:
                if self._parser.take_expectation():
                    self._transport.write(CONTINUE)
                return
            self._take(request)

    def _take(self, request: Request) -> None:
        reply = self._respond(request)
        if reply.fault == HANG:
            self._later(_HANG_SECONDS, self._transport.abort)
        elif reply.delay_seconds:
            self._later(reply.delay_seconds, partial(self._finish, request, reply))
        else:
            self._write(request, reply)

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, act)

    def _finish(self, request: Request, reply: Reply) -> None:
        self._timer = None
        self._write(request, reply)
        self._proceed()

    def _write(self, request: Request, reply: Reply) -> None:
        if reply.fault == RESET:
            self._reset()
        elif reply.fault == TRUNCATE:
            self._transport.write(encode_truncated(reply.answer))
            self._transport.close()
        else:
            with_body = request.method != "HEAD"
            self._transport.write(encode(reply.answer, keep_alive=request.keep_alive, with_body=with_body))
            if not request.keep_alive:
                self._transport.close()

    def _reset(self) -> None:
        """Cut the connection so that the client sees a reset, not an end."""
        connection = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
        self._transport.abort()

    def _give_up(self, error: BadRequestError) -> None:
        self._transport.write(encode(ok({"error": str(error)}, status=error.status), keep_alive=False))
        self._transport.close()
