"""Gives jobs back to their queue when their lane stands for long, and holds the queue when all lanes do.

Another worker, with another key or on another day, can make use of them; and no broker waits for ever for
an acknowledgement. Files and pipes have nobody to give to: their lines wait here.
"""

from collections.abc import Callable, Collection
from typing import Final, Literal

from permutive_worker.control.standstill import Standstill
from permutive_worker.delivery.lane import Lane
from permutive_worker.model import End, Entry
from permutive_worker.ports import Queue
from permutive_worker.telemetry.logs import logger

PROBES: Final = 2  # jobs a halted lane keeps: one to ask with, and another one for the next time


class Standstills:
    """Looked at every second or so, and not per job."""

    def __init__(self, queue: Queue, on_end: Callable[[Entry], None]) -> None:
        self._queue = queue
        self._on_end = on_end
        self._lanes: dict[str, Standstill] = {}
        self._held = False

    def look(self, lanes: Collection[Lane], now: float) -> None:
        """Give back what stands, hold or resume the queue. After a stop there is nothing left to do."""
        for lane in lanes:
            why = why_standing(lane, now)
            seconds = None if why is None else max(0.0, lane.gate.paused_until - now)
            standstill = self._lanes.setdefault(lane.workspace, Standstill())
            due = standstill.look(now, seconds)
            # Once the queue is held nothing new can come: what was on its way goes back as well.
            if why is not None and (due or (self._held and len(lane.backlog) > PROBES)):
                self._give_back(lane, why)
        standing = all(standstill.given_back for standstill in self._lanes.values())
        standing = standing and not any(_lacks_probe(lane, now) for lane in lanes)
        if standing and not self._held:
            self._queue.hold()
        elif self._held and not standing:
            self._queue.resume()
        self._held = standing

    def _give_back(self, lane: Lane, why: Literal["halt", "pause"]) -> None:
        waiting = lane.backlog.drain()
        probes = waiting[:PROBES] if why == "halt" else []
        lane.look_at_holds()  # a drain forgets which kinds are held
        for entry in probes:
            lane.add(entry)
        for entry in waiting[len(probes) :]:
            entry.end = End.RETURNED
            entry.returned_why = why
            self._on_end(entry)
        logger().warning(
            "lane.given_back", workspace=lane.workspace, reason=why, jobs=len(waiting) - len(probes)
        )


def _lacks_probe(lane: Lane, now: float) -> bool:
    """A halted lane with nothing to ask with (its last job grew too old) would never open."""
    return why_standing(lane, now) == "halt" and not len(lane.backlog) and not lane.gate.in_flight


def why_standing(lane: Lane, now: float) -> Literal["halt", "pause"] | None:
    """What keeps the lane from sending, other than an API that is down; None while it moves."""
    if lane.gate.halts.standing and lane.is_stuck:
        return "halt"
    return "pause" if lane.gate.paused_until > now else None
