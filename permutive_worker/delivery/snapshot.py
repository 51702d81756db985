"""What a run looks like at one moment, told from its parts."""

import math
from datetime import datetime, timedelta
from typing import Any

from permutive_worker.delivery.lane import Lane
from permutive_worker.ports import Clock, Queue
from permutive_worker.telemetry.status import HaltStatus, LaneStatus, LineStatus


def lane_status(lane: Lane, clock: Clock) -> LaneStatus:
    """One lane at this moment."""
    gate = lane.gate
    line = lane.backlog.longest_line()
    paused_until, reason = _pause(lane, clock)
    rate = getattr(gate.limiter, "rate_per_second", 0.0)
    return LaneStatus(
        workspace=lane.workspace,
        ready=len(lane.backlog.ready) + lane.backlog.parked,
        backoff=lane.backlog.asleep,
        blocked=lane.backlog.blocked,
        in_flight=gate.jobs_in_flight,
        max_in_flight=gate.places.limit,
        rate_ceiling=rate,
        rate_effective=gate.pace.per_second if gate.pace.engaged else rate,
        paused_until=paused_until,
        pause_reason=reason,
        breaker=gate.breaker.state,
        credentials_valid=not gate.halts.standing,
        halted=gate.halts.lane.halted or (gate.halts.standing and lane.is_stuck),
        halts=_halts(lane, clock),
        pending_bytes=lane.budget.pending_bytes,
        longest_line=LineStatus(line[0].delivery.position, *line[1:]) if line is not None else None,
        rate_fallback=getattr(gate.limiter, "is_alone", None),
    )


def lane_to_come(workspace: str, rate_per_second: float) -> LaneStatus:
    """A lane before it is made, so that its metrics are there from the start."""
    return LaneStatus(
        workspace=workspace,
        ready=0,
        backoff=0,
        blocked=0,
        in_flight=0,
        max_in_flight=0,
        rate_ceiling=rate_per_second,
        rate_effective=rate_per_second,
        paused_until=None,
        pause_reason=None,
        breaker="closed",
        credentials_valid=True,
    )


def _halts(lane: Lane, clock: Clock) -> list[HaltStatus]:
    now, halts = clock.monotonic(), lane.gate.halts
    standing = [(None, halts.lane), *halts.kinds.items()]
    return [
        HaltStatus(kind, halt.status, clock.utc_now() - timedelta(seconds=now - halt.since), halt.refusals)
        for kind, halt in standing
        if halt.since is not None
    ]


def _pause(lane: Lane, clock: Clock) -> tuple[datetime | None, str | None]:
    now, gate = clock.monotonic(), lane.gate
    halts = gate.halts.all
    if halts:
        seconds, reason = min(halt.closed_seconds(now) for halt in halts), "halt"
    else:
        seconds, reason = gate.paused_until - now, "retry_after"
    if not 0 < seconds < math.inf:
        return None, ("halt" if halts else None)
    return clock.utc_now() + timedelta(seconds=seconds), reason


def queue_status(queue: Queue | None) -> dict[str, Any]:
    """The fields of `Status` that a queue fills; none without one."""
    if queue is None:
        return {}
    return {
        "source_away": queue.is_away,
        "source_lag": queue.lag(),
        "source_redeliveries": queue.redeliveries,
        "source_unconfirmed": queue.unconfirmed,
    }
