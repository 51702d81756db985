"""Many limiters at one bucket, on a clock that jumps; the bucket's own rules are tested in Redis."""

import asyncio
from bisect import bisect_left

import pytest
from support.jump_loop import run_jumping

from permutive_worker.errors import LinkError
from permutive_worker.limits.shared import BEAT_SECONDS, LATE_SECONDS, VOID_SECONDS, SharedLimiter

RATE, BURST = 200, 10


class Reply:
    def __init__(self, permits, wait_seconds, workers, paused_seconds, opens_seconds):
        self.permits = permits
        self.wait_seconds = wait_seconds
        self.workers = workers
        self.paused_seconds = paused_seconds
        self.opens_seconds = opens_seconds


class Server:
    """As the script in Redis, without its slices and its shrinking."""

    def __init__(self, workers):
        self.workers = workers
        self.delay_seconds = 0.001
        self.up = True
        self.due = self.paused = self.opens = 0.0
        self.rate, self.burst = RATE, BURST

    def change(self, rate_per_second, burst):
        self.rate, self.burst = rate_per_second, burst
        now = asyncio.get_running_loop().time()
        self.due = max(self.due, now + (burst - self.workers) / rate_per_second)

    async def ask(self, *, wanted, pause_seconds=0.0, rejoin=False):
        await asyncio.sleep(self.delay_seconds)
        if not self.up:
            raise LinkError("ConnectionError")
        now = asyncio.get_running_loop().time()
        if rejoin and self.opens <= now:
            self.opens = now + 2.5
        if pause_seconds:
            self.paused = max(self.paused, now + pause_seconds)
        closed = max(self.opens, self.paused)
        capacity = self.burst - self.workers
        if closed > now:
            self.due = max(self.due, closed + capacity / self.rate)
        permits, wait = 0, 0.0
        if wanted and closed <= now:
            permits, self.due = 1, max(self.due, now) + 1 / self.rate
            wait = max(0.0, self.due - capacity / self.rate - now)
        return Reply(permits, wait, self.workers, max(0.0, self.paused - now), max(0.0, self.opens - now))

    async def leave(self):
        self.workers -= 1


class Worker:
    """Spends every permit as soon as there is one; obeys a pause as a gate does."""

    def __init__(self, server, share=None):
        self.now = asyncio.get_running_loop().time
        self.limiter = SharedLimiter(server, RATE, BURST, share, self.now)
        self.limiter.on_pause = self.pause
        self.changes = []
        self.limiter.on_change = self.changes.append
        self.paused_until = 0.0
        self.times = []

    def pause(self, until):
        self.paused_until = until
        self.limiter.drop()
        self.limiter.tell_pause(until)

    async def work(self):
        await self.limiter.open()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.limiter.run())
            while True:
                if self.paused_until > self.now():
                    await asyncio.sleep(self.paused_until - self.now())
                elif self.limiter.try_take(self.now()):
                    self.times.append(self.now())
                else:
                    await self.limiter.lease()


async def working(count, script, share=None):
    server = Server(count)
    workers = [Worker(server, share) for _ in range(count)]
    tasks = [asyncio.create_task(worker.work()) for worker in workers]
    await script(server, workers)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for worker in workers:
        await worker.limiter.close()
    return workers


def most_in_a_second(workers):
    times = sorted(time for worker in workers for time in worker.times)
    return max(bisect_left(times, time + 1.0) - number for number, time in enumerate(times))


def sent(workers, begin, end):
    return [sum(begin <= time < end for time in worker.times) for worker in workers]


def test_together_they_use_the_rate_and_no_more_in_equal_parts():
    async def main():
        async def script(server, workers):
            await asyncio.sleep(20)

        workers = await working(4, script)
        assert most_in_a_second(workers) <= RATE + BURST
        assert sum(sent(workers, 0, 20)) >= 0.98 * RATE * 20
        assert all(0.24 <= count / sum(sent(workers, 0, 20)) <= 0.26 for count in sent(workers, 0, 20))

    run_jumping(main())


