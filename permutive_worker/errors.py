"""Every error of the package, one tree.

WorkerError                    something a person must know; `exit_code` is what the program ends with
├── UsageError            64   a bad flag, a missing input
├── UnreachableError      69   the API host (or a broker) does not answer at the start
├── InputError            74   an input could not be read to its end
├── OutputError           74   a result, dead letter or returned line could not be written
├── ThrottledTooLong      75   the API asks for a longer pause than a finite run may wait
├── KeyRefusedError       77   the API refuses the key
└── ConfigurationError    78   found before anything was sent; also a ValueError
└── CredentialsError  78   no key, or none that can be read
TransportError                 one attempt got no answer; never leaves the delivery
LinkError                      a broker went away while running; never leaves the sources
"""

from typing import Final


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
