"""What a run looks like at one moment, told from its parts."""

import math
from datetime import datetime, timedelta

from permutive_worker.delivery.lane import Lane
from permutive_worker.ports import Clock
from permutive_worker.telemetry.status import LaneStatus


def lane_status(lane: Lane, clock: Clock) -> LaneStatus:
    """One lane at this moment."""
    gate = lane.gate
    paused_until, reason = _pause(lane, clock)
    rate = getattr(gate.limiter, "rate_per_second", 0.0)
    return LaneStatus(
        workspace=lane.workspace,
        ready=len(lane.backlog.ready),
        backoff=lane.backlog.asleep,
        blocked=lane.backlog.blocked,
        in_flight=gate.in_flight,
        max_in_flight=gate.places.limit,
        rate_ceiling=rate,
        rate_effective=gate.pace.per_second if gate.pace.engaged else rate,
        paused_until=paused_until,
        pause_reason=reason,
        breaker=gate.breaker.state,
        credentials_valid=not gate.halt.halted,
        rate_fallback=getattr(gate.limiter, "is_alone", None),
    )


def _pause(lane: Lane, clock: Clock) -> tuple[datetime | None, str | None]:
    now, gate = clock.monotonic(), lane.gate
    if gate.halt.halted:
        seconds, reason = gate.halt.closed_seconds(now), "halt"
    else:
        seconds, reason = gate.paused_until - now, "retry_after"
    if not 0 < seconds < math.inf:
        return None, ("halt" if gate.halt.halted else None)
    return clock.utc_now() + timedelta(seconds=seconds), reason
