"""The lean wire is tried before it is trusted, and nothing depends on it."""

import pytest
from support.raw_server import OK, raw_server
from support.worker import KEY, identify

from permutive_worker.config import Http, Settings
from permutive_worker.credentials import Keyring
from permutive_worker.errors import ConfigurationError, TransportError
from permutive_worker.http import lean, self_check
from permutive_worker.http.lean import LeanWire
from permutive_worker.http.self_check import find_fault
from permutive_worker.model import Response
from permutive_worker.sources.memory import MemorySource
from permutive_worker.worker import Worker, lanes
from permutive_worker.worker.lanes import WireChoice, choose_wire


async def test_there_is_no_fault_with_the_aiohttp_that_is_installed():
    assert await find_fault() is None
    assert await choose_wire("auto") == await choose_wire("lean") == WireChoice("lean")


def another_body(wire):
    async def send(request):
        answer = await LeanWire.send(wire, request)
        return Response(answer.status, answer.headers, answer.body[1:])

    return send


def no_field(wire):
    writer = wire._bytes
    writer._fields = writer._fields.replace("Host", "Hots")
    return wire.send


def never_keeps(wire):
    wire._keep = lambda held: False
    return wire.send


def looks_at_no_connection(wire):
    wire._keep = lambda held: wire._idle.append(held) or True
    wire._take = lambda now: wire._idle.pop() if wire._idle else None
    return wire.send


def breaks(wire):
    def send(request):
        raise AttributeError("set_response_params")

    return send


def hangs(wire):
    async def send(request):
        raise TransportError("timeout", sent=True)

    return send


@pytest.mark.parametrize(
    "fault", [another_body, no_field, never_keeps, looks_at_no_connection, breaks, hangs]
)
async def test_every_fault_is_found_and_the_plain_wire_is_used(monkeypatch, fault):
    class Faulty(LeanWire):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.send = fault(self)

    monkeypatch.setattr(self_check, "LeanWire", Faulty)
    choice = await choose_wire("auto")
    assert choice.kind == "plain"
    assert choice.fallback
    with pytest.raises(ConfigurationError, match=r"http\.wire = lean does not work here"):
        await choose_wire("lean")


async def test_without_loopback_the_plain_wire_is_used(monkeypatch):
    async def no_loopback(_):
        raise OSError(99, "no loopback")

    monkeypatch.setattr(self_check._Server, "start", no_loopback)
    assert await choose_wire("auto") == WireChoice("plain", "OSError")


async def test_a_misfit_is_not_even_tried(monkeypatch):
    monkeypatch.setattr(lanes, "misfit", lambda: "aiohttp 4.0 is not one of 3.12 to 3.14")
    monkeypatch.setattr(lanes, "find_fault", None)
    assert await choose_wire("auto") == WireChoice("plain", "aiohttp 4.0 is not one of 3.12 to 3.14")


async def test_plain_asks_for_no_check(monkeypatch):
    monkeypatch.setattr(lanes, "find_fault", None)
    monkeypatch.setattr(lean, "HttpResponseParser", lean.HttpResponseParserPy)
    assert await choose_wire("plain") == WireChoice("plain")


@pytest.mark.parametrize(("misfit", "used"), [(None, "lean"), ("it is too new", "plain")])
async def test_the_status_says_which_wire_is_used_and_why(monkeypatch, misfit, used):
    monkeypatch.setattr(lanes, "misfit", lambda: misfit)
    async with raw_server(OK) as server:
        settings = Settings(http=Http(base_url=server.url))
        worker = Worker(
            settings,
            source=MemorySource([identify(number) for number in range(20)]),
            writers={},
            keyring=Keyring.of_key(KEY),
        )
        summary = await worker.run()
    assert summary.delivered == 20
    assert (worker.look().wire, worker.look().wire_fallback) == (used, misfit)
    assert worker.counts.wire_fallbacks == (misfit is not None)
