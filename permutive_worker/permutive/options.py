"""How calls are made, and the bounds of what a client may be told; a ConfigurationError names the argument."""

import re
from collections.abc import Mapping

import msgspec

from permutive_worker.errors import ConfigurationError


class Options(msgspec.Struct, frozen=True):
    """See `PermutiveClient.with_options`."""

    timeout_seconds: float = 10.0
    max_attempts: int = 3
    idempotent: bool | None = None
    longest_wait_seconds: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.timeout_seconds < 1e9:
            raise ConfigurationError("timeout must be a number of seconds above 0")
        check_count("max_attempts", self.max_attempts)
        if not self.longest_wait_seconds >= 0:  # NaN is not
            raise ConfigurationError("max_retry_after must be a number of seconds, 0 or more")


def check_count(name: str, number: float) -> None:
    if not number >= 1 or number % 1 != 0:
        raise ConfigurationError(f"{name} must be a whole number, 1 or more")


def check_rate(requests_per_second: float) -> None:
    if not 0 <= requests_per_second < 1e9:
        raise ConfigurationError("rate_per_second must be a number above 0, or 0 to find the API's limit")


def check_fields(headers: Mapping[str, str]) -> None:
    """The name of a field is a token (RFC 9110, 5.6.2), and nothing in its value may end it."""
    for name, value in headers.items():
        if not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII) or re.search(r"[\r\n\0]", value):
            raise ConfigurationError("headers holds a name or a value that would break a request")
