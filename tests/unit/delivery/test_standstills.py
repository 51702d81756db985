"""Jobs go back to their queue when their lane stands for long; the whole worker, in virtual time."""

import asyncio
import json

import pytest
from support.jump_loop import run_jumping
from support.memory_queue import MemoryBroker, MemoryQueue

from permutive_worker.config import Delivery, RateLimit, Settings
from permutive_worker.credentials import Keyring
from permutive_worker.model import Response
from permutive_worker.sources.queue import QueueSource
from permutive_worker.worker import Worker


class LoopClock:
    """The loop's time, also for what is asked outside of it."""

    def __init__(self):
        from permutive_worker.ports import SystemClock

        self.utc_now = SystemClock().utc_now

    def monotonic(self):
        return asyncio.get_running_loop().time()


class Api:
    """A wire that answers as a test tells it, from a moment on."""

    def __init__(self):
        self.answers = [(0.0, Response(200, {}, b"{}"))]
        self.sent = []

    def at(self, seconds, status, headers=None):
        self.answers.append((seconds, Response(status, headers or {}, b"{}")))
        self.answers.sort(key=lambda one: one[0])

    async def send(self, request):
        now = asyncio.get_running_loop().time()
        self.sent.append(now)
        await asyncio.sleep(0.01)
        return [answer for since, answer in self.answers if since <= now][-1]


def line(number):
    return json.dumps({"type": "identify", "user_id": f"user-{number}", "aliases": []}).encode()


async def run(queue, api, script, max_pending_bytes=24_000_000, max_age_seconds=None):
    """Run a worker at the queue while `script(worker, broker)` does, then stop it."""
    broker = MemoryBroker(queue)
    delivery = Delivery(max_pending_bytes=max_pending_bytes, drain_seconds=1, max_age_seconds=max_age_seconds)
    settings = Settings(rate_limit=RateLimit(rate_per_second=100), delivery=delivery)
    worker = Worker(
        settings,
        source=QueueSource(broker, 100_000),
        writers={},
        wire=api,
        keyring=Keyring.of_key("key-0123456789abcdef"),
        clock=LoopClock(),
    )
    running = asyncio.create_task(worker.run())
    await script(worker, broker)
    worker.stop()
    return await running


@pytest.mark.parametrize(
    ("status", "headers", "why", "kept"), [(429, {"Retry-After": "600"}, "pause", 0), (401, {}, "halt", 2)]
)
def test_a_lane_that_stands_gives_back_once_and_takes_again_when_it_opens(status, headers, why, kept):
    async def main():
        queue, api = MemoryQueue(), Api()
        await queue.start()
        await queue.publish([line(number) for number in range(500)])
        api.at(2.0, status, headers)
        api.at(400.0, 200)

        async def script(worker, broker):
            await asyncio.sleep(1.5)
            taken = worker.counts.read
            assert taken > 100
            await asyncio.sleep(100)
            returned = worker.counts.returned[why]
            assert returned > 0
            assert (
                len(queue.waiting) == 500 - worker.counts.delivered - kept
            )  # all of them, for others to take
            assert worker.look().pending["ready"] + worker.look().pending["in_flight"] == kept
            await asyncio.sleep(250)
            assert worker.counts.returned[why] == returned  # once
            assert not worker.look().source_away
            await asyncio.sleep(400)
            assert worker.counts.delivered == 500

        summary = await run(queue, api, script)
        assert summary.read == summary.delivered + summary.returned
        assert not queue.leases

    run_jumping(main())


def test_a_short_pause_gives_nothing_back():
    async def main():
        queue, api = MemoryQueue(), Api()
        await queue.start()
        await queue.publish([line(number) for number in range(300)])
        api.at(1.0, 429, {"Retry-After": "30"})
        api.at(1.5, 200)

        async def script(worker, broker):
            await asyncio.sleep(60)
            assert worker.counts.delivered == 300

        summary = await run(queue, api, script)
        assert summary.returned == 0

    run_jumping(main())


def test_a_user_who_has_all_he_may_have_does_not_hold_up_the_others():
    async def main():
        queue = MemoryQueue()
        await queue.start()
        await queue.publish([line("hot") for _ in range(100)])
        await queue.publish([line(number) for number in range(300)])

        class Slow(Api):
            async def send(self, request):
                if b"user-hot" in request.body + request.path.encode():
                    await asyncio.sleep(50)
                return await super().send(request)

        async def script(worker, broker):
            await asyncio.sleep(30)
            assert worker.counts.delivered == 300
            assert 50 < worker.counts.returned["pause"] < 3_000
            pending = worker.look().pending
            assert worker.counts.read == worker.counts.ended + sum(pending.values())

        summary = await run(queue, Slow(), script, max_pending_bytes=200_000)
        assert summary.read == summary.delivered + summary.returned
        assert len(queue.waiting) == 100

    run_jumping(main())


def test_a_halted_lane_whose_probes_grew_too_old_gets_others():
    async def main():
        queue, api = MemoryQueue(), Api()
        await queue.start()
        await queue.publish([line(number) for number in range(500)])
        api.at(2.0, 401)
        api.at(1_000.0, 200)

        async def script(worker, broker):
            await asyncio.sleep(1_100)
            assert worker.counts.dead_lettered["expired"] > 0
            assert worker.counts.delivered == 500 - worker.counts.dead

        summary = await run(queue, api, script, max_age_seconds=200)
        assert summary.read == summary.delivered + summary.returned + summary.dead_lettered
        assert summary.dead_lettered < 20

    run_jumping(main())
