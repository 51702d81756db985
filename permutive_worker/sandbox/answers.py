"""What the imitation answers: bodies that are right, and refusals in the dialect of each API.

Source: docs.permutive.com/api/errors and the published OpenAPI documents. Permutive's APIs share one
envelope and differ in its details; where nothing is published (429, 405) the envelope is the same and the
code is ours.
"""

from enum import Enum
from http import HTTPStatus
from typing import Any, Final

import msgspec
import orjson

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=UTF-8"
NDJSON: Final = "application/x-ndjson"

INVALID_VALUE: Final = 1000
INVALID_BODY: Final = 1002
MISSING_BODY: Final = 1003
INVALID_KEY: Final = 2000
FORBIDDEN: Final = 2001
MISSING_KEY: Final = 2004
INVALID_AUTHENTICATION: Final = 2005
NOT_FOUND: Final = 3000
ALREADY_EXISTS: Final = 4000
TOO_MANY: Final = 4290  # ours: Permutive's documents have no 429
INTERNAL: Final = 5000


class Answer(msgspec.Struct, frozen=True):
    """One answer. `subject` names the job for the ledger: who or what the request was about."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    subject: str = ""
    retry_after_seconds: float | None = None


class Refusal(Exception):  # noqa: N818  (it is an answer on its way, not a fault)
    """The request is refused; `Dialect.refuse` makes the answer of it.

    `cause` is the optional field of the envelope: what exactly was wrong.
    """

    def __init__(
        self, status: int, code: int, message: str, cause: str = "", retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.cause = cause
        self.retry_after_seconds = retry_after_seconds


class Dialect(Enum):
    """How an API words its refusals."""

    IDENTITY = "identity"  # `"status": "BadRequest"`: identify, users, events, context
    CCS = "ccs"  # `"status": "Bad Request"`, with `type` and `status_code`
    COHORTS = "cohorts"  # as CCS; an invalid key has a code of its own
    TAXONOMY = "taxonomy"  # as CCS, but 400 is plain text

    def refuse(self, refusal: Refusal, request_id: str) -> Answer:
        """Return the answer that says no, in this dialect."""
        if self is Dialect.TAXONOMY and refusal.status == HTTPStatus.BAD_REQUEST:
            return Answer(refusal.status, _plain(refusal), TEXT)
        envelope = {"request_id": request_id, "error": self._error(refusal)}
        return Answer(refusal.status, orjson.dumps(envelope), retry_after_seconds=refusal.retry_after_seconds)

    def _error(self, refusal: Refusal) -> dict[str, Any]:
        phrase = _phrase(refusal.status)
        error: dict[str, Any] = {
            "status": phrase.replace(" ", ""),
            "code": self._code(refusal),
            "message": refusal.message,
        }
        if self is not Dialect.IDENTITY:
            error |= {
                "status": phrase,
                "type": "https://tools.ietf.org/html/rfc7231#section-6",
                "status_code": refusal.status,
            }
        if refusal.cause:
            error["cause"] = refusal.cause
        error["docs"] = "https://docs.permutive.com/api/errors"
        return error

    def _code(self, refusal: Refusal) -> int:
        if self is Dialect.COHORTS and refusal.code == INVALID_KEY:
            return INVALID_AUTHENTICATION
        return refusal.code


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Server Error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "Client Error"


def _plain(refusal: Refusal) -> bytes:
    part = "body" if refusal.code in (INVALID_BODY, MISSING_BODY) else refusal.message
    return f"Invalid value for: {part}{f' ({refusal.cause})' if refusal.cause else ''}".encode()


def ok(content: object, *, status: int = 200, subject: str = "") -> Answer:
    """Return `content` as a JSON answer; `msgspec.Raw` parts go out as they came."""
    return Answer(status, msgspec.json.encode(content), subject=subject)


def missing(what: str) -> Refusal:
    """Return the refusal of something that does not exist."""
    return Refusal(
        HTTPStatus.NOT_FOUND,
        NOT_FOUND,
        "The requested resource does not exist.",
        f"No {what} with this identifier.",
    )


def invalid(message: str, cause: str = "") -> Refusal:
    """Return the refusal of a value: a parameter, a size, an identifier."""
    return Refusal(HTTPStatus.BAD_REQUEST, INVALID_VALUE, message, cause)


def malformed(cause: str) -> Refusal:
    """Return the refusal of a body that is not structured as expected."""
    return Refusal(
        HTTPStatus.BAD_REQUEST, INVALID_BODY, "The request body is not structured as expected.", cause
    )


def exists(cause: str) -> Refusal:
    """Return the refusal of something that is there already."""
    return Refusal(HTTPStatus.CONFLICT, ALREADY_EXISTS, "The identifier already exists.", cause)
