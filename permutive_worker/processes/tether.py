"""A worker's end of the socket to the first process: reports go out, commands come in.

before a checkpoint is written     a report: what a checkpoint calls done is in the first one's counts,
                                   whatever becomes of this process then
four times a second                a report: what has no checkpoint moves too
the stream ends                    the first process is gone: drain and leave, nobody would start us again
"""

import asyncio
import os
import socket
from contextlib import suppress
from typing import Final

from permutive_worker.control.exit_code import STOPPED_EARLY
from permutive_worker.processes.messages import (
    Command,
    Farewell,
    Frames,
    Order,
    Report,
    frame,
)
from permutive_worker.worker import Worker

REPORT_SECONDS: Final = 0.25
LEAVE_SECONDS: Final = 5.0  # beyond `drain_seconds`: a thread may hang in a write that nobody reads
_READ_BYTES: Final = 65536


class Tether:
    """Ties a worker to the first process; `sock` is ours."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._frames = Frames(Order, Command)
        self._unsent = b""  # of a frame that was begun
        self._worker: Worker | None = None

    def wait_for_order(self) -> Order | None:
        """Block until it is there; None if the first process is gone."""
        while data := self._sock.recv(_READ_BYTES):
            for message in self._frames.feed(data):
                order: Order = message
                self._sock.setblocking(False)
                return order
        return None

    def tie(self, worker: Worker) -> None:
        """Report of this worker from now on."""
        self._worker = worker

    def report(self) -> None:
        """Send this moment, unless the first process is so late that an earlier one is not gone yet."""
        worker = self._worker
        if worker is None or (self._unsent and not self._send(b"")):
            return
        self._send(frame(Report(vars(worker.counts), worker.look())))

    def _send(self, data: bytes) -> bool:
        """Send at once what the socket takes; True if that was all."""
        self._unsent += data
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            while self._unsent:
                self._unsent = self._unsent[self._sock.send(self._unsent) :]
        return not self._unsent

    async def report_often(self) -> None:
        """Report until cancelled."""
        while True:
            self.report()
            await asyncio.sleep(REPORT_SECONDS)

    async def obey(self) -> None:
        """Do what the first process says until cancelled, or until it is gone."""
        loop, data = asyncio.get_running_loop(), b""
        with suppress(ConnectionResetError):
            while True:
                for message in self._frames.feed(data):  # at first what came together with the order
                    self._do(message)
                if not (data := await loop.sock_recv(self._sock, _READ_BYTES)):
                    break
        self._leave_alone()

    def _do(self, command: Command) -> None:
        if self._worker is None:
            return
        if command.hurry:
            self._worker.hurry()
        else:
            self._worker.stopping.request(command.why)

    def _leave_alone(self) -> None:
        worker = self._worker
        if worker is None or worker.stopping.hurried:
            os._exit(STOPPED_EARLY)
        worker.stop()
        patience_seconds = worker.settings.delivery.drain_seconds + LEAVE_SECONDS
        asyncio.get_running_loop().call_later(patience_seconds, os._exit, STOPPED_EARLY)

    def say_farewell(self, farewell: Farewell) -> None:
        """Send the last report and how it ended; blocks until the first process has taken them, or is gone."""
        self._sock.setblocking(True)
        self.report()
        self._send(frame(farewell))
