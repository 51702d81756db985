"""What every wire does with what a server may do. A wire joins by one line in `WIRES` of support/wires.py."""

import asyncio
import gzip
import socket
import struct
import time
import zlib
from contextlib import ExitStack, contextmanager, suppress

import pytest
from aiohttp.abc import AbstractResolver
from support.raw_server import OK, close, drip, hang, raw_server, reset, then
from support.wires import KEY, WIRES, post, wire_to

from permutive_worker.credentials import Keyring
from permutive_worker.errors import TransportError, UnreachableError
from permutive_worker.http import lean
from permutive_worker.http.plain import MAX_BODY_BYTES
from permutive_worker.http.sweep import SUSPENDED_SECONDS
from permutive_worker.model import Request


@pytest.fixture(params=WIRES)
def kind(request):
    return request.param


def differs(request, kind, reason):
    """Mark what this wire is known to do otherwise; the test fails when it no longer does."""
    if request.getfixturevalue("kind") == kind:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


def ok(body: bytes, *fields: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\n" + b"".join(field + b"\r\n" for field in fields)
    return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"


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


async def test_the_user_in_the_base_url_is_told_to_the_host(kind):
    async with raw_server(OK) as server, wire_to(kind, server.url.replace("//", "//user:pass@")) as wire:
        await wire.send(post())
    assert b"\r\nAuthorization: Basic dXNlcjpwYXNz\r\n" in server.requests[0]
    assert b"\r\nHost: 127.0.0.1:" in server.requests[0]


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


HELLO = b"hello world"
PACKED = gzip.compress(HELLO)
FRAMINGS = {
    "length": ok(HELLO),
    "chunked": CHUNKED + b"\r\n" + chunked(b"hello", b" world"),
    "chunked-dripping": drip(CHUNKED + b"\r\n" + chunked(b"hello", b" world")),
    "length-dripping": drip(ok(HELLO)),
    "gzip": ok(PACKED, b"Content-Encoding: gzip"),
    "gzip-chunked": CHUNKED + b"Content-Encoding: gzip\r\n\r\n" + chunked(PACKED[:9], PACKED[9:]),
    "deflate": ok(zlib.compress(HELLO), b"Content-Encoding: deflate"),
    "deflate-raw": ok(zlib.compress(HELLO, wbits=-15), b"Content-Encoding: deflate"),
    "close": ok(HELLO, b"Connection: close"),
    "until-eof": then(b"HTTP/1.1 200 OK\r\n\r\nhello world", close),
    "http10": then(b"HTTP/1.0 200 OK\r\n\r\nhello world", close),
    "http10-length": then(b"HTTP/1.0 200 OK\r\nContent-Length: 11\r\n\r\nhello world", close),
    "http10-keep-alive": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 11\r\n\r\nhello world",
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n" + ok(HELLO),
    "early-hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok(HELLO),
    "continue-dripping": drip(b"HTTP/1.1 100 Continue\r\n\r\n" + ok(HELLO)),
}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("before", [0, 1], ids=["new", "reused"])
async def test_bodies_in_every_framing(kind, framing, before):
    """On a new connection, and on one that was used before."""
    answers = [OK] * before + [FRAMINGS[framing], OK]
    async with raw_server(*answers) as server, wire_to(kind, server.url) as wire:
        for _ in range(before):
            await wire.send(post())
        response = await wire.send(post())
        assert (response.status, response.body, response.truncated) == (200, HELLO, False)
        assert (await wire.send(post())).body == b"{}"


@pytest.mark.parametrize("trailer", [b"Retry-After: 9", b"Content-Encoding: gzip"])
@pytest.mark.parametrize("last", [b"", b"X-Last: 1\r\n"], ids=["alone", "and-another"])
async def test_trailers_are_no_fields_of_the_next_answer(kind, trailer, last):
    with_trailer = CHUNKED + b"\r\n" + chunked(HELLO)[:-2] + trailer + b"\r\n" + last + b"\r\n"
    async with raw_server(with_trailer, OK) as server, wire_to(kind, server.url) as wire:
        assert (await wire.send(post())).body == HELLO
        response = await wire.send(post())
    assert (response.body, response.truncated) == (b"{}", False)
    assert set(response.headers) == {"Content-Type", "Content-Length"}
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Encoding: gzip\r\nContent-Length: 500\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nContent-Encoding: gzip\r\n\r\n" + ok(b""),
        ok(b"", b"Content-Encoding: gzip"),
    ],
    ids=["204", "304", "304-gzip", "hints-gzip", "gzip"],
)
async def test_an_answer_without_a_body_leaves_nothing_for_the_next(kind, answer):
    async with raw_server(OK, answer, OK) as server, wire_to(kind, server.url) as wire:
        await wire.send(post())
        response = await wire.send(post())
        assert (response.body, response.truncated) == (b"", False)
        assert (await wire.send(post())).body == b"{}"
    assert server.connections == 1


