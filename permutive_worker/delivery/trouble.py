"""What a lane's refusals and throttles mean for the whole run.

refused, and it never delivered   the key file is looked at and one more job is tried; then a
finite run ends with 77 (or 78 for a wrong host or path)
refused, and it has delivered     the lane is held and probed; a finite run gives up after
`max_halt_seconds`
asked to wait for too long        a finite run ends with 75 and says until when
"""

from collections.abc import Mapping
from datetime import timedelta

from permutive_worker.credentials import Credentials
from permutive_worker.delivery.lane import Lane
from permutive_worker.delivery.stop import Stop
from permutive_worker.errors import ConfigurationError, KeyRefusedError, ThrottledTooLong, WorkerError
from permutive_worker.model import Action, Verdict
from permutive_worker.ports import Clock
from permutive_worker.telemetry.logs import logger


class Trouble:
    """Called by senders, once for each such answer; rare, so it may look at a file."""

    def __init__(
        self,
        credentials: Mapping[str, Credentials],
        lanes: Mapping[str, Lane],
        stop: Stop,
        clock: Clock,
        *,
        finite: bool,
        max_retry_after_seconds: float,
        max_halt_seconds: float,
    ) -> None:
        """`credentials` and all the `lanes` by workspace. Only a finite run gives up; a service waits."""
        self._credentials = credentials
        self._lanes = lanes
        self._stop = stop
        self._clock = clock
        self._finite = finite
        self._max_retry_after_seconds = max_retry_after_seconds
        self._max_halt_seconds = max_halt_seconds

    def __call__(self, lane: Lane, verdict: Verdict) -> None:
        if verdict.action is Action.HALT:
            self._refused(lane, verdict)
        elif (verdict.retry_after_seconds or 0.0) > self._max_retry_after_seconds and self._finite:
            self._give_up("stop", self._too_long(verdict.retry_after_seconds or 0.0))

    def _refused(self, lane: Lane, verdict: Verdict) -> None:
        halt = lane.gate.halt
        if halt.since is None:
            return  # an answer to an attempt from before the lane was opened again
        if self._credentials[lane.workspace].refresh():
            logger().info("credentials.reloaded", workspace=lane.workspace)
        if halt.refusals <= 1:
            logger().warning("lane.halted", workspace=lane.workspace, status=verdict.status)
        if not self._finite:
            return
        held_seconds = self._clock.monotonic() - halt.since
        if (halt.refusals > 1 and self._is_hopeless()) or held_seconds > self._max_halt_seconds:
            self._give_up("halt", _refusal(verdict))

    def _is_hopeless(self) -> bool:
        """Nothing was ever delivered, and no other lane is about to."""
        return not any(lane.has_delivered or _is_trying(lane) for lane in self._lanes.values())

    def _give_up(self, why: str, error: WorkerError) -> None:
        if not self._stop.requested:
            self._stop.request("halt" if why == "halt" else "stop", error)

    def _too_long(self, seconds: float) -> ThrottledTooLong:
        until = self._clock.utc_now() + timedelta(seconds=seconds)
        return ThrottledTooLong(
            f"the API asks to wait until {until:%Y-%m-%d %H:%M:%S} UTC, longer than "
            "rate_limit.max_retry_after_seconds: run again then"
        )


def _is_trying(lane: Lane) -> bool:
    return not lane.gate.halt.halted and bool(lane.gate.jobs_in_flight or len(lane.backlog))


def _refusal(verdict: Verdict) -> WorkerError:
    said = f" ({verdict.error.message})" if verdict.error is not None and verdict.error.message else ""
    if verdict.status in (401, 403):
        return KeyRefusedError(
            f"the API refuses the key with {verdict.status}{said}: check PERMUTIVE_API_KEY_FILE, "
            "PERMUTIVE_API_KEY or PERMUTIVE_APPLICATION_CREDENTIALS; nothing was dead-lettered, run again then"
        )
    return ConfigurationError(
        f"the API answers {verdict.status} on a path that must exist{said}: check http.base_url"
    )
