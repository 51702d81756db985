"""Who fails does not slow the others: how many of them are delivered in a fixed virtual time, against their solo."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from support.jump_loop import run_jumping
from support.worker import identify, memory_worker

from permutive_worker.config import Delivery, Guard, Input, RateLimit, Settings
from permutive_worker.credentials import load_keyring
from permutive_worker.errors import TransportError
from permutive_worker.model import Response

LATENCY_SECONDS = 0.2
TIMEOUT_SECONDS = 10.0
SHARE = 0.95
FAILURES = ("500", "403", "hang")
DELIVERY = Delivery(max_in_flight=32, max_pending_bytes=64 * 1024 * 1024)


class FailingWire:
    """Delivers after the latency, but for what `fails` picks; counts the others it delivered."""

    def __init__(self, how, fails):
        self.how = how
        self.fails = fails
        self.others = 0

    async def send(self, request):
        failing = self.fails(request)
        hangs = failing and self.how == "hang"
        await asyncio.sleep(TIMEOUT_SECONDS if hangs else LATENCY_SECONDS)
        if hangs:
            raise TransportError("timeout", sent=True)
        self.others += not failing
        return Response(int(self.how) if failing else 200, {}, b"{}")


def event(number, user=None, **more):
    return {"type": "event", "name": "Bought", "user_id": user or f"user-{number}", **more}


def others_in(seconds, jobs, how, fails, *, rate=0.0, keyring=None, workspace=None):
    """How many of the others were delivered, that many seconds after the first request."""

    async def scenario():
        wire = FailingWire(how, fails)
        settings = Settings(
            rate_limit=RateLimit(rate_per_second=rate),
            delivery=DELIVERY,
            guard=Guard(max_failure_ratio=1),
            input=Input(workspace=workspace),
        )
        worker, _ = memory_worker(jobs, SimpleNamespace(send=wire.send), settings=settings, keyring=keyring)
        asyncio.get_running_loop().call_later(seconds, worker.hurry)
        await worker.run()
        return wire.others, worker

    return run_jumping(scenario())


@pytest.mark.parametrize("how", FAILURES)
def test_a_user_who_fails_slows_nobody(how):
    def fails(request):
        return b'"bad"' in request.body

    mixed = [identify(n, user="bad" if n % 20 == 0 else None) for n in range(20_000)]
    solo = [job for job in mixed if job["user_id"] != "bad"]
    alone, _ = others_in(60, solo, how, fails)
    beside, worker = others_in(60, mixed, how, fails)

    assert alone > 4000
    assert beside >= SHARE * alone
    assert worker.counts.read == worker.counts.ended


@pytest.mark.parametrize(("how", "rate"), [("500", 0), ("403", 0), ("500", 20), ("403", 20), ("hang", 20)])
def test_a_kind_that_fails_slows_no_other(how, rate):
    def fails(request):
        return request.kind == "event"

    seconds = 600 if rate else 60
    mixed = [make(n) for n in range(12_000) for make in (identify, event)]
    alone, _ = others_in(seconds, [identify(n) for n in range(12_000)], how, fails, rate=rate)
    beside, _ = others_in(seconds, mixed, how, fails, rate=rate)

    assert alone > 4000
    assert beside >= SHARE * alone


@pytest.mark.parametrize("how", ["500", "401", "hang"])
def test_a_workspace_that_fails_slows_no_other(tmp_path, how):
    workspaces = [
        {"name": name, "workspace_id": name, "api_key": f"key-of-{name}"} for name in ("bad", "good")
    ]
    (tmp_path / "keys.json").write_text(json.dumps(workspaces))
    keyring = load_keyring({"PERMUTIVE_APPLICATION_CREDENTIALS": str(tmp_path / "keys.json")})

    def fails(request):
        return b'"bad-' in request.body

    mixed = [
        identify(n, user=f"{name}-{n}", workspace=name) for n in range(10_000) for name in ("bad", "good")
    ]
    solo = [job for job in mixed if job["workspace"] == "good"]
    given = {"keyring": keyring, "workspace": "good"}
    alone, _ = others_in(60, solo, how, fails, **given)
    beside, worker = others_in(60, mixed, how, fails, **given)

    assert alone > 4000
    assert beside >= SHARE * alone
    assert worker.counts.dead == 0