@pytest.mark.parametrize("away", [False, True])
def test_a_changed_rate_holds_for_all_of_them_alone_or_not(away):
    async def main():
        async def script(server, workers):
            await asyncio.sleep(2)
            server.up = not away
            await asyncio.sleep(8)
            for worker in workers:
                worker.limiter.change(50, 10)
            await asyncio.sleep(10)

        workers = await working(4, script)
        late = [time for worker in workers for time in worker.times if time >= 10]
        most = max(sum(begin <= time < begin + 1 for time in late) for begin in late)
        assert most <= 50 + 10
        assert len(late) == pytest.approx(500, rel=0.05)

    run_jumping(main())


@pytest.mark.parametrize(("share", "expected"), [(None, RATE), (0.1, 0.4 * RATE)])
def test_while_the_bucket_is_away_each_uses_its_share_and_all_join_at_one_moment(share, expected):
    async def main():
        async def script(server, workers):
            await asyncio.sleep(10)
            server.up = False
            await asyncio.sleep(20)
            assert all(worker.limiter.is_alone for worker in workers)
            server.up = True
            await asyncio.sleep(5)
            assert not any(worker.limiter.is_alone for worker in workers)
            await asyncio.sleep(10)

        workers = await working(4, script, share)
        assert most_in_a_second(workers) <= RATE + BURST
        assert sum(sent(workers, 12, 30)) == pytest.approx(expected * 18, rel=0.03)
        assert sum(sent(workers, 35, 45)) >= 0.98 * RATE * 10
        assert [worker.changes for worker in workers] == [["ConnectionError", None]] * 4

    run_jumping(main())


def test_one_that_comes_back_lets_the_others_be_alone_until_all_begin():
    async def main():
        async def script(server, workers):
            await asyncio.sleep(5)
            workers[0].limiter._be_alone("test")
            await asyncio.sleep(BEAT_SECONDS + 0.5)
            assert all(worker.limiter.is_alone for worker in workers)
            await asyncio.sleep(5)
            assert not any(worker.limiter.is_alone for worker in workers)

        workers = await working(4, script)
        assert (
            most_in_a_second([*workers]) <= RATE + BURST + RATE / 4 * BEAT_SECONDS
        )  # see the class: its share

    run_jumping(main())


def test_a_pause_of_one_is_a_pause_of_all():
    async def main():
        async def script(server, workers):
            await asyncio.sleep(5)
            workers[0].pause(asyncio.get_running_loop().time() + 7)
            await asyncio.sleep(10)

        workers = await working(4, script)
        assert sum(sent(workers, 5 + VOID_SECONDS, 12)) == 0
        assert min(sent(workers, 12, 13.1)) > 0.2 * RATE
        assert max(sent(workers, 12, 12.1)) <= 0.1 * RATE / 4 + 3  # no burst

    run_jumping(main())


def test_permits_are_void_soon():
    async def main():
        server = Server(1)
        worker = Worker(server)
        await worker.limiter.lease()

        assert not worker.limiter.try_take(worker.now() + VOID_SECONDS)
        assert worker.limiter.try_take(worker.now())
        assert not worker.limiter.try_take(worker.now())
        await worker.limiter.lease()
        worker.limiter.drop()
        assert not worker.limiter.try_take(worker.now())

    run_jumping(main())


def test_a_bucket_that_answers_too_late_is_as_good_as_away():
    async def main():
        async def script(server, workers):
            await asyncio.sleep(5)
            server.delay_seconds = 2 * VOID_SECONDS
            await asyncio.sleep(LATE_SECONDS + 1)
            assert workers[0].limiter.is_alone
            await asyncio.sleep(10)
            assert workers[0].limiter.is_alone
            server.delay_seconds = 0.001
            await asyncio.sleep(5)
            assert not workers[0].limiter.is_alone

        await working(1, script)

    run_jumping(main())


def test_a_sender_that_is_cancelled_while_it_asks_ends():
    async def main():
        server = Server(1)

        async def deaf(**_):
            for _ in range(3):
                try:
                    await asyncio.sleep(1)
                except asyncio.CancelledError:
                    continue
            raise LinkError("late")

        worker = Worker(server)
        server.ask = deaf
        leasing = asyncio.create_task(worker.limiter.lease())
        await asyncio.sleep(0.1)
        leasing.cancel()
        await asyncio.wait((leasing,), timeout=0.1)

        assert leasing.cancelled()
        await worker.limiter.close()

    run_jumping(main())
