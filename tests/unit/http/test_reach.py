"""The host is tried at the start: patiently, quietly, and no longer than the run."""

import asyncio

import pytest
import structlog
from support.jump_loop import run_jumping

from permutive_worker.errors import UnreachableError
from permutive_worker.http.reach import wait_until_reachable


class Host:
    """Answers at the moment `up_at`."""

    def __init__(self, up_at=float("inf")):
        self.up_at = up_at

    async def reach(self):
        if asyncio.get_running_loop().time() < self.up_at:
            raise UnreachableError("the API host x:443 cannot be reached: no")


class Hanging:
    async def reach(self):
        await asyncio.Event().wait()


async def never():
    await asyncio.Event().wait()


async def after(seconds):
    await asyncio.sleep(seconds)


def ended_after(wire, patience_seconds, until_stopped=never):
    async def wait():
        await wait_until_reachable(wire, patience_seconds, until_stopped)
        return asyncio.get_running_loop().time()

    return run_jumping(wait())


def test_a_host_that_comes_up_is_found():
    assert ended_after(Host(up_at=3.2), 10) == pytest.approx(3.5)


def test_a_finite_run_gives_up_and_says_that_nothing_was_read():
    with pytest.raises(
        UnreachableError, match=r"cannot be reached: no; it was tried for 10 s, and nothing was"
    ):
        ended_after(Host(), 10)


def test_a_service_warns_every_ten_seconds():
    with structlog.testing.capture_logs() as logs:
        assert ended_after(Host(up_at=3600), None) == pytest.approx(3600)

    assert 350 <= len(logs) <= 360


@pytest.mark.parametrize("wire", [Host(), Hanging()])
def test_a_stop_ends_it_at_once_also_a_try_that_hangs(wire):
    assert ended_after(wire, 10, lambda: after(1.25)) == 1.25
