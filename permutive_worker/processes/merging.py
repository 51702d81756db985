"""Many workers as one: their counts added up, their lanes put together."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

import msgspec

from permutive_worker.telemetry.counts import Counts, Histogram, KindCounts
from permutive_worker.telemetry.last_letters import KEPT
from permutive_worker.telemetry.status import LaneStatus, LetterStatus, Status

_STATES: Final = ("running", "starting", "draining", "ended")  # the first that one of them is in
_BREAKERS: Final = ("open", "half_open", "closed")


def add(counts: Counts, plain: Mapping[str, Any]) -> None:
    """Add what another worker counted: the `vars` of its counts, as they are or as they were sent."""
    for name, value in plain.items():
        setattr(counts, name, _sum(getattr(counts, name), value))


def _sum(mine: Any, theirs: Any) -> Any:
    match mine:
        case Histogram():
            other = slots(theirs)
            mine.buckets = [sum(pair) for pair in zip(mine.buckets, other["buckets"], strict=True)]
            mine.total += other["total"]
        case KindCounts():
            for name, value in slots(theirs).items():
                setattr(mine, name, _sum(getattr(mine, name), value))
        case dict():
            for key, value in theirs.items():
                mine[key] = _sum(mine.get(key, 0), value)
        case None | datetime():  # the latest
            return mine if theirs is None or (mine is not None and mine > theirs) else theirs
        case bool():
            return mine or theirs
        case int() | float():
            return mine + theirs
    return mine


def slots(value: Any) -> Mapping[str, Any]:
    """Return the parts of an object in `Counts`; they have slots and nothing else. Sent ones are a mapping already."""
    if isinstance(value, Mapping):
        return value
    return {name: getattr(value, name) for name in value.__slots__}


def give_back_pending(counts: Counts, pending: int) -> None:
    """Count as returned what a worker had in hand when it died: its successor reads those lines again."""
    counts.returned["stop"] += pending


def merged_status(statuses: Sequence[Status], **of_all: Any) -> Status:
    """Return several workers as one; `of_all` are the fields that the first process knows better.

    What is neither a sum nor in `of_all` is that of the first of them.
    """
    state = next(state for state in _STATES if state in {one.state for one in statuses})
    merged = {
        "state": state,
        # A process that is done holds its lane up no more.
        "lanes": _merged_lanes([one for one in statuses if one.state != "ended"] or statuses),
        "last_dead_letters": _latest(letter for one in statuses for letter in one.last_dead_letters),
        **{
            name: sum(getattr(one, name) for one in statuses)
            for name in ("settling", "held", "pending_bytes", "pending_bytes_limit")
        },
    }
    return msgspec.structs.replace(statuses[0], **(merged | of_all))


def _latest(letters: Iterable[LetterStatus]) -> list[LetterStatus]:
    return sorted(letters, key=attrgetter("at"))[-KEPT:]


def _merged_lanes(statuses: Sequence[Status]) -> list[LaneStatus]:
    by_workspace: dict[str, list[LaneStatus]] = {}
    for status in statuses:
        for lane in status.lanes:
            by_workspace.setdefault(lane.workspace, []).append(lane)
    return [_merged_lane(lanes) for lanes in by_workspace.values()]


def _merged_lane(lanes: Sequence[LaneStatus]) -> LaneStatus:
    """The lanes of one workspace. One that is held up is told: what holds it soon holds the others."""
    sums = ("ready", "backoff", "blocked", "in_flight", "max_in_flight", "pending_bytes")
    paused = max(lanes, key=lambda lane: (lane.paused_until is not None, lane.paused_until or 0))
    reasons = [lane.pause_reason for lane in lanes if lane.pause_reason is not None]
    lines = [lane.longest_line for lane in lanes if lane.longest_line is not None]
    changes: dict[str, Any] = {name: sum(getattr(lane, name) for lane in lanes) for name in sums}
    changes |= {
        "rate_ceiling": sum(lane.rate_ceiling for lane in lanes),
        "rate_effective": sum(lane.rate_effective for lane in lanes),
        "paused_until": paused.paused_until,
        "pause_reason": paused.pause_reason or next(iter(reasons), None),
        "breaker": next(state for state in _BREAKERS if state in {lane.breaker for lane in lanes}),
        "credentials_valid": all(lane.credentials_valid for lane in lanes),
        "halted": any(lane.halted for lane in lanes),
        "halts": _first_of_each(halt for lane in lanes for halt in lane.halts),
        "longest_line": max(lines, key=attrgetter("jobs"), default=None),
        "rate_fallback": _any_known(lane.rate_fallback for lane in lanes),
    }
    return msgspec.structs.replace(lanes[0], **changes)


def _first_of_each(halts: Iterable[Any]) -> list[Any]:
    """The oldest halt of each job kind."""
    oldest: dict[str | None, Any] = {}
    for halt in halts:
        known = oldest.get(halt.kind)
        oldest[halt.kind] = halt if known is None or halt.since < known.since else known
    return list(oldest.values())


def _any_known(values: Iterable[bool | None]) -> bool | None:
    known = [value for value in values if value is not None]
    return any(known) if known else None
