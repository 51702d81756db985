"""Holds a lane whose key, host or path the API refuses, and asks again now and then.

Nothing of it is the job's fault, so no job is lost to it: they wait.
"""

import math
from typing import Final

PROBE_SECONDS: Final = 5.0  # one request in 5 s does no harm, and a replaced key works within 5 s


class Halt:
    """Pure: time is an argument."""

    __slots__ = ("_probe_at", "_probing", "refusals", "since", "why")

    def __init__(self) -> None:
        self.since: float | None = None  # monotonic seconds; None: not halted
        self.why = ""
        self.refusals = 0  # in a row
        self._probe_at = 0.0
        self._probing = False

    def __repr__(self) -> str:
        return f"<Halt {self.why} refusals={self.refusals}>" if self.halted else "<Halt none>"

    @property
    def halted(self) -> bool:
        return self.since is not None

    def closed_seconds(self, now: float) -> float:
        """Seconds until an attempt may start; 0.0 now, inf when a probe must come back first."""
        if self.since is None:
            return 0.0
        if self._probing:
            return math.inf
        return max(0.0, self._probe_at - now)

    def started(self) -> None:
        """An attempt starts; while halted that is the probe."""
        self._probing = self.since is not None

    def refused(self, now: float, sent_at: float, why: str) -> None:
        """A refusal came, to an attempt that was sent at `sent_at`."""
        if self.since is None:
            self.since, self.why = now, why
            self._probe_at = now  # the key file may hold a new key already: ask again at once
            self.refusals = 1
        elif self._probing and sent_at >= self.since:
            self.refusals += 1
            self._probe_at = now + PROBE_SECONDS
            self._probing = False

    def accepted(self, sent_at: float) -> None:
        """An answer came that is no refusal; one to an attempt from before the halt says nothing."""
        if self.since is None or sent_at < self.since:
            return
        self.since = None
        self.refusals = 0
        self._probing = False

    def gave_up(self) -> None:
        """The probe got no answer, which says nothing of the key."""
        self._probing = False
