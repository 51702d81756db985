"""`python -m permutive_worker.cli.member FD`: one of the worker processes of `run --processes N`.

Started by the first process only, which tells it by the socket at descriptor FD what to do. Signals that people
send to stop a run are for the first process: systemd and terminals send them to all, and a second one means more.
"""

import asyncio
import ctypes
import gc
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from permutive_worker.cli.leaving import leave
from permutive_worker.cli.loops import loop_factory, run_in_loop
from permutive_worker.cli.process import GC_THRESHOLDS, sentence_of
from permutive_worker.cli.unread import be_patient_with_stderr
from permutive_worker.credentials import Keyring, load_keyring
from permutive_worker.errors import WorkerError
from permutive_worker.ports import SystemClock
from permutive_worker.processes.messages import Farewell, Order
from permutive_worker.processes.tether import Tether
from permutive_worker.sources.files import FileSource
from permutive_worker.telemetry.logs import configure_logs, logger
from permutive_worker.worker import Worker
from permutive_worker.worker.checkpoints import checkpoint_store
from permutive_worker.worker.limiters import open_gates

_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG: Final = 1


def main(descriptor: int) -> int:
    """Work on one share; return its exit code, which the farewell has told already."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":  # if the first process is killed while all are suspended, go on and see it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)
    tether = Tether(socket.socket(fileno=descriptor))
    order = tether.wait_for_order()
    if order is None:
        return 0
    try:
        farewell = _work(order, tether)
    except WorkerError as error:
        farewell = Farewell(error.exit_code, [(error.exit_code, str(error))], refused=True)
    except Exception as bug:  # noqa: BLE001  (its text may hold an identifier, so Python shall not print it)
        logger().error("run.failed_inside", error=type(bug).__name__, exc_info=True)
        farewell = Farewell(1, [(1, sentence_of(bug))], stopped=True)
    tether.say_farewell(farewell)
    return farewell.exit_code


def _work(order: Order, tether: Tether) -> Farewell:
    keyring, log = load_keyring(os.environ), order.settings.log
    configure_logs(log.level, log.format, None, keyring.scrub_text, colors=False, process=order.number)
    return run_in_loop(_deliver(order, keyring, tether), loop_factory())


async def _deliver(order: Order, keyring: Keyring, tether: Tether) -> Farewell:
    settings = order.settings
    paths = [Path(os.fsdecode(path)) for path in order.paths]
    source = FileSource(paths, settings.input.max_line_bytes, checkpoint_store(settings, keyring))
    async with AsyncExitStack() as stack:
        gates = await open_gates(stack, settings, list(keyring), {}, SystemClock().monotonic)
        worker = Worker(settings, source=source, keyring=keyring, gates=gates, run_id=order.run_id)
        if source.remembered is not None:
            source.remembered.before_write = tether.report
        tether.tie(worker, gates)
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        for work in (tether.obey(), tether.report_often()):
            stack.callback(asyncio.create_task(work).cancel)
        summary = await worker.run()
    return Farewell(
        summary.exit_code,
        [(getattr(error, "exit_code", 1), sentence_of(error)) for error in worker.errors()],
        stopped=worker.stopping.requested,
        tripped=worker.guard.tripped,
    )


if __name__ == "__main__":
    be_patient_with_stderr()
    leave(main(int(sys.argv[1])))
