"""The end of a command's loop, and of its process: nothing that hangs holds it up."""

import asyncio
import signal
import subprocess
import sys

import pytest

from permutive_worker.cli.loops import END_SECONDS, loop_factory, run_in_loop

SECONDS = 30  # far more than an end may take, far less than for ever

# What can hang, and what the program that has it does before it ends.
HANGING = {
    "a thread": "loop.run_in_executor(None, threading.Event().wait)",
    "a task that cannot be cancelled": "keep.append(loop.create_task(hang_on()))",
    "an async generator": "keep.append(generator := generate()); await anext(generator)",
    "a destructor": "sys.modules['hangs'] = Hangs()",
}
PROGRAM = """
import asyncio, contextlib, sys, threading
from permutive_worker.cli.leaving import leave
from permutive_worker.cli.loops import loop_factory, run_in_loop

keep = []

async def hang_on():
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

async def generate():
    try:
        yield
    finally:
        await asyncio.Event().wait()

class Hangs:
    def __del__(self, wait=threading.Event().wait):
        wait()

async def main():
    loop = asyncio.get_running_loop()
    {does}
    return 7

code = run_in_loop(main(), {make_loop})
print("it ends with", code)
leave(code)
"""


@pytest.mark.parametrize("make_loop", ["loop_factory()", "None"])
@pytest.mark.parametrize("does", HANGING.values(), ids=HANGING)
def test_nothing_that_hangs_holds_up_the_end_of_the_process(does, make_loop):
    program = PROGRAM.format(does=does, make_loop=make_loop)

    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=SECONDS, check=False
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "it ends with 7\n", "")


@pytest.mark.parametrize("make_loop", [loop_factory(), None])
def test_a_loop_that_can_be_closed_is_closed(make_loop):
    loops = []

    async def main():
        loops.append(asyncio.get_running_loop())

    run_in_loop(main(), make_loop)

    assert loops[0].is_closed()


def test_a_signal_after_the_end_does_not_change_it():
    async def main():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)

    before = signal.getsignal(signal.SIGTERM)
    try:
        run_in_loop(main(), loop_factory())
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_error_is_raised_and_tasks_are_ended_before():
    ended = []

    async def other():
        try:
            await asyncio.sleep(100 * END_SECONDS)
        finally:
            ended.append(True)

    async def main():
        task = asyncio.create_task(other())
        await asyncio.sleep(0)
        raise ValueError(task.get_name())

    with pytest.raises(ValueError, match="Task-"):
        run_in_loop(main(), loop_factory())

    assert ended
