"""What every wire does with what a server may do. A second wire joins by one line in `WIRES`."""

import asyncio
import gzip
import socket
from contextlib import asynccontextmanager

import pytest
from aiohttp.abc import AbstractResolver
from support.raw_server import OK, close, hang, raw_server, reset, then

from permutive_worker.credentials import Keyring
from permutive_worker.errors import TransportError, UnreachableError
from permutive_worker.http.plain import MAX_BODY_BYTES, PlainWire, open_session
from permutive_worker.model import Request

KEY = "f9975143-2d88-46dc-9247-1fb6c790e1cc"
WIRES = ["plain"]


@pytest.fixture(params=WIRES)
def kind(request):
    return request.param


@asynccontextmanager
async def wire_to(kind, url, *, timeout_seconds=5.0, proxy=None):
    (credentials,) = Keyring.of_key(KEY)
    async with open_session(8, timeout_seconds) as session:
        yield {"plain": PlainWire}[kind](
            session, url, credentials, timeout_seconds=timeout_seconds, proxy=proxy
        )


def post(path="/v2.0/identify", body=b'{"user_id":"u"}', **options):
    return Request("POST", path, body, "identify", **options)


async def test_request_bytes(kind):
    async with raw_server(OK) as server, wire_to(kind, server.url) as wire:
        response = await wire.send(post())

    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    assert lines[0] == "POST /v2.0/identify HTTP/1.1"
    assert headers["x-api-key"] == KEY
    assert headers["content-type"] == headers["accept"] == "application/json"
    assert headers["user-agent"].startswith("permutive-worker/")
    assert "cookie" not in headers
    assert body == b'{"user_id":"u"}'
    assert (response.status, response.body, response.truncated) == (200, b"{}", False)


async def test_key_travels_in_the_query_only_where_the_api_wants_it(kind):
    async with raw_server(OK) as server, wire_to(kind, server.url) as wire:
        await wire.send(Request("GET", "/cohorts-api/v2/cohorts/?a=1", b"", "cohort", key_in_query=True))

    head = server.requests[0].decode()
    assert head.startswith(f"GET /cohorts-api/v2/cohorts/?a=1&k={KEY} HTTP/1.1")
    assert "x-api-key" not in head.lower()


async def test_a_path_prefix_of_the_base_url_is_kept(kind):
    async with raw_server(OK) as server, wire_to(kind, server.url + "/proxy/permutive") as wire:
        await wire.send(post())
    assert server.requests[0].startswith(b"POST /proxy/permutive/v2.0/identify HTTP/1.1")


async def test_connections_are_used_again(kind):
    async with raw_server(OK) as server, wire_to(kind, server.url) as wire:
        for _ in range(5):
            await wire.send(post())
    assert server.connections == 1


@pytest.mark.parametrize("status", [201, 204, 301, 302, 400, 401, 403, 404, 408, 413, 429, 500, 503])
async def test_every_status_is_an_answer_and_redirects_are_not_followed(kind, status):
    answer = (
        f"HTTP/1.1 {status} X\r\nLocation: /elsewhere\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n".encode()
    )
    if status == 204:
        answer = b"HTTP/1.1 204 No Content\r\nRetry-After: 7\r\n\r\n"
    async with raw_server(answer) as server, wire_to(kind, server.url) as wire:
        response = await wire.send(post())
    assert (response.status, response.body) == (status, b"")
    assert response.headers["retry-after"] == "7"
    assert len(server.requests) == 1


async def test_cookies_are_not_kept(kind):
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: user=1\r\nContent-Length: 0\r\n\r\n"
    async with raw_server(answer) as server, wire_to(kind, server.url) as wire:
        await wire.send(post())
        await wire.send(post())
    assert b"cookie" not in server.requests[1].lower()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 11\r\n\r\nhello world",
        then(b"HTTP/1.1 200 OK\r\n\r\nhello world", close),
        then(b"HTTP/1.0 200 OK\r\n\r\nhello world", close),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
    ],
    ids=["chunked", "close", "until-eof", "http10", "continue"],
)
async def test_bodies_in_every_framing(kind, answer):
    async with raw_server(answer) as server, wire_to(kind, server.url) as wire:
        response = await wire.send(post())
    assert (response.status, response.body, response.truncated) == (200, b"hello world", False)


async def test_gzip_bodies(kind):
    packed = gzip.compress(b"hello world")
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (
        len(packed),
        packed,
    )
    async with raw_server(answer) as server, wire_to(kind, server.url) as wire:
        assert (await wire.send(post())).body == b"hello world"


async def test_a_body_is_read_up_to_its_bound(kind):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b"x" * 900_000
    async with raw_server(answer) as server, wire_to(kind, server.url) as wire:
        response = await wire.send(post())
        assert len(response.body) == MAX_BODY_BYTES
        assert response.truncated
        assert (await wire.send(post())).status == 200


