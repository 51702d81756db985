"""Every error of the package, one tree.

WorkerError                    something a person must know; `exit_code` is what the program ends with
├── UsageError            64   a bad flag, a missing input
├── UnreachableError      69   the API host (or a broker) does not answer at the start
├── InputError            74   an input could not be read to its end
│   └── InputTakenError   64   another worker took it in the middle of the run
├── OutputError           74   a result, dead letter or returned line could not be written
├── ThrottledTooLong      75   the API asks for a longer pause than a finite run may wait
├── KeyRefusedError       77   the API refuses the key
└── ConfigurationError    78   found before anything was sent; also a ValueError
└── CredentialsError  78   no key, or none that can be read
TransportError                 one attempt got no answer; never leaves the delivery, nor the client
LinkError                      a broker went away while running; never leaves the sources
ApiError                       a call of the client failed
├── InvalidRequestError        it was not sent: the arguments are wrong; also a ValueError
├── BadRequestError       400
├── AuthenticationError   401  the key is refused
│   └── PermissionDeniedError  403
├── NotFoundError         404
├── ConflictError         409
├── TooLargeError         413
├── UnprocessableError    422
├── RateLimitError        429
├── ServerError           5xx
├── ApiConnectionError         no answer came
│   └── ApiTimeoutError        … in time; also a TimeoutError
└── DecodingError              the answer is not what it should be
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from permutive_worker.model import Response


class WorkerError(Exception):
    """Something the person who runs the worker must know, in one sentence that says what to do."""

    exit_code: int = 1


class UsageError(WorkerError):
    """The command line asks for something that cannot be."""

    exit_code: int = 64


class UnreachableError(WorkerError):
    """The API host or a broker does not answer at the start."""

    exit_code: int = 69


class InputError(WorkerError):
    """An input could not be read to its end; what could be read was delivered."""

    exit_code: int = 74


class InputTakenError(InputError):
    """Another worker is delivering an input that this run came to; all others were delivered."""

    exit_code: int = 64


class OutputError(WorkerError):
    """An outcome could not be made durable; nothing unwritten was acknowledged."""

    exit_code: int = 74


class ThrottledTooLong(WorkerError):  # noqa: N818  (it is no fault, it is an instruction to come back later)
    """The API asks for a pause longer than `rate_limit.max_retry_after_seconds`."""

    exit_code: int = 75


class KeyRefusedError(WorkerError):
    """The API refuses the key."""

    exit_code: int = 77


class ConfigurationError(WorkerError, ValueError):
    """The configuration is not sound; found before anything was sent."""

    exit_code: int = 78


class CredentialsError(ConfigurationError):
    """No key was found, or the one found cannot be read."""


class TransportError(Exception):
    """One attempt got no answer.

    Attributes:
        kind: one of `TRANSPORT_KINDS`; a metric label, so a closed set.
        sent: False only if certainly no byte of the request left (connect, DNS, TLS, proxy).

    The text never holds the URL's query, the key or the request: aiohttp's own texts do.
    """

    def __init__(self, kind: str, *, sent: bool) -> None:
        super().__init__(kind)
        self.kind = kind
        self.sent = sent


class LinkError(Exception):
    """The link to a broker broke; the source connects again. The text holds no user and no password."""


TRANSPORT_KINDS: Final = (
    "connect",
    "connect_timeout",
    "dns",
    "tls",
    "proxy",
    "timeout",
    "reset",
    "disconnected",
    "protocol",
)


class ApiError(Exception):
    """A call of the client failed.

    Attributes:
        message: one sentence.
        status: of the answer, None if there was none.
        code: the API's own number for the error.
        request_id: what to tell Permutive's support.
        url: where it was sent, without query, key and identifiers of users.
        response: the answer, scrubbed of every known key.
        retry_after: seconds the API asks to wait, None if it does not.
        attempts: requests sent.
        ambiguous: the API may have done what was asked although it did not say so.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: int | None = None,
        request_id: str | None = None,
        url: str | None = None,
        response: "Response | None" = None,
        retry_after: float | None = None,
        attempts: int = 0,
        ambiguous: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.request_id = request_id
        self.url = url
        self.response = response
        self.retry_after = retry_after
        self.attempts = attempts
        self.ambiguous = ambiguous


class InvalidRequestError(ApiError, ValueError):
    """The arguments ask for something the API does not take; nothing was sent."""


class BadRequestError(ApiError):
    """400: the request is not what the API takes."""


class AuthenticationError(ApiError):
    """401: the API refuses the key."""


class PermissionDeniedError(AuthenticationError):
    """403: the key may not do this. Keys are read-only for cohorts and taxonomy unless Permutive says otherwise."""


class NotFoundError(ApiError):
    """404."""


class ConflictError(ApiError):
    """409: there is one already."""


class TooLargeError(ApiError):
    """413: the request is too large."""


class UnprocessableError(ApiError):
    """422: the request is well-formed, and wrong."""


class RateLimitError(ApiError):
    """429, or a pause the API asked for that is longer than a call may wait."""


class ServerError(ApiError):
    """5xx."""


class ApiConnectionError(ApiError):
    """No answer came; `ambiguous` says whether the request may have arrived."""


class ApiTimeoutError(ApiConnectionError, TimeoutError):
    """No answer came in time."""


class DecodingError(ApiError):
    """The API took the request, and its answer is not what it should be."""
