"""The pace against simulated servers: seconds of traffic in milliseconds, and nothing is noisy."""

import heapq
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.control.pace import LEAST_PER_SECOND, Pace


class TokenBucket:
    def __init__(self, rate, burst, stolen=0.0):
        self.rate = rate
        self.burst = burst
        self.tokens = burst
        self.at = 0.0
        self.stolen = stolen

    def take(self, now):
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate * (1 - self.stolen))
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


def simulate(bucket, seconds, *, latency=0.02, places=256, pace=None, events=(), retry_after=None):
    """Send whenever the pace and the places allow. Return (sent_at, taken) of each request."""
    pace = pace or Pace()
    now, log, in_flight, events, paused_until = 0.0, [], [], sorted(events), 0.0
    while now < seconds:
        while events and events[0][0] <= now:
            bucket.rate = events.pop(0)[1]
        while in_flight and in_flight[0][0] <= now:
            at, sent_at, taken = heapq.heappop(in_flight)
            if taken:
                pace.delivered(sent_at, at)
            else:
                pace.throttled(sent_at, at, retry_after)
                if retry_after:
                    paused_until = at + retry_after
        wait = max(pace.closed_seconds(now), paused_until - now)
        if wait <= 0 and len(in_flight) < places:
            pace.take(now)
            taken = bucket.take(now + latency / 2)
            log.append((now, taken))
            heapq.heappush(in_flight, (now + latency, now, taken))
            continue
        nexts = [in_flight[0][0]] if in_flight else []
        if wait > 0:
            nexts.append(now + math.ceil(wait * 1000) / 1000)  # timers of 1 ms
        now = max(min(nexts), now + 1e-6)
    return log


def used_and_throttled(log, rate, begin, end):
    part = [taken for at, taken in log if begin <= at < end]
    return sum(part) / (rate * (end - begin)), 1 - sum(part) / len(part)


@pytest.mark.parametrize(("rate", "burst"), [(50, 40), (400, 40), (500, 50), (4000, 400)])
def test_a_hidden_limit_is_found_and_used(rate, burst):
    log = simulate(TokenBucket(rate, burst), 60 if rate < 4000 else 40)
    used, throttled = used_and_throttled(log, rate, 10, 60 if rate < 4000 else 40)
    assert used >= 0.97, used
    assert throttled <= 0.01, throttled


def test_another_client_takes_a_third():
    used, throttled = used_and_throttled(simulate(TokenBucket(400, 40, stolen=0.33), 60), 400 * 0.67, 10, 60)
    assert used >= 0.95
    assert throttled <= 0.01


def test_a_long_way_to_the_server():
    used, throttled = used_and_throttled(simulate(TokenBucket(400, 40), 60, latency=0.2), 400, 15, 60)
    assert used >= 0.95
    assert throttled <= 0.02


def test_a_limit_that_moves_is_followed_within_fifteen_seconds():
    log = simulate(TokenBucket(500, 50), 75, events=[(25, 200), (50, 500)])
    assert used_and_throttled(log, 500, 15, 25)[0] >= 0.9
    assert used_and_throttled(log, 200, 40, 50)[0] >= 0.9
    assert used_and_throttled(log, 500, 65, 75)[0] >= 0.9


def test_a_server_without_a_limit_is_at_full_speed_within_four_seconds():
    log = simulate(TokenBucket(1e9, 1e9), 4.2, latency=0.005, places=64)
    assert sum(4.0 <= at < 4.2 for at, _ in log) >= 0.9 * 64 / 0.005 * 0.2


def test_a_ceiling_is_the_start_and_never_passed():
    pace = Pace(200)
    log = simulate(TokenBucket(1e9, 1e9), 5, pace=pace)
    assert 195 <= len(log) / 5 <= 202
    assert pace.target == 200


def test_with_a_hint_the_pace_comes_back_as_a_ramp():
    pace = Pace()
    pace.throttled(1.0, 1.0, 7.0)
    assert pace.per_second <= 0.5 * pace.target


@given(
    st.lists(
        st.tuples(st.sampled_from(["take", "ok", "throttled", "hint"]), st.floats(0, 3), st.floats(0, 1)),
        max_size=200,
    ),
    st.sampled_from([math.inf, 0.5, 10, 5000]),
)
def test_whatever_happens_the_pace_stays_a_rate(steps, ceiling):
    pace, now = Pace(ceiling), 0.0
    for what, passed, ago in steps:
        now += passed
        match what:
            case "take":
                pace.take(now)
            case "ok":
                pace.delivered(now - ago, now)
            case "throttled":
                pace.throttled(now - ago, now)
            case "hint":
                pace.throttled(now - ago, now, 2.0)
        assert LEAST_PER_SECOND * 0.99 <= pace.per_second <= max(ceiling, LEAST_PER_SECOND) or math.isinf(
            ceiling
        )
        assert 0 <= pace.closed_seconds(now) < math.inf
