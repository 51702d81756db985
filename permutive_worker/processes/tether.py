"""A worker's end of the socket to the first process: reports go out, commands come in.

before a checkpoint is written     a report: what a checkpoint calls done is in the first one's counts,
                                   whatever becomes of this process then
the API asks to wait               a pause: it is the workspace's, so the others keep it too
four times a second                a report: what has no checkpoint moves too
the stream ends                    the first process is gone: drain and leave, nobody would start us again
"""

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from permutive_worker.config import Settings
from permutive_worker.control.exit_code import STOPPED_EARLY
from permutive_worker.http.gate import Gate
from permutive_worker.processes.messages import (
    Command,
    Farewell,
    Frames,
    Order,
    Pause,
    Reload,
    Report,
    frame,
)
from permutive_worker.telemetry.logs import set_log_level
from permutive_worker.worker import Worker
from permutive_worker.worker.reload import change_limits

REPORT_SECONDS: Final = 0.25
SAME_PAUSE_SECONDS: Final = 0.05  # pauses that end so close to each other are one: nobody tells the rest
LEAVE_SECONDS: Final = 5.0  # beyond `drain_seconds`: a thread may hang in a write that nobody reads
_READ_BYTES: Final = 65536


class Tether:
    """Ties a worker to the first process; `sock` is ours."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._frames = Frames(Order, Command, Pause, Reload)
        self._unsent = b""  # of a frame that was begun
        self._worker: Worker | None = None
        self._gates: Mapping[str, Gate] = {}
        self._paused_until: dict[str, float] = {}  # what was told or heard of each workspace

    def wait_for_order(self) -> Order | None:
        """Block until it is there; None if the first process is gone."""
        while data := self._sock.recv(_READ_BYTES):
            for message in self._frames.feed(data):
                order: Order = message
                self._sock.setblocking(False)
                return order
        return None

    def tie(self, worker: Worker, gates: Mapping[str, Gate]) -> None:
        """Report of this worker from now on, and share the pauses of its gates, by workspace."""
        self._worker, self._gates = worker, gates
        for workspace, gate in gates.items():
            if gate.on_pause is None:  # else a shared limit tells of it
                gate.on_pause = partial(self._tell_pause, workspace)

    def _tell_pause(self, workspace: str, until: float) -> None:
        if until > self._paused_until.get(workspace, 0.0) + SAME_PAUSE_SECONDS:
            self._paused_until[workspace] = until
            self._send(frame(Pause(workspace, until)))

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

    def _do(self, message: Command | Pause | Reload) -> None:
        match message:
            case Reload(settings) if self._worker is not None:
                self._reload(self._worker, settings)
            case Pause(workspace, until) if until > self._paused_until.get(workspace, time.monotonic()):
                self._paused_until[workspace] = until
                self._gates[workspace].pause(until)
            case Command(hurry=True) if self._worker is not None:
                self._worker.hurry()
            case Command(why) if self._worker is not None:
                self._worker.stopping.request(why)

    def _reload(self, worker: Worker, settings: Settings) -> None:
        """The first process has looked whether the settings can be taken, and has told of them."""
        old = worker.settings
        new = worker.reload(settings).settings
        change_limits(self._gates.values(), old, new, time.monotonic())
        set_log_level(new.log.level)

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
