"""How long a server asks us to wait.

Why: hints come in three spellings, and rubbish in a header must not stop a worker or start a storm.
How: `retry-after-ms`, then `Retry-After` in seconds, integer or decimal, then as an HTTP date. A date is
read against the server's own `Date` if it sends one: our clock may be wrong.
Source: RFC 9110 §10.2.3; `retry-after-ms` as Azure and OpenAI send it.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

# Longer means "not any more"; what adds it to a clock must not overflow.
LONGEST_SECONDS: Final = 365 * 24 * 3600.0

_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")


def retry_after_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return how long the server asks to wait, None if it does not say so in a way we understand.

    Args:
        headers: of the answer, in any spelling of case.
        now: with a time zone; looked at only if the server names a date and does not send its own.

    Returns:
        0 ≤ seconds ≤ `LONGEST_SECONDS`; 0 for a moment that has passed.
    """
    milliseconds = _number(_header(headers, "retry-after-ms"))
    if milliseconds is not None:
        return min(milliseconds / 1000, LONGEST_SECONDS)
    value = _header(headers, "retry-after")
    seconds = _number(value)
    if seconds is None:
        seconds = _until(value, _date(_header(headers, "date")) or now)
    return None if seconds is None else min(max(seconds, 0.0), LONGEST_SECONDS)


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((value.strip() for key, value in headers.items() if key.lower() == name), "")


def _number(text: str) -> float | None:
    """Read digits only: `float` alone would take nan, inf, 1_0 and a sign."""
    return float(text) if _NUMBER.fullmatch(text) else None


def _until(text: str, now: datetime) -> float | None:
    date = _date(text)
    return None if date is None else (date - now).total_seconds()


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):  # what its parser raises on rubbish
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
