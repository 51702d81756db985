"""Takes a job from its lane, sends one attempt, and hands on what came of it.

A few long-lived tasks run `Sender.run`; no task, lock, timer or log line is made for a job.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Final

from permutive_worker.delivery.lane import Lane
from permutive_worker.delivery.ruling import Policy, rule
from permutive_worker.errors import TransportError
from permutive_worker.model import Action, End, Entry, ErrorDetail, Job, Reason, Response, Verdict
from permutive_worker.ports import Clock, Destination, Wire
from permutive_worker.telemetry.counts import CUT, Counts
from permutive_worker.telemetry.logs import logger

KEPT_ATTEMPTS: Final = 5  # of the first, and of the last, that failed
NO_HEADERS: Final[Mapping[str, str]] = {}
FORBIDDEN: Final = 403
KEPT_BYTES: Final = 512  # of the last answer while the job waits for its next attempt

# Looked up once: before 3.12 an Enum's attribute costs 50 ns.
_DELIVERED_ACTION: Final = Action.DELIVERED
_DELIVERED_END: Final = End.DELIVERED


class Sender:
    """What all the senders of one lane share."""

    def __init__(
        self,
        lane: Lane,
        wire: Wire,
        destination: Destination,
        counts: Counts,
        policy: Policy,
        clock: Clock,
        on_end: Callable[[Entry], None],
        on_trouble: Callable[[Lane, Verdict], None],
        scrub: Callable[[bytes], bytes],
        *,
        keeps_answers: bool = True,
        dice: Callable[[], float] = random.random,
    ) -> None:
        """`on_end` gets each entry that has ended; `on_trouble` each halt and throttle of the lane.

        `scrub` takes every known key out of what is kept of an answer. Without `keeps_answers` nothing is
        kept of one that delivered: nobody will ask, and what is freed at once is still in the cache.
        """
        self._lane = lane
        self._wire = wire
        self._destination = destination
        self._counts = counts
        self._policy = policy
        self._clock = clock
        self._now = clock.monotonic
        self._on_end = on_end
        self._on_trouble = on_trouble
        self._scrub = scrub
        self._keeps_answers = keeps_answers
        self._dice = dice

    async def run(self) -> None:
        """Send until cancelled. Cancellation: a job in hand is returned, a waiting sender has none."""
        lane, wire, destination, utc_now = self._lane, self._wire, self._destination, self._clock.utc_now
        now = self._now()
        while True:
            entry = lane.next(now)
            if isinstance(entry, float):
                entry = await lane.turn()
                now = self._now()
            assert entry.job is not None  # noqa: S101  (only jobs reach a lane)
            entry.sent_at = now
            entry.attempts += 1
            response: Response | None = None
            try:
                request = destination.request(entry.job, entry.part)
                response = await wire.send(request)
                verdict = destination.judge(request, response, utc_now)
            except TransportError as error:
                self._counts.request_errors[error.kind] += 1
                verdict = destination.judge_failure(error.kind, sent=error.sent)
            except asyncio.CancelledError:
                self._cut_short(entry)
                raise
            except Exception as bug:  # noqa: BLE001  (a bug on one job is that job's dead letter)
                self._fail_inside(entry, bug)
                now = self._now()
                continue
            now = self._now()
            if response is not None:
                self._counts.kinds[entry.kind].answered(response.status, now - entry.sent_at)
            if verdict.action is _DELIVERED_ACTION:
                self._delivered(entry, entry.job, response, now)
            else:
                self._failed(entry, verdict, response, now)

    def _delivered(self, entry: Entry, job: Job, response: Response | None, now: float) -> None:
        lane = self._lane
        lane.gate.delivered(entry.sent_at, now, entry.kind, entry.probe)
        entry.probe = None
        if lane.is_holding:
            lane.look_at_holds()
        lane.has_delivered = True
        if self._keeps_answers:
            entry.response = response
        entry.part += 1
        if entry.part >= job.request_count():
            self._end(entry, _DELIVERED_END)
        elif lane.closed:
            self._end(entry, End.RETURNED)
        else:
            entry.failures = 0  # each request of a job has all the attempts
            lane.again(entry, None)

    def _failed(self, entry: Entry, verdict: Verdict, response: Response | None, now: float) -> None:
        gate = self._lane.gate
        breaker_closed = not gate.breaker.is_open
        for_itself = self._is_refused_for_itself(entry, verdict, now)
        if for_itself:
            gate.refused_job(entry.sent_at, now, entry.kind)
        else:
            gate.heard(verdict, entry.sent_at, now, entry.kind, entry.probe)
        if breaker_closed and gate.breaker.is_open:
            self._lane.on_room()  # this lane stands still now: intake need not wait for it any more
        self._note_trouble(entry, verdict, now, halts=not for_itself)
        ruling = rule(
            entry,
            verdict,
            self._policy,
            breaker_closed=breaker_closed,
            now=now,
            dice=self._dice(),
            refused_for_itself=for_itself,
        )
        entry.failures += ruling.counted
        if ruling.end is None and not self._lane.closed:
            self._try_again(entry, verdict, response, ruling.due)
            return
        entry.response = response or entry.response
        self._end(entry, ruling.end or End.RETURNED, ruling.reason, verdict.error)

    def _is_refused_for_itself(self, entry: Entry, verdict: Verdict, now: float) -> bool:
        """A 403 came again although others of the kind were taken in between."""
        if verdict.status != FORBIDDEN or not verdict.of_kind:
            return False
        refused_at, entry.refused_at = entry.refused_at, now
        return entry.probe is None and self._lane.gate.halts.is_own(entry.kind, refused_at)

    def _try_again(
        self, entry: Entry, verdict: Verdict, response: Response | None, due: float | None
    ) -> None:
        if response is not None:
            self._keep_excerpt(entry, response)
        if verdict.of_kind and entry.probe is None and not self._lane.gate.halts.lane.halted:
            # Perhaps for itself: that shows once another one was sent after it and taken, a round trip from now.
            now = self._now()
            self._lane.again(entry, now + 2 * (now - entry.sent_at))
            return
        if verdict.action is Action.HALT or entry.probe is not None:
            entry.probe = None
            self._lane.again_last(entry)
            return
        self._counts.retries[verdict.why] += 1
        self._lane.again(entry, due)

    def _keep_excerpt(self, entry: Entry, response: Response) -> None:
        """While a job waits, only this much of its last answer does; it is charged for it once."""
        if entry.response is None and entry.budget is not None:
            entry.budget.charge(KEPT_BYTES)
            entry.charge_bytes += KEPT_BYTES
        # Scrubbed before it is cut: half a key would not be found. The headers are 2 KB, and not kept.
        entry.response = Response(response.status, NO_HEADERS, self._scrub(response.body)[:KEPT_BYTES])

    def _end(
        self, entry: Entry, end: End, reason: Reason | None = None, error: ErrorDetail | None = None
    ) -> None:
        entry.end = end
        entry.reason = reason
        entry.error = error
        self._lane.landed(entry)
        self._on_end(entry)

    def _note_trouble(self, entry: Entry, verdict: Verdict, now: float, *, halts: bool) -> None:
        counts = self._counts
        if verdict.action is Action.THROTTLED:
            counts.throttled["none" if verdict.retry_after_seconds is None else "retry_after"] += 1
        counts.ambiguous += verdict.ambiguous
        self._remember(entry, verdict.status or verdict.why, now)
        halts = halts and verdict.action is Action.HALT
        if halts or self._lane.is_holding or self._lane.gate.trickle.kinds:
            self._lane.look_at_holds()
        if halts or verdict.action is Action.THROTTLED or verdict.retry_after_seconds is not None:
            self._on_trouble(self._lane, verdict)
            self._lane.on_room()

    def _remember(self, entry: Entry, what: int | str, now: float) -> None:
        if entry.trail is None:
            entry.trail = []
        elif len(entry.trail) == 2 * KEPT_ATTEMPTS:
            del entry.trail[KEPT_ATTEMPTS]
        entry.trail.append((self._clock.utc_now().timestamp(), now - entry.sent_at, what))

    def _cut_short(self, entry: Entry) -> None:
        """The stop did not wait for this attempt: it may have been taken."""
        now = self._now()
        self._lane.gate.leave(entry.sent_at, now, entry.kind, entry.probe)
        self._counts.ambiguous += 1
        self._counts.request_errors[CUT] += 1
        self._remember(entry, CUT, now)
        if self._policy.repeat_ambiguous:
            self._end(entry, End.RETURNED)
        else:  # a line that is returned is sent again by the next run
            detail = ErrorDetail(CUT, "the stop did not wait for the answer")
            self._end(entry, End.DEAD_LETTERED, Reason.AMBIGUOUS, detail)

    def _fail_inside(self, entry: Entry, bug: Exception) -> None:
        self._lane.gate.leave(entry.sent_at, self._now(), entry.kind, entry.probe)
        # Only the kind of error and where: its text may hold what the job holds.
        logger().error("job.failed_inside", error=type(bug).__name__, position=entry.delivery.position)
        detail = ErrorDetail("internal", f"a bug in the worker: {type(bug).__name__}")
        self._end(entry, End.DEAD_LETTERED, Reason.INTERNAL, detail)