@pytest.mark.parametrize("after", [close, reset])
async def test_a_status_that_was_read_decides_though_the_body_breaks_off(kind, after):
    answer = then(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", after)
    async with raw_server(answer) as server, wire_to(kind, server.url) as wire:
        response = await wire.send(post())
    assert (response.status, response.truncated) == (200, True)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (reset, {"reset", "disconnected"}),
        (close, {"disconnected"}),
        (then(b"HTTP/1.1 20", close), {"disconnected", "protocol"}),
        (b"not http at all\r\n\r\n", {"protocol"}),
        (hang, {"timeout"}),
        (then(b"HTTP/1.1 200 OK\r\n", hang), {"timeout"}),
        (then(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", hang), {"timeout"}),
    ],
    ids=["reset", "close", "half-status", "garbage", "hang", "half-head", "half-body"],
)
async def test_no_answer_is_a_typed_error_that_says_it_was_sent(kind, answer, expected):
    async with raw_server(answer) as server, wire_to(kind, server.url, timeout_seconds=0.3) as wire:
        with pytest.raises(TransportError) as caught:
            await wire.send(post())
    assert caught.value.kind in expected
    assert caught.value.sent


async def test_after_a_timeout_the_next_request_gets_its_own_answer(kind):
    late = then(b"", hang)
    async with raw_server(late, OK) as server, wire_to(kind, server.url, timeout_seconds=0.3) as wire:
        with pytest.raises(TransportError):
            await wire.send(post())
        assert (await wire.send(post())).status == 200


async def test_a_port_where_nobody_listens_was_certainly_not_sent(kind):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        async with wire_to(kind, url) as wire:
            with pytest.raises(TransportError) as caught:
                await wire.send(post())
            assert (caught.value.kind, caught.value.sent) == ("connect", False)
            with pytest.raises(UnreachableError, match="cannot be reached"):
                await wire.reach()


async def test_a_name_nobody_knows_was_certainly_not_sent(kind):
    async with wire_to(kind, "http://nobody.invalid") as wire:
        with pytest.raises(TransportError) as caught:
            await wire.send(post())
    assert (caught.value.kind, caught.value.sent) == ("dns", False)


async def test_plain_text_where_tls_is_expected_was_certainly_not_sent(kind):
    async with raw_server(OK) as server, wire_to(kind, server.url.replace("http:", "https:")) as wire:
        with pytest.raises(TransportError) as caught:
            await wire.send(post())
    assert caught.value.sent is False


async def test_errors_do_not_hold_the_key(kind):
    async with raw_server(reset) as server, wire_to(kind, server.url) as wire:
        with pytest.raises(TransportError) as caught:
            await wire.send(Request("GET", "/x", b"", "cohort", key_in_query=True))
    error: BaseException | None = caught.value
    assert error.__cause__ is None
    assert error.__suppress_context__
    assert KEY not in f"{error} {error!r}"


async def test_a_cancelled_attempt_is_cancelled_and_its_connection_not_used_again(kind):
    async with raw_server(hang, OK) as server, wire_to(kind, server.url) as wire:
        sending = asyncio.create_task(wire.send(post()))
        await server.asked.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert (await wire.send(post())).status == 200
        assert server.connections == 2


async def test_an_idle_connection_the_server_closed_is_not_used_again(kind):
    async with raw_server(then(OK, close), OK) as server, wire_to(kind, server.url) as wire:
        await wire.send(post())
        for _ in range(3):
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert (await wire.send(post())).status == 200


async def test_a_proxy_gets_the_whole_url_and_its_password_apart(kind):
    async with raw_server(OK) as proxy:
        address = proxy.url.replace("http://", "http://user:pass@")
        async with wire_to(kind, "http://api.example", proxy=address) as wire:
            await wire.send(post())
    head = proxy.requests[0].decode()
    assert head.startswith("POST http://api.example/v2.0/identify HTTP/1.1")
    assert "Proxy-Authorization: Basic dXNlcjpwYXNz" in head


async def test_a_replaced_key_is_used_by_the_next_attempt(kind):
    async with raw_server(OK) as server, open_session(8, 5.0) as session:
        (credentials,) = Keyring.of_key(KEY)
        wire = PlainWire(session, server.url, credentials, timeout_seconds=5.0)
        await wire.send(post())
        credentials.key = "another-key-of-the-same-workspace"
        await wire.send(post())
    assert b"another-key-of-the-same-workspace" in server.requests[1]
    assert KEY.encode() not in server.requests[1]


class NoAnswer(AbstractResolver):
    """A name server that does not answer."""

    async def resolve(self, host, port=0, family=socket.AF_INET):
        await asyncio.Event().wait()

    async def close(self):
        pass


async def test_a_name_server_that_does_not_answer_was_certainly_not_asked_to_send(kind):
    async with wire_to(kind, "http://slow.example", timeout_seconds=0.3) as wire:
        wire._session.connector._resolver = NoAnswer()
        with pytest.raises(TransportError) as caught:
            await wire.send(post())
    assert (caught.value.kind, caught.value.sent) == ("connect_timeout", False)


async def test_a_host_that_does_not_take_the_connection_was_certainly_not_sent(kind):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # one may wait; those after it are not even answered
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        async with wire_to(kind, f"http://127.0.0.1:{full.getsockname()[1]}", timeout_seconds=0.3) as wire:
            with pytest.raises(TransportError) as caught:
                await wire.send(post())
            with pytest.raises(UnreachableError, match="no answer"):
                await wire.reach()
        for one in waiting:
            one.close()
    assert (caught.value.kind, caught.value.sent) == ("connect_timeout", False)


async def test_a_tls_handshake_that_hangs_was_certainly_not_sent(kind):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        async with wire_to(kind, url, timeout_seconds=0.3) as wire:
            with pytest.raises(TransportError) as caught:
                await wire.send(post())
    assert (caught.value.kind, caught.value.sent) == ("connect_timeout", False)
