import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.sandbox.answers import Answer
from permutive_worker.sandbox.wire import BadRequestError, Parser, Request, encode, encode_truncated

SIZED = b"POST /v2.0/identify?k=1 HTTP/1.1\r\nHost: h\r\nx-api-KEY:  k1 \r\nContent-Length: 3\r\n\r\nabc"
CHUNKED = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;e=1\r\nc\r\n0\r\n\r\n"
BARE = b"GET /y HTTP/1.1\r\n\r\n"


def requests(parser: Parser) -> list[Request]:
    found = []
    while (request := parser.next()) is not None:
        found.append(request)
    return found


@given(st.lists(st.integers(0, len(SIZED + CHUNKED + BARE)), max_size=8))
def test_requests_are_the_same_however_the_bytes_arrive(cuts: list[int]) -> None:
    stream, parser, found = SIZED + CHUNKED + BARE, Parser(), []
    edges = [0, *sorted(cuts), len(stream)]
    for start, end in itertools.pairwise(edges):
        parser.feed(stream[start:end])
        found += requests(parser)

    assert [(request.method, request.target, request.key, request.body) for request in found] == [
        ("POST", "/v2.0/identify?k=1", "k1", b"abc"),
        ("POST", "/x", None, b"abc"),
        ("GET", "/y", None, b""),
    ]


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: Close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
    ],
)
def test_who_wants_the_connection_kept(head: bytes, keep_alive: bool) -> None:
    parser = Parser()
    parser.feed(head)

    assert [request.keep_alive for request in requests(parser)] == [keep_alive]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / SPDY/3\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n", 413),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 70_000, 431),
    ],
)
def test_what_is_no_request_is_refused(data: bytes, status: int) -> None:
    parser = Parser()
    parser.feed(data)

    with pytest.raises(BadRequestError) as refused:
        parser.next()
    assert refused.value.status == status


def test_a_client_that_waits_to_be_asked_is_told_once() -> None:
    parser = Parser()
    parser.feed(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")

    assert parser.next() is None
    assert [parser.take_expectation(), parser.take_expectation()] == [True, False]


def test_an_answer_in_one_piece() -> None:
    answer = Answer(429, b"{}", retry_after_seconds=2)

    assert encode(answer, keep_alive=True) == (
        b"HTTP/1.1 429 Too Many Requests\r\nServer: Permutive-Sandbox\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2\r\nRetry-After: 2\r\n\r\n{}"
    )


def test_the_answer_to_head_has_no_body() -> None:
    encoded = encode(Answer(200, b"{}"), keep_alive=False, with_body=False)

    assert encoded.endswith(b"Content-Length: 2\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize(("body", "promised", "sent"), [(b"abcd", 4, b"ab"), (b"", 1, b"")])
def test_a_truncated_answer_promises_more_than_it_holds(body: bytes, promised: int, sent: bytes) -> None:
    head, _, rest = encode_truncated(Answer(200, body)).partition(b"\r\n\r\n")

    assert head.endswith(b"Content-Length: %d" % promised)
    assert rest == sent
