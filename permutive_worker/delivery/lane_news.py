"""Says in the log when a lane stops moving and when it moves again; what a person on call asks first."""

from collections.abc import Iterable
from typing import NamedTuple

from permutive_worker.delivery.lane import Lane
from permutive_worker.telemetry.logs import logger


class _Seen(NamedTuple):
    broken: bool = False
    halted: bool = False


class LaneNews:
    """Looked at now and then: a change that did not last from one look to the next is no news."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def look(self, lanes: Iterable[Lane]) -> None:
        for lane in lanes:
            before = self._seen.get(lane.workspace, _Seen())
            now = self._seen[lane.workspace] = _Seen(lane.gate.breaker.is_open, lane.gate.halts.standing)
            if now.broken and not before.broken:
                logger().warning(
                    "api.down", workspace=lane.workspace, hint="single requests until it answers"
                )
            elif before.broken and not now.broken:
                logger().info("api.back", workspace=lane.workspace)
            if before.halted and not now.halted:
                logger().info("lane.opened", workspace=lane.workspace)
