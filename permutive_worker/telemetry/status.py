"""What the run looks like at one moment: read by metrics, probes, `/status` and the bar.

The pipeline builds a `Status` when asked (`Look`); nothing here is kept up to date.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Literal

import msgspec


class HaltStatus(msgspec.Struct, frozen=True):
    """What the API refuses."""

    kind: str | None  # of the jobs; None: all of them
    status: int  # of its answer
    since: datetime
    refusals: int


class LineStatus(msgspec.Struct, frozen=True):
    """The longest line of jobs behind one user's active job: who holds the byte budget, without a name."""

    position: str  # of the first that waits
    jobs: int
    pending_bytes: int


class LetterStatus(msgspec.Struct, frozen=True):
    """A dead letter of lately, without anything that says of whom."""

    at: datetime
    type: str | None  # the job's kind, None if it is not known
    reason: str  # see `model.Reason`
    status: int | None  # of the last answer
    code: int | None  # of the API's error
    position: str


class LaneStatus(msgspec.Struct, frozen=True):
    """One lane: one set of credentials at one host."""

    workspace: str
    ready: int
    backoff: int
    blocked: int
    in_flight: int
    max_in_flight: int
    rate_ceiling: float  # requests a second, 0: none
    rate_effective: float  # requests a second, 0: not limited
    paused_until: datetime | None
    pause_reason: str | None  # retry_after | halt
    breaker: Literal["closed", "open", "half_open"]
    credentials_valid: bool
    halted: bool = False  # nothing of it moves: it is halted, or all that waits is
    halts: list[HaltStatus] = []
    pending_bytes: int = 0
    longest_line: LineStatus | None = None
    rate_fallback: bool | None = None  # alone, with a share of the rate; None: it is not shared

    @property
    def has_work(self) -> bool:
        return bool(self.ready or self.backoff or self.blocked or self.in_flight)


class Status(msgspec.Struct, frozen=True):
    """The whole run at one moment."""

    state: Literal["starting", "running", "draining", "ended"]
    run_id: str
    started_at: datetime
    elapsed_seconds: float
    lanes: list[LaneStatus]
    settling: int
    pending_bytes: int
    pending_bytes_limit: int
    input_position_bytes: int
    input_size_bytes: int | None
    total: int | None  # lines, estimated until the input was read to its end
    held: int = 0  # lines that were read and wait for room in a backlog
    wire: str | None = None  # lean or plain; None before it is chosen, or where one was given
    wire_fallback: str | None = None  # why the lean one is not used, though it might have been
    source_away: bool = False  # the broker cannot be reached
    source_lag: int | None = None  # messages nobody was given yet
    source_redeliveries: int = 0  # messages that somebody had before
    source_unconfirmed: int = 0  # settlements the broker will not know of: duplicates to come
    last_dead_letters: list[LetterStatus] = []  # the newest last
    exit_code: int | None = None  # once it has ended

    @property
    def pending(self) -> dict[str, int]:
        """Lines read and not yet settled, by state; the right-hand end of the law of conservation."""
        return {
            "ready": sum(lane.ready for lane in self.lanes) + self.held,
            "backoff": sum(lane.backoff for lane in self.lanes),
            "blocked": sum(lane.blocked for lane in self.lanes),
            "in_flight": sum(lane.in_flight for lane in self.lanes),
            "settling": self.settling,
        }

    @property
    def ready(self) -> bool:
        """Whether new work would be delivered now: what `/readyz` answers."""
        halted = any(lane.halted for lane in self.lanes)
        moving = any(lane.has_work and not lane.halted for lane in self.lanes)
        return self.state == "running" and (moving or not halted) and not self.source_away


Look = Callable[[], Status]
