"""What an error answer of the API says, for the dead letter.

The API answers in JSON, gateways in HTML, the taxonomy in plain text, and a broken link in anything.
Source: Permutive API, "Errors"; its schemas write `requestId`, its examples `request_id`.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec

from permutive_worker.model import ErrorDetail, Response

MESSAGE_CHARACTERS: Final = 500
NAME_CHARACTERS: Final = 100  # of types and request ids

Scrub = Callable[[bytes], bytes]


def error_detail(response: Response, scrub: Scrub) -> ErrorDetail:
    """Return what the answer says. Total: any bytes; scrubbed and bounded."""
    envelope = _object(_json(response.body))
    error = envelope.get("error")
    fields = _object(error)
    request_id = envelope.get("request_id") or envelope.get("requestId")
    message = _message(fields) or (error if isinstance(error, str) else "") or _text(response)
    return ErrorDetail(
        type=_clean(fields.get("status"), scrub, NAME_CHARACTERS) or f"http_{response.status}",
        message=_clean(message, scrub, MESSAGE_CHARACTERS),
        code=_code(fields.get("code")),
        request_id=_clean(request_id, scrub, NAME_CHARACTERS) or None,
    )


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _message(fields: dict[str, Any]) -> str:
    parts = (fields.get("message"), fields.get("cause"))
    return " ".join(part for part in parts if isinstance(part, str) and part)


def _code(value: Any) -> int | None:
    """Return a code that a dead letter can hold: True is none, and not every reader has big integers."""
    return value if type(value) is int and abs(value) < 2**63 else None


def _text(response: Response) -> str:
    return response.body.decode(errors="replace").strip() or _phrase(response.status)


def _phrase(status: int) -> str:
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"


def _clean(text: Any, scrub: Scrub, characters: int) -> str:
    """Scrub what was unescaped, then cut: a key that is cut in half is not found any more."""
    if not isinstance(text, str):
        return ""
    shown = scrub(text.encode()).decode(errors="replace")[:characters]
    if shown.isprintable():
        return shown
    return "".join(letter if letter.isprintable() else " " for letter in shown)  # it may reach a terminal
