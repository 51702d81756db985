"""read = delivered + dead-lettered + skipped + returned + pending, at every await, whatever the API answers."""

import asyncio
import random
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from support.jump_loop import run_jumping
from support.worker import assert_conserved, identify, memory_worker

from permutive_worker.config import Delivery, Guard, RateLimit, Settings
from permutive_worker.errors import TransportError
from permutive_worker.model import Response

ANSWERS = [
    "200",
    "200",
    "200",
    "400",
    "429",
    "429 retry",
    "500",
    "503 retry",
    "408",
    "reset",
    "connect",
    "401",
    "403",
    "404",
    "bug",
]


class RandomWire:
    """Answers at random, after a random time; remembers what it took."""

    def __init__(self, dice, check):
        self.dice = dice
        self.check = check
        self.taken = []
        self.in_flight = set()
        self.order = {}

    async def send(self, request):
        self.check()
        await asyncio.sleep(self.dice.choice([0, 0.01, 0.3]))
        self.check()
        match self.dice.choice(ANSWERS):
            case "200":
                self.taken.append(request.body)
                return Response(200, {}, b"{}")
            case "429 retry" | "503 retry" as answer:
                return Response(int(answer[:3]), {"Retry-After": "2"}, b"")
            case "reset":
                raise TransportError("reset", sent=True)
            case "connect":
                raise TransportError("connect", sent=False)
            case "bug":
                raise RuntimeError("a bug in the wire")
            case status:
                return Response(int(status), {}, b"not json")


LINES = st.lists(
    st.one_of(
        st.integers(0, 5).map(lambda user: identify(0, user=f"u{user}")),
        st.integers(0, 5).map(lambda user: {"type": "event", "name": "E", "user_id": f"u{user}"}),
        st.sampled_from([b"", b"   ", b"{", b"[]", b'{"type":"nothing"}', b"\xff\xfe", b'"text"']),
        st.integers(1, 25).map(
            lambda count: {
                "type": "segmentation",
                "user_id": "u1",
                "events": [
                    {"name": f"E{n}", "time": "2026-01-01T00:00:00Z", "properties": {}} for n in range(count)
                ],
            }
        ),
    ),
    max_size=60,
)


@given(
    lines=LINES,
    seed=st.integers(0, 2**32),
    max_in_flight=st.integers(1, 8),
    rate=st.sampled_from([0, 20, 500]),
    pending_bytes=st.sampled_from([1500, 10_000, 10_000_000]),
    stop_after_seconds=st.sampled_from([None, None, 0.0, 0.2, 3.0]),
    ambiguous=st.sampled_from(["retry", "dead_letter"]),
)
@settings(max_examples=150)
def test_every_line_ends_in_exactly_one_place(
    lines, seed, max_in_flight, rate, pending_bytes, stop_after_seconds, ambiguous
):
    async def scenario():
        wire = RandomWire(random.Random(seed), lambda: assert_conserved(worker))
        worker, outcomes = memory_worker(
            lines,
            wire,
            settings=Settings(
                rate_limit=RateLimit(rate_per_second=rate),
                delivery=Delivery(
                    max_in_flight=max_in_flight,
                    max_attempts=4,
                    max_pending_bytes=pending_bytes,
                    ambiguous=ambiguous,
                    drain_seconds=0.2,
                ),
                guard=Guard(max_failure_ratio=1),
            ),
            on_progress=lambda _: assert_conserved(worker),
        )
        if stop_after_seconds is not None:
            asyncio.get_running_loop().call_later(stop_after_seconds, worker.stop)
        async with asyncio.timeout(100_000):
            summary = await worker.run()
        return worker, outcomes, summary, wire

    worker, outcomes, summary, _ = run_jumping(scenario())

    ended = summary.delivered + summary.dead_lettered + summary.skipped + summary.returned
    assert summary.read == ended
    assert sum(worker.look().pending.values()) == 0
    assert worker.look().pending_bytes == 0
    assert len(outcomes) == ended - summary.skipped
    assert len({outcome.index for outcome in outcomes}) == len(outcomes), "an outcome twice"
    settled = worker._source.settled
    assert len(settled) == summary.read
    assert len({delivery.place for delivery, _ in settled}) == len(settled), "settled twice"
    if stop_after_seconds is None and worker.stopping.why is None:
        assert summary.read == len(lines)
        assert summary.returned == 0


@given(seed=st.integers(0, 2**32), users=st.integers(1, 4))
@settings(max_examples=30)
def test_jobs_of_one_user_leave_in_input_order_over_kinds_halts_throttles_and_several_requests(seed, users):
    def line(number):
        user = f"u{number % users}"
        match number % 3:
            case 0:
                return identify(number, user=user, aliases=[{"id": f"n{number}n", "tag": "n"}])
            case 1:
                return {"type": "event", "name": "E", "user_id": user, "properties": {"n": f"n{number}n"}}
        event = {"name": "E", "time": "2026-01-01T00:00:00Z", "properties": {"n": f"n{number}n"}}
        return {"type": "segmentation", "user_id": user, "events": [event] * 11}

    async def scenario():
        wire = RandomWire(random.Random(seed), lambda: None)
        worker, _ = memory_worker([*map(line, range(60))], wire)
        async with asyncio.timeout(100_000):
            await worker.run()
        return wire

    numbers = [int(re.search(rb'"n(\d+)n"', body)[1]) for body in run_jumping(scenario()).taken]
    for user in range(users):
        mine = [number for number in numbers if number % users == user]
        assert mine == sorted(mine)


def test_jobs_of_one_user_leave_in_input_order():
    class OrderedWire(RandomWire):
        async def send(self, request):
            assert request.body not in self.in_flight
            self.in_flight.add(request.body)
            try:
                response = await super().send(request)
            finally:
                self.in_flight.discard(request.body)
            return response

    jobs = [
        identify(number, user=f"u{number % 7}", aliases=[{"id": str(number), "tag": "n", "priority": 0}])
        for number in range(300)
    ]

    async def scenario():
        wire = OrderedWire(random.Random(5), lambda: None)
        worker, outcomes = memory_worker(jobs, wire)
        await worker.run()
        return wire, outcomes

    wire, outcomes = run_jumping(scenario())
    numbers = [int(body.split(b'"id":"')[1].split(b'"')[0]) for body in wire.taken]
    for user in range(7):
        mine = [number for number in numbers if number % 7 == user]
        assert mine == sorted(mine)
    assert sum(outcome.delivered for outcome in outcomes) == len(numbers)