@pytest.mark.parametrize("cut", range(1, 50, 3))
async def test_half_an_answer_behind_an_answer_is_no_answer_to_the_next(kind, cut):
    half = b"HTTP/1.1 408 Request Timeout\r\nRetry-After: 9\r\n\r"[:cut]
    async with raw_server(OK + half, OK) as server, wire_to(kind, server.url) as wire:
        for _ in range(3):
            response = await wire.send(post())
            assert (response.status, response.body) == (200, b"{}")


async def test_lines_may_end_without_a_carriage_return(kind):
    answer = b"HTTP/1.1 200 OK\nContent-Length: 6\n\n{\r\n\r\n}"
    async with raw_server(answer, OK) as server, wire_to(kind, server.url) as wire:
        assert (await wire.send(post())).body == b"{\r\n\r\n}"
        assert (await wire.send(post())).body == b"{}"


async def test_a_status_that_was_read_decides_though_its_body_is_none(request, kind):
    differs(request, "plain", "aiohttp's parser gives up the head that came in one piece with such a body")
    answer = ok(zlib.compress(HELLO)[:-3], b"Content-Encoding: deflate")
    async with raw_server(answer, OK) as server, wire_to(kind, server.url) as wire:
        response = await wire.send(post())
        assert (response.status, response.body, response.truncated) == (200, b"", True)
        assert (await wire.send(post())).body == b"{}"


async def test_a_reset_is_no_proper_end_of_a_body_without_a_length(request, kind):
    differs(request, "plain", "aiohttp takes it for one")

    async def break_off(writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await asyncio.sleep(0.05)
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        writer.transport.abort()

    async with raw_server(break_off) as server, wire_to(kind, server.url) as wire:
        response = await wire.send(post())
    assert (response.status, response.truncated) == (200, True)


@pytest.mark.parametrize("status", [400, 429, 503])
async def test_refusals_bring_their_body_and_headers(kind, status):
    body = b'{"error":{"message":"no"}}'
    answer = b"HTTP/1.1 %d X\r\nRetry-After: 7\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
    async with raw_server(answer) as server, wire_to(kind, server.url) as wire:
        for _ in range(2):
            response = await wire.send(post())
            assert (response.status, response.body, response.headers["Retry-After"]) == (status, body, "7")
    assert server.connections == 1


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["alone", "continue"])
async def test_switching_protocols_is_an_answer_and_the_end_of_the_connection(kind, before):
    unasked = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nnoise"
    async with raw_server(before + unasked, OK) as server, wire_to(kind, server.url) as wire:
        assert (await wire.send(post())).status == 101
        assert (await wire.send(post())).status == 200
    assert server.connections == 2


async def test_switching_to_no_protocol_is_an_answer(kind):
    unasked = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
    async with raw_server(unasked, OK) as server, wire_to(kind, server.url) as wire:
        assert (await wire.send(post())).status == 101
        assert (await wire.send(post())).status == 200


