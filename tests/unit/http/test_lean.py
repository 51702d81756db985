"""What only the lean wire does: it holds its connections itself."""

import asyncio
import gzip
import tomllib
from pathlib import Path

import aiohttp
import pytest
from support.raw_server import OK, hang, raw_server
from support.wires import KEY, post, wire_to

from permutive_worker.credentials import Keyring
from permutive_worker.errors import TransportError
from permutive_worker.http import lean
from permutive_worker.http.lean import LeanWire
from permutive_worker.http.plain import open_session

ROOT = Path(__file__).parents[3]


async def test_idle_connections_are_closed_unasked(monkeypatch):
    monkeypatch.setattr(lean, "KEEPALIVE_SECONDS", 0.0)
    monkeypatch.setattr(lean, "SWEEP_SECONDS", 0.01)
    closed = asyncio.Event()

    async def answer(writer):
        writer.write(OK)
        watching.append(asyncio.create_task(writer.wait_closed()))
        watching[-1].add_done_callback(lambda _: closed.set())

    watching = []
    async with raw_server(answer) as server, wire_to("lean", server.url) as wire:
        await wire.send(post())
        await closed.wait()


async def test_idle_connections_are_not_used_beyond_their_time(monkeypatch):
    monkeypatch.setattr(lean, "KEEPALIVE_SECONDS", 0.0)
    async with raw_server(OK) as server, wire_to("lean", server.url) as wire:
        await wire.send(post())
        await asyncio.sleep(0.01)
        await wire.send(post())
    assert server.connections == 2


async def test_the_connection_used_last_is_used_first():
    async with raw_server(OK) as server, wire_to("lean", server.url) as wire:
        await asyncio.gather(*(wire.send(post()) for _ in range(4)))
        many = server.connections
        for _ in range(20):
            await wire.send(post())
        assert server.connections == many


async def test_a_wire_takes_what_another_one_of_the_session_gives_up():
    (credentials,) = Keyring.of_key(KEY)
    async with raw_server(OK) as server, open_session(1, 5.0) as session:
        first, second = (LeanWire(session, server.url, credentials, timeout_seconds=5.0) for _ in range(2))
        await first.send(post())
        first.close()
        assert (await second.send(post())).status == 200
        second.close()


async def test_a_host_that_speaks_or_hangs_up_first_was_certainly_not_sent():
    async def greet(reader, writer):
        writer.write(b"220 mail.example\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with open_session(2, 5.0) as session:
        (credentials,) = Keyring.of_key(KEY)
        wire = LeanWire(session, url, credentials, timeout_seconds=5.0)
        connect = session.connector.connect

        async def connect_and_dawdle(*arguments, **options):
            connection = await connect(*arguments, **options)
            while not connection.closed:
                await asyncio.sleep(0)
            return connection

        session.connector.connect = connect_and_dawdle
        with pytest.raises(TransportError) as caught:
            await wire.send(post())
        wire.close()
    server.close()
    assert (caught.value.kind, caught.value.sent) == ("connect", False)


async def test_closing_leaves_no_connection_behind():
    async with raw_server(OK, hang) as server, wire_to("lean", server.url) as wire:
        await wire.send(post())
        sending = asyncio.create_task(wire.send(post()))
        while len(server.requests) < 2:
            await asyncio.sleep(0)
        wire.close()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert "idle=0" in repr(wire)


async def test_after_the_session_is_closed_nothing_is_sent():
    async with raw_server(OK) as server, wire_to("lean", server.url) as wire:
        await wire.send(post())
        wire.close()
        await wire._session.close()
        with pytest.raises(TransportError) as caught:
            await wire.send(post())
    assert (caught.value.kind, caught.value.sent) == ("connect", False)


@pytest.mark.parametrize(
    ("version", "fits"),
    [
        ("3.11.18", False),
        ("3.12.0", True),
        ("3.13.5", True),
        ("3.14.99", True),
        ("3.15.0a1", False),
        ("4.0.0", False),
        ("unknown", False),
    ],
)
def test_an_aiohttp_that_was_not_tried_is_a_misfit(monkeypatch, version, fits):
    monkeypatch.setattr(aiohttp, "__version__", version)
    assert (lean.misfit() is None) is fits
    assert fits or version in lean.misfit()


def test_a_parser_in_python_is_a_misfit(monkeypatch):
    monkeypatch.setattr(lean, "HttpResponseParser", lean.HttpResponseParserPy)
    assert "parser" in lean.misfit()


def test_what_was_tried_begins_with_the_oldest_aiohttp_that_may_be_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = ".".join(map(str, lean.TESTED[0]))
    assert any(need.startswith(f"aiohttp>={oldest},") for need in project["dependencies"])
    assert f"local oldest={oldest}.0 " in (ROOT / ".ci/run").read_text()


async def test_a_server_may_change_how_it_answers():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    early = b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n"
    packed = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b"
    packed %= len(gzip.compress(b"{}", mtime=0)), gzip.compress(b"{}", mtime=0)
    answers = (OK, early + OK, OK, chunked, OK, packed, OK)

    async with raw_server(*answers) as server, wire_to("lean", server.url) as wire:
        for _ in answers:
            assert (await wire.send(post())).body == b"{}"
    assert server.connections == 1


@pytest.mark.parametrize("cut", range(1, len(OK)))
async def test_an_answer_may_come_in_two_pieces(cut):
    async def in_two(writer):
        writer.write(OK[:cut])
        await writer.drain()
        await asyncio.sleep(0.001)
        writer.write(OK[cut:])

    async with raw_server(in_two, OK) as server, wire_to("lean", server.url) as wire:
        for _ in range(2):
            assert (await wire.send(post())).body == b"{}"
    assert server.connections == 1
