"""What the log says of a lane that stops and moves again."""

import math

from structlog.testing import capture_logs

from permutive_worker.control.breaker import OPENS_AFTER
from permutive_worker.control.budget import Budget
from permutive_worker.delivery.lane import Lane
from permutive_worker.delivery.lane_news import LaneNews
from permutive_worker.http.gate import Gate
from permutive_worker.jobs.decode import KINDS
from permutive_worker.telemetry.counts import Counts


def said(news, lane):
    with capture_logs() as logs:
        news.look([lane])
    return [entry["event"] for entry in logs]


def test_an_outage_and_a_halt_are_told_once_when_they_begin_and_when_they_end():
    gate = Gate(4)
    lane = Lane("w", gate, Budget(1000), 1000, Counts("memory", KINDS), lambda: 0.0)
    news = LaneNews()
    assert said(news, lane) == []

    for number in range(OPENS_AFTER):
        gate.breaker.failed(float(number), float(number))
    assert said(news, lane) == ["api.down"]
    assert said(news, lane) == []

    assert gate.breaker.succeeded(math.inf)
    gate.halts.refused(0.0, 0.0, None, 401, None)
    assert said(news, lane) == ["api.back"]  # that it is halted was told with the refusal

    gate.halts.accepted(1.0, "identify", gate.halts.lane)
    assert said(news, lane) == ["lane.opened"]