async def test_a_body_is_read_up_to_its_bound(kind):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b"x" * 900_000
    async with raw_server(answer) as server, wire_to(kind, server.url) as wire:
        response = await wire.send(post())
        assert len(response.body) == MAX_BODY_BYTES
        assert response.truncated
        assert (await wire.send(post())).status == 200


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", ok(b"x" * MAX_BODY_BYTES)[:-MAX_BODY_BYTES]])
async def test_a_body_just_as_long_as_its_bound_is_whole(kind, head):
    answer = then(head + b"x" * MAX_BODY_BYTES, close)
    async with raw_server(answer) as server, wire_to(kind, server.url) as wire:
        response = await wire.send(post())
    assert (response.body, response.truncated) == (b"x" * MAX_BODY_BYTES, False)


async def test_very_many_chunks_of_a_byte_are_a_whole_body_or_said_to_be_cut(kind):
    """With aiohttp 3.14 the lean wire stops where the plain one waits for itself to read, after some 16,000."""
    answer = CHUNKED + b"\r\n" + chunked(*[b"x"] * 20_000)
    async with raw_server(answer) as server, wire_to(kind, server.url) as wire:
        response = await wire.send(post())
    assert (response.status, response.truncated) == (200, len(response.body) < 20_000)
    assert len(response.body) > 16_000


async def test_a_packed_body_is_read_up_to_its_bound(kind):
    bomb = gzip.compress(b"x" * 200_000_000, 9)
    answers = (ok(bomb, b"Content-Encoding: gzip"), OK)
    async with raw_server(*answers) as server, wire_to(kind, server.url) as wire:
        response = await wire.send(post())
        assert response.truncated
        assert response.body == b"x" * MAX_BODY_BYTES
        assert (await wire.send(post())).status == 200


async def test_a_packed_body_within_the_bound_is_whole(kind):
    text = b"x" * MAX_BODY_BYTES
    answer = ok(gzip.compress(text), b"Content-Encoding: gzip")
    async with raw_server(answer) as server, wire_to(kind, server.url) as wire:
        response = await wire.send(post())
    assert (response.body, response.truncated) == (text, False)


@pytest.mark.xfail(reason="aiohttp's parser does not look whether a packed stream was whole", strict=True)
async def test_a_packed_body_that_breaks_off_says_so(kind):
    answer = ok(gzip.compress(HELLO * 100)[:-12], b"Content-Encoding: gzip")
    async with raw_server(answer) as server, wire_to(kind, server.url) as wire:
        assert (await wire.send(post())).truncated


@pytest.mark.parametrize("after", [close, reset, hang])
async def test_a_status_that_was_read_decides_though_the_body_breaks_off(kind, after):
    answer = then(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", after)
    async with raw_server(answer, OK) as server, wire_to(kind, server.url, timeout_seconds=0.5) as wire:
        response = await wire.send(post())
        assert (response.status, response.truncated) == (200, True)
        assert (await wire.send(post())).body == b"{}"
    assert server.connections == 2


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (reset, {"reset", "disconnected"}),
        (close, {"disconnected"}),
        (then(b"HTTP/1.1 20", close), {"disconnected", "protocol"}),
        (b"not http at all\r\n\r\n", {"protocol"}),
        (hang, {"timeout"}),
        (then(b"HTTP/1.1 200 OK\r\n", hang), {"timeout"}),
        (then(b"HTTP/1.1 20", reset), {"reset", "disconnected"}),
        (then(b"HTTP/1.1 200 OK\r\nContent-Le", close), {"disconnected", "protocol"}),
        (b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n", {"protocol"}),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", {"protocol"}),
        (drip(OK, 0.1), {"timeout"}),
        (b"HTTP/1.1 100 Continue\r\n\r\n", {"timeout"}),
    ],
    ids=[
        *(
            "reset",
            "close",
            "half-status",
            "garbage",
            "hang",
            "half-head",
            "reset-in-status",
            "close-in-head",
        ),
        *("long-field", "two-lengths", "slow-head", "continue-only"),
    ],
)
async def test_no_answer_is_a_typed_error_that_says_it_was_sent(kind, answer, expected):
    async with raw_server(answer) as server, wire_to(kind, server.url, timeout_seconds=0.3) as wire:
        with pytest.raises(TransportError) as caught:
            await wire.send(post())
        assert caught.value.kind in expected
        assert caught.value.sent
        server.answers = [OK]
        assert (await wire.send(post())).status == 200


