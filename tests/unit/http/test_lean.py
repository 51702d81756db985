"""What only the lean wire does: it holds its connections itself."""

import asyncio
import gc
import gzip
import tomllib
import tracemalloc
from pathlib import Path

import aiohttp
import pytest
from support.raw_server import OK, close, hang, raw_server, reset
from support.wires import KEY, post, wire_to

from permutive_worker.credentials import Keyring
from permutive_worker.errors import TransportError
from permutive_worker.http import lean, sweep
from permutive_worker.http.lean import LeanWire
from permutive_worker.http.plain import MAX_BODY_BYTES, PlainWire, open_session

ROOT = Path(__file__).parents[3]


async def test_idle_connections_are_closed_unasked(monkeypatch):
    monkeypatch.setattr(lean, "KEEPALIVE_SECONDS", 0.0)
    monkeypatch.setattr(sweep, "SWEEP_SECONDS", 0.01)
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


async def test_an_attempt_that_is_waiting_at_the_close_has_a_deadline_yet():
    """So has one that begins later."""
    async with raw_server(OK, hang) as server, wire_to("lean", server.url, timeout_seconds=0.3) as wire:
        await asyncio.gather(wire.send(post()))
        idle = wire._idle.pop()
        connect, reached, go = wire._session.connector.connect, asyncio.Event(), asyncio.Event()

        async def connect_and_dawdle(*arguments, **options):
            reached.set()
            await go.wait()
            return await connect(*arguments, **options)

        wire._session.connector.connect = connect_and_dawdle
        sending = asyncio.create_task(wire.send(post()))
        await reached.wait()
        wire._idle.append(idle)
        wire.close()
        go.set()
        for late in (sending, wire.send(post())):
            with pytest.raises(TransportError) as caught:
                await late
            assert (caught.value.kind, caught.value.sent) == ("timeout", True)


async def test_cancelled_at_any_moment_it_leaves_nothing_behind():
    async with raw_server(OK) as server, wire_to("lean", server.url, connections=2) as wire:
        ends = set()
        for turns in (*range(40), *range(40)):  # from no connection, and with the one of the time before
            sending = asyncio.create_task(wire.send(post()))
            for _ in range(turns):
                await asyncio.sleep(0)
            sending.cancel()
            (end,) = await asyncio.gather(sending, return_exceptions=True)
            ends.add(type(end))
            assert not wire._busy
            assert not wire._waiting
            if isinstance(end, asyncio.CancelledError):
                continue
            while turns % 2 and wire._idle:
                wire._idle.pop().abort()
        assert asyncio.CancelledError in ends  # on a busy machine all of them
        assert (await wire.send(post())).body == b"{}"
        assert len(wire._idle) == len(wire._session.connector._acquired) == 1


@pytest.mark.parametrize("answer", [OK, close, reset, hang, b"noise\r\n\r\n"])
@pytest.mark.parametrize("waits", [0, 1], ids=["alone", "another-connects"])
async def test_no_cycles_are_left(answer, waits):
    """The garbage collector of the program looks seldom."""
    async with raw_server(answer) as server, wire_to("lean", server.url, timeout_seconds=0.15) as wire:
        try:
            for _ in range(3):
                gc.collect()
                gc.set_debug(gc.DEBUG_SAVEALL)
                wire._waiting = waits
                await asyncio.gather(wire.send(post()), return_exceptions=True)
                wire._waiting = 0
                await asyncio.sleep(0.01)
                gc.collect()
            assert not [one for one in gc.garbage if isinstance(one, lean._Held | TransportError)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()


async def test_a_connection_that_hangs_takes_no_other_away():
    """Where there is no bound nobody waits for a free one."""
    async with raw_server(OK) as server, wire_to("lean", server.url, connections=0) as wire:
        await wire.send(post())
        idle, connect, reached = wire._idle.pop(), wire._session.connector.connect, asyncio.Event()

        async def connect_never(*_, **__):
            reached.set()
            await asyncio.Event().wait()

        wire._session.connector.connect = connect_never
        connecting = asyncio.create_task(wire.send(post()))
        await reached.wait()
        wire._session.connector.connect = connect
        wire._idle.append(idle)
        await wire.send(post())
        assert list(wire._idle) == [idle]
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)


async def test_the_plain_wire_may_use_what_was_given_up():
    (credentials,) = Keyring.of_key(KEY)
    async with raw_server(OK) as server, open_session(1, 5.0) as session:
        lean_one, plain_one = (
            wire(session, server.url, credentials, timeout_seconds=5.0) for wire in (LeanWire, PlainWire)
        )
        for _ in range(3):
            lean_one._waiting = 1  # as if another waited for it
            assert (await lean_one.send(post())).body == b"{}"
            lean_one._waiting = 0
            assert (await plain_one.send(post())).body == b"{}"
        lean_one.close()
    assert server.connections == 1


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_packed_body_takes_little_memory(framing):
    bomb = gzip.compress(bytes(100_000_000), 9)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"
    if framing == "length":
        answer = head + b"Content-Length: %d\r\n\r\n%b" % (len(bomb), bomb)
    else:
        answer = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(bomb), bomb)
    async with raw_server(answer) as server, wire_to("lean", server.url) as wire:
        tracemalloc.start()
        try:
            assert (await wire.send(post())).body == bytes(MAX_BODY_BYTES)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak_bytes < 16_000_000


async def test_a_chunk_for_each_byte_does_not_hold_the_attempt_up():
    chunks = b"1\r\nx\r\n" * 20_000
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    async with raw_server(answer, OK) as server, wire_to("lean", server.url) as wire:
        response = await wire.send(post())
        assert len(response.body) > 16_000
        assert (await wire.send(post())).body == b"{}"


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
