"""What an answer means for a call of the client. Pure.

    status                          the gate hears        tried again
    2xx                             delivered
    429, 503 that says how long     throttled             yes: it was not taken
    401                             halt                  once, if the key file has a new key
    408, 425, other 5xx             retry                 if not ambiguous, or repeatable
    anything else                   it answers            no

Ambiguous are 500, 502, 504 and what broke off after sending. Unlike for a job, 403, 404 and a redirect hold
nobody up: they are this call's alone.
"""

from collections.abc import Mapping
from typing import Final

from permutive_worker.control.backoff import Backoff
from permutive_worker.errors import (
    ApiConnectionError,
    ApiError,
    ApiTimeoutError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TooLargeError,
    TransportError,
    UnprocessableError,
)
from permutive_worker.model import Action, Response, Verdict
from permutive_worker.permutive.call import Call
from permutive_worker.permutive.error_detail import Scrub, error_detail

_AMBIGUOUS: Final = frozenset({500, 502, 504})
_NEVER: Final = frozenset({501, 505})  # the server will not learn it by waiting
_TIMEOUTS: Final = frozenset({"timeout", "connect_timeout"})
_REQUEST_ID_HEADERS: Final = frozenset({"x-request-id", "request-id"})
_ERRORS: Final[Mapping[int, type[ApiError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    413: TooLargeError,
    422: UnprocessableError,
    429: RateLimitError,
}


def verdict_of(status: int, retry_after_seconds: float | None) -> Verdict:
    """What the gate is told of an answer that is not 2xx."""
    hint = retry_after_seconds or None  # a wait of nothing is no hint: our own back-off is more careful
    if status == 429 or (status == 503 and hint is not None):
        return Verdict(Action.THROTTLED, "throttled", status, hint)
    if status == 401:
        return Verdict(Action.HALT, "key_refused", status, hint)
    if status in {408, 425} or (status >= 500 and status not in _NEVER):
        return Verdict(Action.RETRY, "server_error", status, hint, ambiguous=status in _AMBIGUOUS)
    return Verdict(Action.REJECT, "rejected", status, hint)


def verdict_of_silence(error: TransportError) -> Verdict:
    """What the gate is told if no answer came."""
    why = "timeout" if error.kind in _TIMEOUTS else "connection"
    return Verdict(Action.RETRY, why, ambiguous=error.sent)


def may_repeat(verdict: Verdict, *, repeatable: bool) -> bool:
    """Whether sending it once more can do no harm and may help."""
    if verdict.action is Action.THROTTLED:
        return True
    return verdict.action is Action.RETRY and (repeatable or not verdict.ambiguous)


def wait_seconds(verdict: Verdict, attempt: int, backoff: Backoff, dice: float) -> float:
    """How long before the next attempt, the gate's own pause aside; `attempt` ≥ 1 failed."""
    if verdict.action is Action.THROTTLED and verdict.retry_after_seconds is not None:
        return 0.0  # the gate pauses for all
    return backoff.seconds(attempt, dice, verdict.retry_after_seconds or 0.0)


def error_of_answer(
    call: Call, base_url: str, response: Response, verdict: Verdict, attempts: int, scrub: Scrub
) -> ApiError:
    """The error of an answer that is not 2xx."""
    status = response.status
    shown = scrubbed(response, scrub)
    detail = error_detail(response, scrub)
    request_id = detail.request_id or _request_id(shown.headers)
    told = f": {detail.message}" if detail.message else ""
    number = f" (request_id {request_id})" if request_id else ""
    advice = ". It is a redirect, which is not followed: check base_url" if 300 <= status < 400 else ""
    return _class_of(status)(
        f"{call.name} was answered {status}{told}{advice}{number}",
        status=status,
        code=detail.code,
        request_id=request_id,
        url=base_url.rstrip("/") + call.shown_path,
        response=shown,
        retry_after=verdict.retry_after_seconds,
        attempts=attempts,
        ambiguous=verdict.ambiguous,
    )


def error_of_silence(call: Call, base_url: str, error: TransportError, attempts: int) -> ApiError:
    """The error of an attempt that got no answer."""
    late = error.kind in _TIMEOUTS
    arrived = "it may have arrived" if error.sent else "it was not sent"
    return (ApiTimeoutError if late else ApiConnectionError)(
        f"{call.name} got no answer ({error.kind}); {arrived}",
        url=base_url.rstrip("/") + call.shown_path,
        attempts=attempts,
        ambiguous=error.sent,
    )


def scrubbed(response: Response, scrub: Scrub) -> Response:
    """The answer as it may be shown, and pickled: without any known key."""
    headers = {name: scrub(value.encode()).decode() for name, value in response.headers.items()}
    return Response(response.status, headers, scrub(response.body), response.truncated)


def _request_id(headers: Mapping[str, str]) -> str | None:
    """Permutive documents none in the headers; gateways have one."""
    return next((value for name, value in headers.items() if name.lower() in _REQUEST_ID_HEADERS), None)


def _class_of(status: int) -> type[ApiError]:
    return ServerError if status >= 500 else _ERRORS.get(status, ApiError)
