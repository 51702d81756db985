"""The variables of the PermutiveAPI package, with the meaning and the errors they have there."""

import math
from collections.abc import Mapping
from typing import Final

from permutive_worker.errors import ConfigurationError

VARIABLES: Final[Mapping[str, tuple[str, type[int] | type[float]]]] = {
    "PERMUTIVE_BATCH_MAX_WORKERS": ("delivery.max_in_flight", int),
    "PERMUTIVE_BATCH_TIMEOUT_SECONDS": ("http.timeout_seconds", float),
    "PERMUTIVE_RETRY_MAX_RETRIES": ("delivery.max_attempts", int),  # all attempts, the first included
    "PERMUTIVE_RETRY_BACKOFF_FACTOR": ("delivery.backoff_factor", float),
    "PERMUTIVE_RETRY_INITIAL_DELAY_SECONDS": ("delivery.backoff_initial_seconds", float),
}
_WORDS: Final = {int: "integer", float: "float"}


def positive_number(variable: str, text: str) -> int | float:
    """Read the value of one of `VARIABLES` as PermutiveAPI does; nan and infinity are refused as well.

    Raises:
        ConfigurationError: a ValueError, worded as there.
    """
    kind = VARIABLES[variable][1]
    try:
        value = kind(text)
    except ValueError:
        value = kind(0)
    if not (value > 0 and math.isfinite(value)):
        raise ConfigurationError(
            f"Environment variable {variable} must be a positive {_WORDS[kind]}, got {text!r}."
        )
    return value
