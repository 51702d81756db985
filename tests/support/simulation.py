"""A gate before a simulated API, in virtual time: minutes of traffic in a second, nothing is noisy.

The gate is the real one, with its pace, places, breaker and pause. There are always jobs waiting, so the
gate alone decides what leaves. Time moves from answer to answer and from timer to timer; timers are
late by up to 2 ms, as those of a busy loop are.
"""

import heapq
import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from permutive_worker.http.gate import Gate
from permutive_worker.model import Action, Verdict

LATE_SECONDS = 0.002
LOOK_SECONDS = 0.05  # as often as the worker measures how late its loop is

Answer = tuple[float, int]  # seconds until it comes, its status; 0: none came in time


class Bucket:
    """A token bucket of which another client may take a share, with some 429 that mean nothing."""

    def __init__(
        self,
        rate: float,
        burst: float,
        *,
        latency: float = 0.02,
        noise: float = 0.0,
        stolen: float = 0.0,
        steps: Sequence[tuple[float, float]] = (),
    ) -> None:
        self.rate = rate
        self.burst = burst
        self.latency = latency
        self.noise = noise
        self.stolen = stolen
        self.tokens = burst
        self.at = 0.0
        self.steps = list(steps)

    def answer(self, now: float, dice: random.Random) -> Answer:
        latency = self.latency * dice.uniform(0.8, 1.2)
        return latency, 200 if self.take(now + latency / 2, dice) else 429

    def take(self, now: float, dice: random.Random) -> bool:
        while self.steps and self.steps[0][0] <= now:
            rate = self.steps.pop(0)[1]
            self.rate, self.burst = rate, self.burst * rate / self.rate
        gained = max(0.0, now - self.at) * self.rate * (1 - self.stolen)
        self.tokens = min(self.burst, self.tokens + gained)
        self.at = max(self.at, now)
        if self.noise and dice.random() < self.noise:
            return False
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Unlimited:
    """As fast as `capacity` requests a second; beyond it requests queue."""

    def __init__(self, capacity: float, *, latency: float = 0.005, noise: float = 0.0) -> None:
        self.capacity = capacity
        self.latency = latency
        self.noise = noise
        self.free_at = 0.0

    def answer(self, now: float, dice: random.Random) -> Answer:
        self.free_at = max(self.free_at, now) + 1 / self.capacity
        status = 429 if dice.random() < self.noise else 200
        return self.free_at - now + self.latency, status


class Script:
    """Whatever `answer` says."""

    def __init__(self, answer: Callable[[float, random.Random], Answer]) -> None:
        self.answer = answer


class Sent(NamedTuple):
    at: float
    status: int
    until: float


class Ceiling:
    """A limiter without leases: evenly spaced permits, as the user's ceiling in these simulations."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.next_at = 0.0

    def try_take(self, now: float) -> bool:
        if now < self.next_at - 0.005:
            return False
        self.next_at = max(self.next_at, now - 0.005) + 1 / self.rate
        return True

    async def lease(self) -> None: ...

    def drop(self) -> None: ...


def verdict_of(status: int, hint: float | None) -> Verdict:
    if status == 429:
        return Verdict(Action.THROTTLED, "throttled", status=429, retry_after_seconds=hint)
    return Verdict(Action.RETRY, "server_error" if status else "timeout", status=status)


def simulate(
    gate: Gate,
    api: Bucket | Unlimited | Script,
    seconds: float,
    *,
    hint: float | None = None,
    seed: int = 0,
    turns_per_second: float = 40_000.0,
) -> list[Sent]:
    """Send whatever the gate lets through; return every request. 429 come with `hint` as Retry-After."""
    dice = random.Random(seed)
    now, look_at = 0.0, 0.0
    log: list[Sent] = []
    flying: list[tuple[float, int, Sent]] = []
    while now < seconds:
        if now >= look_at:
            gate.look(0.0)
            look_at = now + LOOK_SECONDS
        while flying and flying[0][0] <= now:
            _land(gate, heapq.heappop(flying)[2], hint)
        wait = gate.closed_seconds(now) or gate.enter(now)
        if wait == 0.0:
            after, status = api.answer(now, dice)
            sent = Sent(now, status, now + after)
            log.append(sent)
            heapq.heappush(flying, (sent.until, len(log), sent))
            now += 1 / turns_per_second
            continue
        if wait < 0:
            wait = 0.001
        moments = [look_at, flying[0][0] if flying else math.inf]
        if wait < math.inf:
            moments.append(now + math.ceil(wait * 1000) / 1000 + dice.uniform(0, LATE_SECONDS))
        now = max(min(moments), now + 1e-6)
    return log


def _land(gate: Gate, sent: Sent, hint: float | None) -> None:
    if 0 < sent.status < 429:
        gate.delivered(sent.at, sent.until)
    else:
        gate.heard(verdict_of(sent.status, hint), sent.at, sent.until)


def used(log: Sequence[Sent], rate: float, begin: float, end: float) -> float:
    """The share of `rate` that was delivered between two moments."""
    return sum(one.status == 200 for one in log if begin <= one.at < end) / (rate * (end - begin))


def throttled(log: Sequence[Sent], begin: float, end: float) -> float:
    """The share of requests that were answered 429."""
    part = [one.status == 429 for one in log if begin <= one.at < end]
    return sum(part) / len(part) if part else 0.0


def seconds_until(log: Sequence[Sent], rate: float, begin: float, end: float, share: float = 0.9) -> float:
    """From when on each whole second until `end` has this share of `rate`."""
    second = math.floor(end) - 1
    while second >= begin and used(log, rate, second, second + 1) >= share:
        second -= 1
    return second + 1 - begin
