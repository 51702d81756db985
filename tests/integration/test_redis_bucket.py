"""The bucket in a real Redis, and what is wrong with its URL."""

import asyncio

import pytest
from redis.asyncio import Redis as Client
from support.brokers import Redis
from support.program import KEY, program

from permutive_worker.limits.redis_bucket import RedisBucket
from permutive_worker.limits.shared import BEAT_SECONDS, SharedLimiter

pytestmark = pytest.mark.process


@pytest.fixture
async def redis(tmp_path):
    (tmp_path / "broker").mkdir()
    started = Redis(tmp_path / "broker")
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def client(redis):
    async with Client(port=redis.port, protocol=2) as connected:
        yield connected


async def opens(bucket):
    """A new bucket opens after a while in which those that were alone would have shown up."""
    async with asyncio.timeout(10):
        while seconds := (await bucket.ask(wanted=False)).opens_seconds:
            assert not (await bucket.ask(wanted=True)).permits
            await asyncio.sleep(seconds)


async def test_permits_are_reserved_in_the_order_of_asking(client):
    buckets = [RedisBucket(client, "b", f"w{number}", 10, 4) for number in range(2)]
    for bucket in buckets:
        await bucket.ask(wanted=False)
    await opens(buckets[0])

    answers = [await buckets[number % 2].ask(wanted=True) for number in range(12)]

    waits = [answer.wait_seconds for answer in answers]
    assert [answer.permits for answer in answers] == [1] * 12  # a slice is burst / (2 x workers)
    assert waits == sorted(waits)
    assert 0.6 <= waits[-1] <= 1.2  # twelve of them at 10/s, less what is at once
    assert {answer.workers for answer in answers} == {2}


async def test_a_slice_is_a_share_of_the_burst(client):
    bucket = RedisBucket(client, "b", "w", 1000, 100)
    await bucket.ask(wanted=False)
    await opens(bucket)

    assert (await bucket.ask(wanted=True)).permits == 50
    for number in range(9):
        await RedisBucket(client, "b", f"w{number}", 1000, 100).ask(wanted=False)
    assert (await bucket.ask(wanted=True)).permits == 5
    await bucket.leave()
    assert (await RedisBucket(client, "b", "w0", 1000, 100).ask(wanted=False)).workers == 9


async def test_what_was_saved_up_under_another_rate_is_not_spent(client):
    bucket = RedisBucket(client, "b", "w", 100, 50)
    await bucket.ask(wanted=False)
    await opens(bucket)
    await asyncio.sleep(0.3)  # in which all of 25 permits are saved up

    bucket.change(10, 50)
    first, second = await bucket.ask(wanted=True), await bucket.ask(wanted=True)

    assert [first.permits, second.permits] == [25, 25]
    assert 2 < first.wait_seconds <= 2.5  # 25 permits at 10/s
    assert 4.5 < second.wait_seconds <= 5


async def test_one_that_comes_back_closes_it_until_all_begin(client):
    one, other = (RedisBucket(client, "b", name, 100, 10) for name in ("one", "other"))
    await one.ask(wanted=False)
    await opens(one)

    first = await one.ask(wanted=False, rejoin=True)
    second = await other.ask(wanted=False, rejoin=True)

    assert 2 < first.opens_seconds <= 2.5
    assert second.opens_seconds < first.opens_seconds  # the same moment
    assert not (await other.ask(wanted=True)).permits


async def test_a_pause_of_one_is_heard_by_the_others(client):
    now = asyncio.get_running_loop().time
    limiters = [SharedLimiter(RedisBucket(client, "b", name, 100, 10), 100, 10, None, now) for name in "ab"]
    heard = asyncio.get_running_loop().create_future()
    limiters[1].on_pause = heard.set_result
    for limiter in limiters:
        await limiter.open()
    beating = asyncio.create_task(limiters[1].run())

    limiters[0].tell_pause(now() + 30)
    async with asyncio.timeout(BEAT_SECONDS + 5):
        until = await heard

    assert 20 < until - now() <= 30
    assert not (await limiters[1]._bucket.ask(wanted=True)).permits
    beating.cancel()
    for limiter in limiters:
        await limiter.close()


@pytest.mark.parametrize(
    ("shared", "rate", "code", "said"),
    [
        ("redis://127.0.0.1:1/0", 100, 69, "cannot be reached"),
        ("redis://127.0.0.1:1/0", 0, 78, "needs a rate"),
        ("nats://127.0.0.1:1/0", 100, 78, "must be a URL such as redis://"),
        ("redis://:marker-password-55@127.0.0.1:1/0?nam=x", 100, 78, "did you mean name?"),
        ("redis://:marker-password-55@127.0.0.1:1/0?share=x", 100, 78, "share must be a number"),
    ],
)
async def test_what_is_wrong_is_one_sentence(tmp_path, shared, rate, code, said):
    ended = await program(
        *("run", "--rate", rate, "--base-url", "http://127.0.0.1:1", "-"),
        cwd=tmp_path,
        env={"PERMUTIVE_API_KEY": KEY, "PERMUTIVE_WORKER_RATE_LIMIT__SHARED": shared},
        stdin=b"",
    )

    assert (ended.code, said in ended.text) == (code, True), ended.text
    assert "marker-password" not in ended.text
    assert "Traceback" not in ended.text
