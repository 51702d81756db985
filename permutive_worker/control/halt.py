"""Holds what the API refuses, and asks again now and then. Nothing of it is the job's fault: jobs wait.

What is refused is the key (a lane waits) or the right to one job kind, or its path (that kind waits):
`control.halts`. The first probe leaves at once, for the key file may hold a new key already; after that one
in PROBE_SECONDS. What an answer to a probe says:

    delivered, or a 4xx that judges the job itself (400, 409, 404 of an id …)    the key is good: open
    refused                                                                     ask again
    429, 5xx, no answer, cut short by us                                        nothing: ask again

Only a probe opens a halt. Answers to what was sent before it say nothing, whichever they are: a refusal from
before the last opening does not halt again, a success from before the halt does not open it.
"""

import math
from typing import Final

PROBE_SECONDS: Final = 5.0  # one request in 5 s does no harm, and a replaced key works within 5 s


class Halt:
    """Pure: time is an argument, monotonic seconds.

    Attributes:
        since: when it began; None: not halted.
        status: of the latest refusal.
        refusals: in a row, the first and those of probes.
        probing: a probe is under way.
    """

    __slots__ = ("_opened_at", "_probe_at", "probing", "refusals", "since", "status")

    def __init__(self) -> None:
        self.since: float | None = None
        self.status = 0
        self.refusals = 0
        self.probing = False
        self._probe_at = 0.0
        self._opened_at = -math.inf

    def __repr__(self) -> str:
        return f"<Halt {self.status} refusals={self.refusals}>" if self.halted else "<Halt none>"

    @property
    def halted(self) -> bool:
        return self.since is not None

    def closed_seconds(self, now: float) -> float:
        """Seconds until an attempt may start; 0.0 now, inf when a probe must come back first."""
        if self.since is None:
            return 0.0
        if self.probing:
            return math.inf
        return max(0.0, self._probe_at - now)

    def started(self) -> None:
        """The probe starts."""
        self.probing = True

    def refused(self, now: float, sent_at: float, status: int, *, probe: bool) -> None:
        """A refusal came, to the probe or to an attempt that was sent at `sent_at`."""
        if probe:
            self.refusals += 1
            self.status = status
            self.gave_up(now)
        elif self.since is None and sent_at >= self._opened_at:
            self.since, self.status, self.refusals = now, status, 1
            self._probe_at = now
            self.probing = False

    def accepted(self, now: float) -> None:
        """The probe proved that the key is good."""
        self.since = None
        self.refusals = 0
        self.probing = False
        self._opened_at = now

    def gave_up(self, now: float, wait_seconds: float = 0.0) -> None:
        """The probe is over and said nothing; the API may have asked to wait for so long."""
        self.probing = False
        self._probe_at = now + max(PROBE_SECONDS, wait_seconds)

    def ask_now(self, now: float) -> None:
        """There is a new key: try it."""
        self._probe_at = min(self._probe_at, now)
