"""What becomes of a job after an attempt that did not deliver: what counts, as one pure function.

    verdict     counts as attempt   then
    reject      -                   dead letter `rejected`
    halt        no                  last in line; the lane or the kind is held meanwhile; a dead letter
                                    `rejected` if the job is refused for itself
    throttled   no                  with a hint first in line (the lane pauses), else back-off
    retry       if the breaker      back-off, or dead letter `exhausted`
                was closed

A probe of a halt never counts, and what it brings is the end of its job only if that says something of the
job. An ambiguous outcome is repeated or dead-lettered as `delivery.ambiguous` says, a probe's too: who asks for
no repeats gets none. A job that would be too old at its next attempt is a dead letter `expired`.
"""

from typing import NamedTuple

import msgspec

from permutive_worker.control.backoff import Backoff
from permutive_worker.http.gate import judges_the_job
from permutive_worker.model import Action, End, Entry, Reason, Verdict


class Policy(msgspec.Struct, frozen=True):
    """How often, how long and whether to try again."""

    backoff: Backoff
    max_attempts: int = 10
    max_age_seconds: float | None = None
    repeat_ambiguous: bool = True


class Ruling(NamedTuple):
    """An end with its reason, or another attempt."""

    end: End | None = None
    reason: Reason | None = None
    due: float | None = None  # monotonic seconds of the next attempt; None: first in line
    counted: bool = False  # against max_attempts


AGAIN_AT_ONCE = Ruling()


def rule(
    entry: Entry,
    verdict: Verdict,
    policy: Policy,
    *,
    breaker_closed: bool,
    now: float,
    dice: float,
    refused_for_itself: bool = False,
) -> Ruling:
    """Decide. `dice` is uniform in [0, 1); `entry` is as it was when the attempt was sent."""
    if entry.probe is not None and not judges_the_job(verdict):
        return _probed(entry, verdict, policy, now)
    match verdict.action:
        case Action.REJECT:
            return Ruling(End.DEAD_LETTERED, Reason.REJECTED)
        case Action.HALT if refused_for_itself:
            return Ruling(End.DEAD_LETTERED, Reason.REJECTED)
        case Action.HALT:
            return _unless_expired(entry, policy, AGAIN_AT_ONCE, now)
        case Action.THROTTLED:
            return _throttled(entry, verdict, policy, now, dice)
        case Action.RETRY | Action.DELIVERED:  # the latter never comes here
            return _failed(entry, verdict, policy, breaker_closed, now, dice)


def _probed(entry: Entry, verdict: Verdict, policy: Policy, now: float) -> Ruling:
    if verdict.ambiguous and not policy.repeat_ambiguous:
        return Ruling(End.DEAD_LETTERED, Reason.AMBIGUOUS)
    return _unless_expired(entry, policy, AGAIN_AT_ONCE, now)


def _throttled(entry: Entry, verdict: Verdict, policy: Policy, now: float, dice: float) -> Ruling:
    hint = verdict.retry_after_seconds
    if hint is not None:
        return _unless_expired(entry, policy, Ruling(due=None), now + hint)
    due = now + policy.backoff.seconds(entry.attempts, dice)
    return _unless_expired(entry, policy, Ruling(due=due), due)


def _failed(
    entry: Entry, verdict: Verdict, policy: Policy, breaker_closed: bool, now: float, dice: float
) -> Ruling:
    if verdict.ambiguous and not policy.repeat_ambiguous:
        return Ruling(End.DEAD_LETTERED, Reason.AMBIGUOUS, counted=True)
    failures = entry.failures + breaker_closed
    if failures >= policy.max_attempts:
        return Ruling(End.DEAD_LETTERED, Reason.EXHAUSTED, counted=True)
    due = now + policy.backoff.seconds(max(1, failures), dice, verdict.retry_after_seconds or 0.0)
    return _unless_expired(entry, policy, Ruling(due=due, counted=breaker_closed), due)


def _unless_expired(entry: Entry, policy: Policy, ruling: Ruling, due: float) -> Ruling:
    if policy.max_age_seconds is not None and due - entry.read_at > policy.max_age_seconds:
        return Ruling(End.DEAD_LETTERED, Reason.EXPIRED, counted=ruling.counted)
    return ruling
