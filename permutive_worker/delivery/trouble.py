"""What a lane's refusals and throttles mean for the whole run.

never a delivery, refused twice     a finite run ends with 77 (or 78 for a wrong host or path), once nothing
                                    else is under way: the key file was looked at before the second time
refused for `max_halt_seconds`      a finite run ends with 77, once only refused jobs are left
asked to wait for too long          a finite run ends with 75 and says until when
"""

from collections.abc import Callable, Mapping
from datetime import timedelta

from permutive_worker.control.halt import Halt
from permutive_worker.credentials import Credentials
from permutive_worker.delivery.lane import Lane
from permutive_worker.delivery.stop import Stop, Why
from permutive_worker.errors import ConfigurationError, KeyRefusedError, ThrottledTooLong, WorkerError
from permutive_worker.model import Action, Verdict
from permutive_worker.ports import Clock
from permutive_worker.telemetry.logs import logger
from permutive_worker.telemetry.progress import duration


class Trouble:
    """Called by senders, once for each such answer; rare, so it may look at a file."""

    def __init__(
        self,
        credentials: Mapping[str, Credentials],
        lanes: Mapping[str, Lane],
        stop: Stop,
        clock: Clock,
        input_waits: Callable[[], bool],
        *,
        finite: bool,
        max_retry_after_seconds: float,
        max_halt_seconds: float,
    ) -> None:
        """`credentials` and all the `lanes` by workspace. Only a finite run gives up; a service waits.

        `input_waits` says whether the input is at its end, or waits for room: no other jobs will come.
        """
        self._credentials = credentials
        self._lanes = lanes
        self._stop = stop
        self._clock = clock
        self._input_waits = input_waits
        self._finite = finite
        self._max_retry_after_seconds = max_retry_after_seconds
        self._max_halt_seconds = max_halt_seconds
        self._said: Verdict | None = None  # of the latest refusal
        self._told: dict[Halt, float | None] = {}  # which halts were logged: since when they stood

    def __call__(self, lane: Lane, verdict: Verdict) -> None:
        if verdict.action is Action.HALT:
            self._refused(lane, verdict)
        elif verdict.action is Action.REJECT:
            return  # what it asks to wait for is not this job any more
        elif (verdict.retry_after_seconds or 0.0) > self._max_retry_after_seconds and self._finite:
            self._give_up("pause", self._too_long(verdict.retry_after_seconds or 0.0))

    def _refused(self, lane: Lane, verdict: Verdict) -> None:
        halts = lane.gate.halts
        if not halts.standing:
            return  # an answer to an attempt from before the lane was opened again
        self._said = verdict
        if self._credentials[lane.workspace].refresh():
            logger().info("credentials.reloaded", workspace=lane.workspace)
            lane.key_changed()
        self._tell(lane)
        self.look()

    def _tell(self, lane: Lane) -> None:
        """Log each halt once."""
        halts = lane.gate.halts
        for kind, halt in (("all", halts.lane), *halts.kinds.items()):
            if halt.halted and self._told.get(halt) != halt.since:
                self._told[halt] = halt.since
                logger().warning("lane.halted", workspace=lane.workspace, kind=kind, status=halt.status)

    def look(self) -> None:
        """Give up if it is time; called at each refusal, and now and then: a probe may hang."""
        if not self._finite or self._stop.requested or self._said is None:
            return
        halts = [halt for lane in self._lanes.values() for halt in lane.gate.halts.all]
        if halts and (self._is_hopeless(halts) or self._is_too_long(halts)):
            self._give_up("halt", self._refusal(self._said))

    def _is_hopeless(self, halts: list[Halt]) -> bool:
        """Nothing was ever delivered, all was asked again, and nothing else is under way."""
        lanes = self._lanes.values()
        return (
            not self._has_delivered
            and all(halt.refusals > 1 for halt in halts)
            and all(lane.is_stuck or lane.is_idle for lane in lanes)
        )

    def _is_too_long(self, halts: list[Halt]) -> bool:
        """It lasts too long, and only refused jobs are left."""
        longest = self._clock.monotonic() - min(halt.since or 0.0 for halt in halts)
        if longest < self._max_halt_seconds:
            return False
        lanes = self._lanes.values()
        if all(lane.gate.halts.lane.halted for lane in lanes):
            return True
        return self._input_waits() and all(lane.is_stuck or lane.is_idle for lane in lanes)

    @property
    def _has_delivered(self) -> bool:
        return any(lane.has_delivered for lane in self._lanes.values())

    def _give_up(self, why: Why, error: WorkerError) -> None:
        if not self._stop.requested:
            self._stop.request(why, error)

    def _too_long(self, seconds: float) -> ThrottledTooLong:
        until = self._clock.utc_now() + timedelta(seconds=seconds)
        return ThrottledTooLong(
            f"the API asks to wait {duration(seconds)}, until {until:%Y-%m-%d %H:%M:%S} UTC, longer than "
            "rate_limit.max_retry_after_seconds: run again then"
        )

    def _refusal(self, verdict: Verdict) -> WorkerError:
        # Its code, not its words: a server may repeat what it was sent, identifiers and all.
        said = f" (code {verdict.error.code})" if verdict.error is not None and verdict.error.code else ""
        if verdict.status in (401, 403):
            return KeyRefusedError(
                f"the API refuses the key with {verdict.status}{said}: check PERMUTIVE_API_KEY_FILE, "
                "PERMUTIVE_API_KEY or PERMUTIVE_APPLICATION_CREDENTIALS; nothing was dead-lettered for it, "
                "run again then"
            )
        # Once something was delivered the configuration was right, and then the API refuses us all the same.
        error = KeyRefusedError if self._has_delivered else ConfigurationError
        return error(f"the API answers {verdict.status} on a path that must exist{said}: check http.base_url")
