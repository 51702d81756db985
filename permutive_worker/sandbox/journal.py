"""The log a person can follow: one line for each second in which something happened.

`12:00:01   4,812 req/s  200: 4,700  429: 112  taken 4,700  duplicates 0`

Pure: made of the ledger's sums, now and a second ago, so that it costs a request nothing.
"""

from collections import Counter
from dataclasses import dataclass, field

from permutive_worker.sandbox.ledger import Ledger


@dataclass(frozen=True, slots=True)
class _Sums:
    requests: int = 0
    taken: int = 0
    duplicates: int = 0
    by_status: Counter[int] = field(default_factory=Counter)


class Journal:
    """Remembers the sums of the last line."""

    def __init__(self) -> None:
        self._last = _Sums()

    def line(self, ledger: Ledger, time: str) -> str | None:
        """Return what was received since the last call, none if nothing was."""
        sums = _Sums(ledger.requests, ledger.taken, ledger.duplicates, ledger.by_status.copy())
        last = (
            self._last if self._last.requests <= sums.requests else _Sums()
        )  # else it was cleared in between
        self._last = sums
        return _worded(time, last, sums) if sums.requests > last.requests else None


def _worded(time: str, last: _Sums, sums: _Sums) -> str:
    words = [f"{sums.requests - last.requests:>6,} req/s"]
    words += [
        f"{status or 'no answer'}: {count:,}"
        for status, count in sorted((sums.by_status - last.by_status).items())
    ]
    words += [f"taken {sums.taken - last.taken:,}", f"duplicates {sums.duplicates - last.duplicates:,}"]
    return "  ".join([time, *words])
