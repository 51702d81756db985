import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.model import ErrorDetail, Response
from permutive_worker.permutive.error_detail import MESSAGE_CHARACTERS, NAME_CHARACTERS, error_detail

REQUEST_ID = "550e8400-e29b-41d4-a716-446655440000"
KEY = "f9975143-2d88-46dc-9247-1fb6c790e1cc"


def scrub(data: bytes) -> bytes:
    return data.replace(KEY.encode(), b"[key]")


def detail(body: bytes, status: int = 400) -> ErrorDetail:
    return error_detail(Response(status, {}, body), scrub)


def envelope(**error: object) -> bytes:
    return json.dumps({"request_id": REQUEST_ID, "error": error}).encode()


def test_the_documented_envelope():
    body = envelope(
        status="Unauthorized",
        code=2000,
        message="The API key provided is invalid.",
        cause="This key does not exist.",
        docs="https://example.com",
    )

    assert detail(body, 401) == ErrorDetail(
        "Unauthorized", "The API key provided is invalid. This key does not exist.", 2000, REQUEST_ID
    )


def test_the_cause_is_optional():
    assert detail(envelope(status="Bad Request", code=1002, message="No body.")) == ErrorDetail(
        "Bad Request", "No body.", 1002, REQUEST_ID
    )


def test_the_other_spelling_of_the_request_id():
    assert detail(b'{"requestId":"r","error":"RouteDeprecated"}') == ErrorDetail(
        "http_400", "RouteDeprecated", None, "r"
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"Invalid value for: body\n", "Invalid value for: body"),
        (b"", "HTTP 400 Bad Request"),
        (b"\xff\x00", "� "),
        (b'{"error":{}}', '{"error":{}}'),
        (b'{"request_id":5,"error":{"message":["a"],"code":true,"status":{}}}', None),
        (b"[1]", "[1]"),
        (b'{"a":' * 3000, None),
        (b"\x1b[31mred", " [31mred"),
    ],
)
def test_any_other_body_is_its_text(body, message):
    found = detail(body)

    assert found.message == (message or body.decode()[:MESSAGE_CHARACTERS])
    assert (found.type, found.code, found.request_id) == ("http_400", None, None)


def test_an_unknown_status_without_a_body():
    assert detail(b"", 499) == ErrorDetail("http_499", "HTTP 499")


def test_an_escaped_key_is_found():
    body = b'{"error":{"message":"no such key: \\u0066%b"}}' % KEY[1:].encode()

    assert detail(body).message == "no such key: [key]"


def test_a_key_at_the_cut_is_scrubbed_whole():
    body = b"x" * (MESSAGE_CHARACTERS - 10) + KEY.encode()

    assert detail(body).message.endswith("x[key]")


def test_a_code_that_no_dead_letter_can_hold_is_dropped():
    assert detail(envelope(message="m", code=2**63)).code is None


@given(
    st.binary(max_size=100)
    | st.text(max_size=9).map(lambda text: envelope(message=text * 100, status=text * 100))
)
def test_any_bytes_are_a_bounded_message(body):
    found = detail(body)

    assert found.message.isprintable()
    assert len(found.message) <= MESSAGE_CHARACTERS
    assert len(found.type) <= NAME_CHARACTERS
