"""What every wire does with TLS and with proxies."""

import asyncio
import ssl

import pytest
import trustme
from support.proxy import tunnel_proxy
from support.raw_server import OK, close, hang, raw_server, reset, then
from support.wires import KEY, WIRES, post, wire_to

from permutive_worker.errors import TransportError

CERTAIN = {"tls", "connect", "connect_timeout", "proxy", "dns"}


@pytest.fixture(params=WIRES)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def serving(authority, *names: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*(names or ("127.0.0.1",))).configure_cert(context)
    return context


@pytest.fixture
def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_tls_with_an_authority_of_ones_own(kind, authority, trusting):
    async with raw_server(OK, tls=serving(authority)) as server:
        async with wire_to(kind, server.url, tls=trusting) as wire:
            for _ in range(3):
                assert (await wire.send(post())).body == b"{}"
        assert server.connections == 1
        assert b"X-API-Key: " + KEY.encode() in server.requests[0]


@pytest.mark.parametrize("trusts", [True, False])
async def test_a_certificate_that_does_not_fit_was_certainly_not_sent(kind, authority, trusting, trusts):
    async with raw_server(OK, tls=serving(authority, "elsewhere.example")) as server:
        async with wire_to(kind, server.url, tls=trusting if trusts else None) as wire:
            with pytest.raises(TransportError) as caught:
                await wire.send(post())
        assert server.requests == []
    assert (caught.value.kind, caught.value.sent) == ("tls", False)


@pytest.mark.parametrize("does", ["close", "reset", "answer in plain text"])
async def test_a_handshake_that_breaks_off_was_certainly_not_sent(kind, does):
    async def break_off(reader, writer):
        await reader.read(1)
        if does == "reset":
            writer.transport.abort()
            return
        if does != "close":
            writer.write(OK)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(break_off, "127.0.0.1", 0)
    async with wire_to(kind, f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}") as wire:
        with pytest.raises(TransportError) as caught:
            await wire.send(post())
    server.close()
    assert caught.value.kind in CERTAIN
    assert caught.value.sent is False


async def test_a_handshake_that_hangs_was_certainly_not_sent(kind):
    over = asyncio.Event()

    async def say_nothing(reader, writer):
        await over.wait()
        writer.transport.abort()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        async with wire_to(kind, url, timeout_seconds=0.3) as wire:
            with pytest.raises(TransportError) as caught:
                await wire.send(post())
    finally:
        over.set()
        server.close()
    assert (caught.value.kind, caught.value.sent) == ("connect_timeout", False)


@pytest.mark.parametrize("after", [reset, close, hang])
async def test_tls_that_breaks_off_after_the_request_says_it_was_sent(kind, authority, trusting, after):
    async with (
        raw_server(after, OK, tls=serving(authority)) as server,
        wire_to(kind, server.url, tls=trusting, timeout_seconds=1.0) as wire,
    ):
        with pytest.raises(TransportError) as caught:
            await wire.send(post())
        assert caught.value.kind in {"reset", "disconnected", "timeout"}
        assert caught.value.sent
        assert (await wire.send(post())).status == 200


async def test_tls_that_the_server_closed_while_idle_is_not_used_again(kind, authority, trusting):
    async with (
        raw_server(then(OK, close), OK, tls=serving(authority)) as server,
        wire_to(kind, server.url, tls=trusting) as wire,
    ):
        await wire.send(post())
        await asyncio.sleep(0.05)
        assert (await wire.send(post())).status == 200


async def test_a_proxy_gets_the_whole_url_and_its_password_apart(kind):
    async with raw_server(OK) as proxy:
        address = proxy.url.replace("http://", "http://user:pass@")
        async with wire_to(kind, "http://api.example/base", proxy=address) as wire:
            await wire.send(post())
            await wire.send(post())
    head = proxy.requests[1].decode()
    assert head.startswith("POST http://api.example/base/v2.0/identify HTTP/1.1")
    assert "Host: api.example\r\n" in head
    assert "Proxy-Authorization: Basic dXNlcjpwYXNz" in head
    assert proxy.connections == 1


async def test_a_tunnel_shows_the_proxy_neither_key_nor_request(kind, authority, trusting):
    async with raw_server(OK, tls=serving(authority)) as server, tunnel_proxy() as proxy:
        address = proxy.url.replace("http://", "http://user:pass@")
        async with wire_to(kind, server.url, proxy=address, tls=trusting) as wire:
            for _ in range(3):
                assert (await wire.send(post())).body == b"{}"
    (head,) = proxy.heads
    assert head.startswith(b"CONNECT 127.0.0.1:")
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz" in head
    assert KEY.encode() not in head
    assert len(server.requests) == 3
    assert all(b"proxy-authorization" not in request.lower() for request in server.requests)


@pytest.mark.parametrize("status", [b"407 Who", b"502 Bad Gateway"])
async def test_a_proxy_that_refuses_the_tunnel_was_certainly_not_sent(kind, status):
    refusal = b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n"
    async with (
        tunnel_proxy(refusal) as proxy,
        wire_to(kind, "https://api.example", proxy=proxy.url) as wire,
    ):
        with pytest.raises(TransportError) as caught:
            await wire.send(post())
    assert (caught.value.kind, caught.value.sent) == ("proxy", False)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 20", b"HTTP/1.1 100 C\r\n\r\n", b"no http\r\n\r\n"])
async def test_a_proxy_that_answers_rubbish_was_certainly_not_sent(kind, answer):
    async with tunnel_proxy(answer) as proxy, wire_to(kind, "https://api.example", proxy=proxy.url) as wire:
        with pytest.raises(TransportError) as caught:
            await wire.send(post())
    assert (caught.value.kind, caught.value.sent) == ("proxy", False)


async def test_a_proxy_that_asks_for_a_password_in_the_clear_is_an_answer(kind):
    refusal = b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n"
    async with raw_server(refusal) as proxy, wire_to(kind, "http://api.example", proxy=proxy.url) as wire:
        assert (await wire.send(post())).status == 407


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_is_not_there_was_certainly_not_sent(kind, scheme, unused_tcp_port):
    proxy = f"http://127.0.0.1:{unused_tcp_port}"
    async with wire_to(kind, f"{scheme}://api.example", proxy=proxy) as wire:
        with pytest.raises(TransportError) as caught:
            await wire.send(post())
    assert (caught.value.kind, caught.value.sent) == ("proxy", False)