async def test_an_answer_that_came_while_the_process_was_suspended_is_read(kind):
    async def answer(writer):
        writer.write(OK)
        time.sleep(SUSPENDED_SECONDS + 0.5)  # noqa: ASYNC251  (nothing runs meanwhile)

    async with raw_server(answer, hang) as server, wire_to(kind, server.url, timeout_seconds=0.3) as wire:
        assert (await wire.send(post())).status == 200
        with pytest.raises(TransportError):
            await wire.send(post())


@pytest.mark.parametrize("after", [close, reset, hang])
async def test_chunks_that_break_off_leave_the_status(kind, after):
    answer = then(CHUNKED + b"\r\n5\r\nhel", after)
    async with raw_server(answer, OK) as server, wire_to(kind, server.url, timeout_seconds=0.5) as wire:
        response = await wire.send(post())
        assert (response.status, response.truncated) == (200, True)
        assert (await wire.send(post())).status == 200


async def test_a_chunk_that_is_none_is_no_whole_answer(kind):
    async with raw_server(CHUNKED + b"\r\nzz\r\n", OK) as server, wire_to(kind, server.url) as wire:
        try:
            assert (await wire.send(post())).truncated
        except TransportError as error:
            assert (error.kind, error.sent) == ("protocol", True)
        assert (await wire.send(post())).status == 200


async def test_slow_answers_within_the_timeout_are_answers(kind):
    async with raw_server(drip(OK, 0.002)) as server, wire_to(kind, server.url) as wire:
        assert (await wire.send(post())).body == b"{}"


async def test_what_follows_an_answer_at_once_is_nobodys(kind):
    stale = ok(b"stale", b"X-Stale: 1")
    async with raw_server(OK + stale, OK) as server, wire_to(kind, server.url) as wire:
        assert (await wire.send(post())).body == b"{}"
        assert (await wire.send(post())).body == b"{}"
    assert server.connections == 2


async def test_noise_behind_an_answer_is_no_answer_to_the_next(kind):
    async with raw_server(OK + b"noise\r\n", OK) as server, wire_to(kind, server.url) as wire:
        try:
            assert (await wire.send(post())).status == 200
        except TransportError as error:  # both came in one piece, and the parser gave up both
            assert (error.kind, error.sent) == ("protocol", True)
        assert (await wire.send(post())).body == b"{}"


async def test_an_answer_on_an_idle_connection_is_nobodys(request, kind):
    differs(request, "plain", "aiohttp's pool looks only whether the connection is open")
    timed_out = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"
    said = asyncio.Event()

    async def answer_and_later_more(writer):
        writer.write(OK)
        await asyncio.sleep(0.05)
        writer.write(timed_out)
        await writer.drain()
        said.set()

    async with raw_server(answer_and_later_more, OK) as server, wire_to(kind, server.url) as wire:
        await wire.send(post())
        await said.wait()
        await asyncio.sleep(0.05)
        assert (await wire.send(post())).status == 200


async def test_half_an_answer_on_an_idle_connection_does_not_begin_the_next(kind):
    said = asyncio.Event()

    async def answer_and_later_half(writer):
        writer.write(OK)
        await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        await writer.drain()
        said.set()

    async def the_other_half(writer):
        writer.write(b"Content-Length: 0\r\n\r\n")

    answers = (answer_and_later_half, the_other_half, OK)
    async with raw_server(*answers) as server, wire_to(kind, server.url) as wire:
        await wire.send(post())
        await said.wait()
        await asyncio.sleep(0.2)
        with pytest.raises(TransportError) as caught:
            await wire.send(post())
        assert (caught.value.kind, caught.value.sent) == ("protocol", True)
        assert (await wire.send(post())).body == b"{}"


