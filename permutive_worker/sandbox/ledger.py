"""The ledger: what really arrived, what was done about it, and what was done twice.

Every request to the API is an entry: when, what kind, the status answered (0: none was), and whether it was
*taken*: a writing request that took effect, whether or not its answer reached anyone. A job is its kind,
its subject and its body; one that is taken again is a duplicate. A request that was refused and comes again
is none.

Identifiers are shown as SHA-256 and bodies not at all, unless bodies are to be kept. The key of a request never
gets here.
Units: `at` is monotonic seconds (on Linux the same clock for every process of the machine).
Memory: some 30 bytes an entry and its subject, up to a limit; some 100 bytes for each different job taken,
without one.
"""

import hashlib
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import orjson


class Ledger:
    """Counts everything and keeps the first `limit` entries one by one.

    Args:
        limit: most entries kept; the sums, duplicates and peak go on without one.
        keep_bodies: show plain subjects and whole bodies in the entries.

    """

    def __init__(self, limit: int, *, keep_bodies: bool) -> None:
        self._limit = limit
        self._keep_bodies = keep_bodies
        self.requests = 0
        self.taken = 0
        self.by_kind: Counter[str] = Counter()
        self.by_status: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self.first_at: float | None = None
        self.last_at: float | None = None
        self._jobs: dict[int, int] = {}
        self._last_second: deque[float] = deque()
        self._peak_per_second = 0
        self._arrivals = array("d")
        self._statuses = array("H")
        self._taken = bytearray()
        self._kinds: list[str] = []
        self._subjects: list[str] = []
        self._bodies: list[bytes] = []

    def __repr__(self) -> str:
        return f"Ledger(requests={self.requests}, taken={self.taken}, duplicates={self.duplicates})"

    @property
    def unique(self) -> int:
        """Different jobs taken."""
        return len(self._jobs)

    @property
    def duplicates(self) -> int:
        """Jobs taken again."""
        return self.taken - len(self._jobs)

    def record(
        self,
        at: float,
        kind: str,
        status: int,
        *,
        taken: bool,
        subject: str = "",
        body: bytes = b"",
        fault: str = "",
    ) -> None:
        """Enter one request; `at` never goes back."""
        self.requests += 1
        self.by_kind[kind] += 1
        self.by_status[status] += 1
        if fault:
            self.faults[fault] += 1
        if taken:
            self.taken += 1
            job = hash((kind, subject, body))
            self._jobs[job] = self._jobs.get(job, 0) + 1
        self._note_arrival(at)
        if len(self._arrivals) < self._limit:
            self._keep(at, kind, status, taken=taken, subject=subject, body=body)

    def _note_arrival(self, at: float) -> None:
        if self.first_at is None:
            self.first_at = at
        self.last_at = at
        recent = self._last_second
        recent.append(at)
        while recent[0] <= at - 1:
            recent.popleft()
        self._peak_per_second = max(self._peak_per_second, len(recent))

    def _keep(self, at: float, kind: str, status: int, *, taken: bool, subject: str, body: bytes) -> None:
        self._arrivals.append(at)
        self._statuses.append(status)
        self._taken.append(taken)
        self._kinds.append(kind)
        self._subjects.append(subject)
        if self._keep_bodies:
            self._bodies.append(body)

    def summary(self) -> dict[str, Any]:
        """Return the sums, ready to be written as JSON."""
        return {
            "requests": self.requests,
            "taken": self.taken,
            "unique": self.unique,
            "duplicates": self.duplicates,
            "by_endpoint": dict(self.by_kind),
            "by_status": {str(status): count for status, count in sorted(self.by_status.items())},
            "faults": dict(self.faults),
            "first_at": self.first_at,
            "last_at": self.last_at,
            "peak_per_second": self._peak_per_second,
            "entries": len(self._arrivals),
        }

    def arrivals(self) -> list[tuple[float, int]]:
        """Return when each kept entry arrived, and the status it got."""
        return list(zip(self._arrivals, self._statuses, strict=True))

    def entries(self, offset: int, limit: int) -> Iterator[dict[str, Any]]:
        """Yield the kept entries from `offset` (from 0), at most `limit`; `n` counts from 1.

        `id` is the SHA-256 of the subject, in hex (the subject itself where bodies are kept), and null if the
        request was refused before anyone looked whom it was about.
        """
        for index in range(offset, min(offset + limit, len(self._arrivals))):
            entry = {
                "n": index + 1,
                "at": self._arrivals[index],
                "kind": self._kinds[index],
                "id": self._name(index),
                "status": self._statuses[index],
                "taken": bool(self._taken[index]),
            }
            if self._keep_bodies:
                entry["body"] = _readable(self._bodies[index])
            yield entry

    def _name(self, index: int) -> str | None:
        subject = self._subjects[index]
        if not subject:
            return None
        return subject if self._keep_bodies else hashlib.sha256(subject.encode()).hexdigest()


def _readable(body: bytes) -> Any:
    """Return the body as JSON, as text if it is none, as null if there is none."""
    try:
        return orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        return body.decode(errors="replace")
