"""What limits the run now, in one plain sentence: the first thing a person on call reads.

Pure. What is worst comes first; numbers that change with every look are told elsewhere, so that a screen
reader hears a sentence only when it says something new.
"""

from datetime import datetime
from typing import Final, Literal

import msgspec

from permutive_worker.telemetry.status import HaltStatus, LaneStatus, Status

Mood = Literal["good", "wait", "bad"]

_MOODS: Final = ("good", "wait", "bad")
_NEARLY: Final = 0.9  # of a rate: as close as a smoothed measurement comes to it
_FAR_BELOW: Final = 0.5  # of the ceiling: somebody should look whose limit that is

# What the codes of the README mean, as far as a run that has ended can have them.
_ENDS: Final[dict[int, tuple[Mood, str]]] = {
    0: ("good", "all is delivered"),
    1: ("bad", "a bug; the log says where"),
    3: ("wait", "finished, with dead letters"),
    4: ("bad", "stopped by a guard, for too much failed"),
    69: ("bad", "the API or the queue could not be reached"),
    74: ("bad", "an outcome could not be written"),
    75: ("wait", "stopped early; run it again to go on"),
    77: ("bad", "the API refuses the key"),
}


class Sentence(msgspec.Struct, frozen=True):
    """One sentence, without its full stop.

    `since` is when that began, `until` when it will change by itself, where that is known; `advice` is what a
    person can do.
    """

    mood: Mood
    text: str
    since: datetime | None = None
    until: datetime | None = None
    advice: str | None = None


class Lately(msgspec.Struct, frozen=True):
    """What a status does not tell, for it is of one moment."""

    requests_per_second: float = 0.0
    throttled: bool = False  # ever
    hinted: bool = False  # by a Retry-After


def sentence(status: Status, lately: Lately) -> Sentence:
    """Return what limits the run."""
    if status.state == "ended":
        return _ended(status.exit_code)
    if status.state == "starting":
        return Sentence("wait", "Starting", since=status.started_at)
    if status.state == "draining":
        return Sentence("wait", "Finishing: what is in flight is awaited, nothing new is sent")
    if status.source_away:
        return Sentence("bad", "The queue cannot be reached; the worker tries again by itself")
    held = [(lane, told) for lane in status.lanes if (told := _held(lane, lately)) is not None]
    if held:
        return _worst(held, len(status.lanes))
    return _moving(status, lately)


def _ended(exit_code: int | None) -> Sentence:
    if exit_code is None:
        return Sentence("wait", "The worker has ended")
    mood, meaning = _ENDS.get(exit_code, ("bad", "it never began; the log says why"))
    return Sentence(mood, f"The worker has ended (exit {exit_code}): {meaning}")


def _worst(held: list[tuple[LaneStatus, Sentence]], lanes: int) -> Sentence:
    lane, told = max(held, key=lambda pair: _MOODS.index(pair[1].mood))
    if lanes == 1:
        return told
    others = f" ({len(held)} of {lanes} workspaces are held up)" if len(held) > 1 else ""
    name = lane.workspace or "default"
    return msgspec.structs.replace(told, text=f"{name}: {told.text}{others}")


def _held(lane: LaneStatus, lately: Lately) -> Sentence | None:
    """Why nothing of a lane moves, or less than could; None if nothing holds it up."""
    if lane.halts:
        return _halted(lane.halts)
    if lane.breaker != "closed":
        return Sentence("bad", "The API does not answer; single requests ask whether it is back")
    if lane.paused_until is not None:
        why = "Paused by the API (Retry-After)" if lately.hinted else "Paused, for the API throttles"
        return Sentence("wait", why, until=lane.paused_until)
    return None


def _halted(halts: list[HaltStatus]) -> Sentence:
    halt = min(halts, key=lambda one: (one.kind is not None, one.since))
    if halt.status == 401:
        advice = "Replace the key; a key file is looked at every 5 seconds."
        return Sentence("bad", "The key is refused (401): no request is accepted", halt.since, None, advice)
    kinds = ", ".join(sorted({one.kind for one in halts if one.kind is not None})) or "all"
    if halt.status == 403:
        advice = f"Give the key the right to {kinds}, or replace it; a key file is looked at every 5 seconds."
        return Sentence("bad", f"The API forbids {kinds} jobs (403); they wait", halt.since, None, advice)
    told = f"The API answers {halt.status} on the path of {kinds} jobs; they wait"
    return Sentence("bad", told, halt.since, None, "Check http.base_url.")


def _moving(status: Status, lately: Lately) -> Sentence:
    pending = status.pending
    if not any(pending.values()):
        return Sentence("good", "Waiting for input")
    if pending["backoff"] and not (pending["ready"] or pending["in_flight"] or pending["settling"]):
        return Sentence("wait", "All that is left failed before and waits to be tried again")
    if any(lane.rate_fallback for lane in status.lanes):
        return Sentence("wait", "At a share of the rate, for the shared limit cannot be reached")
    rate = _at_a_rate(status.lanes, lately)
    if rate is not None:
        return rate
    if pending["ready"] and all(lane.in_flight >= lane.max_in_flight for lane in status.lanes if lane.ready):
        return Sentence("good", "Delivering; all places are in flight, so the API's answers set the speed")
    if not pending["ready"]:
        return Sentence("good", "Delivering as fast as the input comes")
    return Sentence("good", "Delivering")


def _at_a_rate(lanes: list[LaneStatus], lately: Lately) -> Sentence | None:
    """Which rate is the limit, if one is: all lanes have one, and together they use it."""
    effective, ceiling = (
        sum(lane.rate_effective for lane in lanes),
        sum(lane.rate_ceiling for lane in lanes),
    )
    if any(lane.rate_effective <= 0 for lane in lanes) or lately.requests_per_second < _NEARLY * effective:
        return None
    if effective >= ceiling > 0:
        each = " for each workspace" if len(lanes) > 1 else ""
        return Sentence(
            "good", f"At the ceiling that was set: {lanes[0].rate_ceiling:,.10g} requests a second{each}"
        )
    if effective < _FAR_BELOW * ceiling:
        return Sentence("wait", "Slowed down, for the API throttles far below the ceiling that was set")
    if lately.throttled:
        return Sentence("good", "At the rate the API was found to allow")
    return Sentence("good", "Finding the rate that the API allows")