@pytest.mark.parametrize("after", [close, reset])
async def test_a_connection_lost_with_the_second_request_on_it_is_a_typed_error(kind, after):
    async with raw_server(OK, after, OK) as server, wire_to(kind, server.url) as wire:
        await wire.send(post())
        with pytest.raises(TransportError) as caught:
            await wire.send(post())
        assert caught.value.kind in {"reset", "disconnected"}
        assert caught.value.sent
        assert (await wire.send(post())).status == 200


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's, above 1 MiB
async def test_large_bodies_are_sent_whole(kind):
    body = b"x" * 5_000_000
    async with raw_server(OK) as server, wire_to(kind, server.url) as wire:
        assert (await wire.send(post(body=body))).status == 200
        assert (await wire.send(post())).status == 200
    assert server.requests[0].endswith(b"\r\n\r\n" + body)
    assert server.connections == 1


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's, above 1 MiB
async def test_an_answer_before_the_body_was_read_is_the_answer(kind):
    """And what is left of the body must not be taken for the next request."""
    heads, left = [], asyncio.Semaphore(0)

    async def refuse(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        with suppress(ConnectionError):
            await reader.read()
        writer.transport.abort()
        left.release()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with wire_to(kind, url) as wire:
        for _ in range(2):
            assert (await wire.send(post(body=b"x" * 20_000_000))).status == 413
    for _ in heads:
        await left.acquire()
    server.close()
    assert [head[:4] for head in heads] == [b"POST", b"POST"]


@pytest.mark.parametrize(
    "request_",
    [
        post("/x\r\nX-Evil: 1"),
        post("/x HTTP/1.1\r\nHost: evil\r\n\r\n"),
        post("/x\ny"),
        post("/x y"),
        Request("POST / HTTP/1.1\r\nX-Evil: 1\r\n\r\n", "/", b"", "identify"),
        Request("GET", "/x\r\nX-Evil: 1", b"", "cohort", key_in_query=True),
    ],
    ids=["field", "request", "line", "space", "method", "query"],
)
async def test_nothing_in_a_request_can_break_its_head(kind, request_):
    async with raw_server(OK) as server, wire_to(kind, server.url) as wire:
        try:
            await wire.send(request_)
        except ValueError as error:
            assert KEY not in str(error)
        await wire.send(post())
    assert server.requests[-1].startswith(b"POST /v2.0/identify HTTP/1.1\r\n")
    assert len(server.requests) <= 2
    for sent in server.requests:
        assert not [
            line for line in sent.split(b"\r\n") if line.lower().startswith((b"x-evil", b"host: evil"))
        ]


async def test_no_key_can_break_the_head(kind):
    async with raw_server(OK) as server:
        (credentials,) = Keyring.of_key("harmless-at-first")
        credentials.key = "key\r\nX-Evil: 1"
        async with wire_to(kind, server.url, credentials=credentials) as wire:
            with pytest.raises(ValueError) as caught:
                await wire.send(post())
    assert "Evil" not in str(caught.value)
    assert server.requests == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize("body", [b"", b"{}"], ids=["empty", "full"])
async def test_every_method(kind, method, body):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + (b"" if method == "HEAD" else b"{}")
    async with raw_server(answer, OK) as server, wire_to(kind, server.url) as wire:
        response = await wire.send(Request(method, "/x?a=1", body, "cohort"))
        assert (response.status, response.body) == (200, b"" if method == "HEAD" else b"{}")
        await wire.send(post())
    assert server.requests[0].startswith(f"{method} /x?a=1 HTTP/1.1\r\n".encode())
    assert server.requests[0].endswith(b"\r\n\r\n" + body)
    # The lean wire tells its parser once for each connection that answers have bodies; nothing here sends HEAD.
    assert server.connections == (2 if (kind, method) == ("lean", "HEAD") else 1)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize("after", [close, reset])
async def test_no_method_is_sent_twice(kind, method, after):
    async with raw_server(OK, after, OK) as server, wire_to(kind, server.url) as wire:
        await wire.send(post())
        with pytest.raises(TransportError) as caught:
            await wire.send(Request(method, "/x", b"", "cohort"))
    assert caught.value.sent
    assert len(server.requests) == 2


async def test_many_at_once_each_get_their_own_answer(kind):
    async def echo(writer):
        writer.write(ok(server.requests[-1].rpartition(b"\r\n\r\n")[2]))

    async with raw_server(echo) as server, wire_to(kind, server.url) as wire:
        async with asyncio.TaskGroup() as group:
            sending = [group.create_task(wire.send(post(body=b"%d" % number))) for number in range(50)]
        assert [(await task).body for task in sending] == [b"%d" % number for number in range(50)]
    assert server.connections <= 8  # the session's limit


async def test_a_connection_is_not_used_beyond_its_age(request, kind, monkeypatch):
    differs(request, "plain", "aiohttp's pool keeps a connection as long as it is used")
    monkeypatch.setattr(lean, "MAX_AGE_SECONDS", -1.0)
    async with raw_server(OK) as server, wire_to(kind, server.url) as wire:
        await wire.send(post())
        await wire.send(post())
    assert server.connections == 2


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


async def test_a_host_where_nobody_listens_cannot_be_reached():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        async with wire_to("plain", f"http://127.0.0.1:{free.getsockname()[1]}") as wire:
            with pytest.raises(UnreachableError, match="cannot be reached"):
                await wire.reach()


async def test_a_name_nobody_knows_was_certainly_not_sent(kind):
    async with wire_to(kind, "http://nobody.invalid") as wire:
        with pytest.raises(TransportError) as caught:
            await wire.send(post())
    assert (caught.value.kind, caught.value.sent) == ("dns", False)


async def test_errors_do_not_hold_the_key(kind):
    async with raw_server(reset) as server, wire_to(kind, server.url) as wire:
        with pytest.raises(TransportError) as caught:
            await wire.send(Request("GET", "/x", b"", "cohort", key_in_query=True))
    error: BaseException | None = caught.value
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
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


async def test_a_replaced_key_is_used_by_the_next_attempt(kind):
    (credentials,) = Keyring.of_key(KEY)
    async with raw_server(OK) as server, wire_to(kind, server.url, credentials=credentials) as wire:
        await wire.send(post())
        credentials.key = "another-key-of-the-same-workspace"
        await wire.send(post())
        await wire.send(Request("GET", "/x", b"", "cohort", key_in_query=True))
    assert b"X-API-Key: another-key-of-the-same-workspace\r\n" in server.requests[1]
    assert b"GET /x?k=another-key-of-the-same-workspace HTTP/1.1" in server.requests[2]
    assert all(KEY.encode() not in request for request in server.requests[1:])


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


@contextmanager
def full_host():
    """A host whose queue of connections is full: those who come are not even answered."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # one may wait
        for _ in range(3):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        yield f"http://127.0.0.1:{full.getsockname()[1]}"


async def test_a_host_that_does_not_take_the_connection_was_certainly_not_sent(kind):
    with full_host() as url:
        async with wire_to(kind, url, timeout_seconds=0.3) as wire:
            with pytest.raises(TransportError) as caught:
                await wire.send(post())
    assert (caught.value.kind, caught.value.sent) == ("connect_timeout", False)


async def test_a_host_that_does_not_take_the_connection_cannot_be_reached():
    with full_host() as url:
        async with wire_to("plain", url, timeout_seconds=0.3) as wire:
            with pytest.raises(UnreachableError, match="no answer"):
                await wire.reach()


async def test_a_tls_handshake_that_hangs_was_certainly_not_sent(kind):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        async with wire_to(kind, url, timeout_seconds=0.3) as wire:
            with pytest.raises(TransportError) as caught:
                await wire.send(post())
    assert (caught.value.kind, caught.value.sent) == ("connect_timeout", False)
