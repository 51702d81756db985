"""What is particular to Redis Streams, with a real Redis."""

import asyncio
import json
import re
import signal
import urllib.error
import urllib.request

import pytest
from redis.asyncio import Redis as Client
from support.brokers import Redis
from support.program import KEY, program, start
from support.receiving import receive, settle

from permutive_worker.errors import ConfigurationError, UnreachableError
from permutive_worker.model import Settlement
from permutive_worker.sandbox.app import Sandbox
from permutive_worker.sandbox.options import SandboxOptions
from permutive_worker.sources import redis_streams
from permutive_worker.sources.address import parse_address
from permutive_worker.sources.queue import QueueSource
from permutive_worker.sources.redis_streams import RedisBroker

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


@pytest.fixture
async def opened(redis):
    sources = []

    async def open_one(more="", create=True):
        broker = RedisBroker(parse_address(redis.url + more, {}), create)
        source = QueueSource(broker, 1_000_000)
        sources.append(source)
        await source.open()
        return source

    yield open_one
    for source in sources:
        await source.close()


async def pending(client):
    return (await client.xpending("jobs", "permutive"))["pending"]


async def test_entries_from_before_the_group_are_delivered(opened, client):
    place = await client.xadd("jobs", {"job": "old"})

    source = await opened()

    (delivery,) = await receive(source, 1)
    assert (delivery.raw, delivery.position) == (b"old", f"redis:jobs/{place.decode()}")
    settle(source, [delivery])


async def test_a_worker_with_a_name_takes_up_what_it_held_before_anything_new(opened, client):
    for number in range(5):
        await client.xadd("jobs", {"job": str(number)}, id=f"1-{number + 1}")
    await client.xgroup_create("jobs", "permutive", id="0")
    await client.xreadgroup("permutive", "worker-7", {"jobs": ">"}, count=3)

    source = await opened("&consumer=worker-7")

    received = await receive(source, 5)
    assert [delivery.raw for delivery in received] == [b"0", b"1", b"2", b"3", b"4"]
    assert source.redeliveries == 3
    assert received[0].age_seconds == 0  # such an id is no time
    settle(source, received)


async def test_the_line_is_the_only_field_or_the_one_agreed_on(opened, client):
    await client.xadd("jobs", {"anything": "a"})
    await client.xadd("jobs", {"other": "x", "job": "b"})
    await client.xadd("jobs", {"other": "x", "more": b"\xff"})
    source = await opened()

    received = await receive(source, 3)

    assert [delivery.raw for delivery in received] == [b"a", b"b", '{"other":"x","more":"�"}'.encode()]
    settle(source, received)


async def test_what_was_trimmed_before_it_was_delivered_is_forgotten(opened, client):
    await client.xadd("jobs", {"job": "gone"}, id="1-1")
    await client.xadd("jobs", {"job": "here"}, id="1-2")
    await client.xgroup_create("jobs", "permutive", id="0")
    await client.xreadgroup("permutive", "worker-7", {"jobs": ">"})
    await client.xdel("jobs", "1-1")

    source = await opened("&consumer=worker-7")

    (delivery,) = await receive(source, 1)
    assert delivery.raw == b"here"
    settle(source, [delivery])
    await source.flush()
    assert await pending(client) == 0


async def test_a_clean_stop_leaves_no_consumer_and_a_return_leaves_one_that_holds_it(opened, client):
    for number in range(2):
        await client.xadd("jobs", {"job": str(number)})
    first = await opened()
    received = await receive(first, 2)
    settle(first, received[:1])
    settle(first, received[1:], Settlement.RETRY)
    first.interrupt()
    await first.flush()
    await first.close()
    (held,) = await client.xinfo_consumers("jobs", "permutive")
    assert held["pending"] == 1

    second = await opened()
    again = await receive(second, 1)
    assert again[0].raw == b"1"
    settle(second, again)
    second.interrupt()
    await second.flush()
    await second.close()

    assert [one["name"] for one in await client.xinfo_consumers("jobs", "permutive")] == [held["name"]]


async def test_what_is_given_back_looks_idle_for_a_day_and_is_not_counted_as_delivered_again(opened, client):
    await client.xadd("jobs", {"job": "a"})
    source = await opened()
    (delivery,) = await receive(source, 1)
    source.hold()  # else it takes it again itself

    settle(source, [delivery], Settlement.RETRY)
    await source.flush()

    (entry,) = await client.xpending_range("jobs", "permutive", "-", "+", 10)
    assert entry["time_since_delivered"] >= 86_400_000
    assert entry["times_delivered"] == 1
    other = await opened("000")  # idle=2000
    settle(other, await receive(other, 1))  # at once, while who gave it back lives


async def test_acknowledges_in_groups(opened, client):
    for number in range(300):
        await client.xadd("jobs", {"job": str(number)})
    source = await opened()

    settle(source, await receive(source, 300))
    await source.flush()

    assert await pending(client) == 0
    assert (await client.info("commandstats"))["cmdstat_xack"]["calls"] == 1


async def test_an_entry_that_another_took_is_not_taken_back(opened, client):
    await client.xadd("jobs", {"job": "a"})
    source = await opened()
    (delivery,) = await receive(source, 1)
    await client.xclaim("jobs", "permutive", "other", 0, [delivery.place])

    await source._broker.keep([delivery.place])
    await source._broker.give_back([delivery.place])

    (entry,) = await client.xpending_range("jobs", "permutive", "-", "+", 10)
    assert entry["consumer"] == b"other"
    assert entry["time_since_delivered"] < 60_000
    settle(source, [delivery])


async def test_acknowledged_entries_are_trimmed_when_asked_for_and_no_others(opened, client):
    for number in range(300):
        await client.xadd("jobs", {"job": str(number)})
    await client.xgroup_create("jobs", "another", id="0")
    await client.xreadgroup("another", "slow", {"jobs": ">"}, count=250)
    await client.xack("jobs", "another", *[place for place, _ in await client.xrange("jobs", count=200)])
    source = await opened("&trim=yes")
    received = await receive(source, 300)
    settle(source, received)
    await source.flush()

    source._broker._tidy_at = 0.0
    await source._broker.keep([])

    assert 100 <= await client.xlen("jobs") <= 200  # in whole nodes of 100


async def test_consumers_of_long_ago_are_forgotten_unless_they_hold_something(opened, client, monkeypatch):
    monkeypatch.setattr(redis_streams, "FORGOTTEN_MS", -1)
    source = await opened()
    await client.xgroup_createconsumer("jobs", "permutive", "empty")
    await client.xadd("jobs", {"job": "a"})
    await client.xreadgroup("permutive", "holds", {"jobs": ">"})

    source._broker._tidy_at = 0.0
    await source._broker.keep([])

    names = [one["name"] for one in await client.xinfo_consumers("jobs", "permutive")]
    assert b"holds" in names
    assert b"empty" not in names


async def test_what_others_held_is_let_alone_just_after_redis_came_back(redis, opened, client):
    """All entries look idle then: their workers had no chance to refresh them."""
    holder = await opened("0")  # idle=20
    await client.xadd("jobs", {"job": "a"})
    received = await receive(holder, 1)
    await client.xclaim("jobs", "permutive", holder._broker._consumer, 0, [received[0].place], idle=60_000)

    other = await opened("0")  # Redis has been up for less than 20 s
    assert await other._broker._claim(10) == []
    other._broker._calm_at = 0.0
    assert len(await other._broker._claim(10)) == 1
    settle(holder, received)


async def test_what_is_wrong_is_one_sentence(redis, opened, client):
    await client.set("text", "x")
    await client.acl_setuser("poor", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@connection"])
    base = f"redis://127.0.0.1:{redis.port}/0?stream="
    for url, error, said in [
        (base + "nothing", ConfigurationError, "make it with --create"),
        (base + "text", ConfigurationError, "is no stream"),
        (
            base.replace("redis://", "redis://wilhelmina:wrong-9f2@") + "jobs",
            ConfigurationError,
            "refuses user or password",
        ),
        (base.replace("redis://", "redis://poor:pw@") + "jobs", ConfigurationError, "no permission"),
        (base.replace("/0", "/999") + "jobs", ConfigurationError, "refuses"),
        ("redis://127.0.0.1:1/0?stream=jobs", UnreachableError, "cannot be reached"),
        ("redis://no-such-host.invalid/0?stream=jobs", UnreachableError, "cannot be reached"),
    ]:
        broker = RedisBroker(parse_address(url, {}), create=False)
        with pytest.raises(error, match=said) as caught:
            await broker.connect()
        assert "wrong-9f2" not in str(caught.value)
        assert "wilhelmina" not in str(caught.value)
        await broker.close()


async def test_a_stream_that_vanishes_is_waited_for(opened, client):
    source = await opened(create=True)
    await client.xadd("jobs", {"job": "a"})
    settle(source, await receive(source, 1))

    await client.delete("jobs")
    await client.xadd("jobs", {"job": "b"})

    (delivery,) = await receive(source, 1)  # made again, since --create was said
    assert delivery.raw == b"b"
    settle(source, [delivery])


async def test_a_run_tells_what_is_wrong_and_never_the_password(redis, tmp_path):
    environ = {"PERMUTIVE_API_KEY": KEY, "PERMUTIVE_WORKER_SOURCE__PASSWORD": "marker-password-77aa"}
    no_password = {"PERMUTIVE_API_KEY": KEY}
    for inputs, code, said in [
        ([redis.url], 78, "refuses user or password"),
        ([redis.url, "jobs.ndjson"], 64, "cannot be mixed"),
        ([redis.url.replace("127", "ann:marker-password-88bb@127")], 78, "refuses user or password"),
        ([redis.url.replace("idle", "idel")], 78, "did you mean idle?"),
        ([redis.url, "--dead-letters", "/proc/none/dead.ndjson", "--create"], 78, "/proc/none/dead.ndjson"),
    ]:
        env = no_password if "--create" in inputs else environ
        ended = await program("run", "--log-level", "debug", *inputs, cwd=tmp_path, env=env)

        assert (ended.code, said in ended.text) == (code, True), ended.text
        assert "marker-password" not in ended.text
        assert "Traceback" not in ended.text


async def get(url):
    def read():
        try:
            with urllib.request.urlopen(url) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(read)


async def until(condition):
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.05)


@pytest.fixture
async def worker(redis, tmp_path):
    """A worker at the queue: its process, and where its metrics are."""
    async with Sandbox(SandboxOptions()) as sandbox:
        log = (tmp_path / "worker.log").open("wb")
        process = await start(
            *("run", redis.url, "--create", "--base-url", sandbox.url, "--admin", "0"),
            *("--log-format", "json", "--progress", "off"),
            cwd=tmp_path,
            stderr=log,
        )
        log.close()

        async def listens():
            return b"admin.listening" in (tmp_path / "worker.log").read_bytes()

        await until(listens)
        url = re.search(r"http://127.0.0.1:\d+", (tmp_path / "worker.log").read_text())[0]
        yield process, url
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_worker_is_not_ready_while_redis_is_away_and_says_so(redis, worker, tmp_path):
    _, url = worker

    async def ready():
        return await get(f"{url}/readyz") == (200, "ok\n")

    async def away():
        return await get(f"{url}/readyz") == (503, "source away\n")

    await until(ready)
    await redis.kill()
    await until(away)
    assert json.loads((await get(f"{url}/status"))[1])["source_away"] is True
    assert (await get(f"{url}/livez"))[0] == 200
    assert "permutive_worker_source_lag NaN" in (await get(f"{url}/metrics"))[1]
    await redis.start()
    await until(ready)

    told = [json.loads(line) for line in (tmp_path / "worker.log").read_text().splitlines()]
    assert [one["event"] for one in told if one["event"].startswith("source.")] == [
        "source.away",
        "source.back",
    ]


async def test_a_message_that_is_no_job_is_a_dead_letter_and_acknowledged(redis, worker, client, tmp_path):
    process, _ = worker
    await client.xadd("jobs", {"job": b"no \xff job"})
    await client.xadd("jobs", {"job": '{"type":"identify","user_id":"u","aliases":[]}'})

    async def done():
        group = [one for one in await client.xinfo_groups("jobs") if one["name"] == b"permutive"]
        return bool(group) and group[0]["lag"] == 0 and group[0]["pending"] == 0

    await until(done)
    process.send_signal(signal.SIGTERM)
    await process.wait()

    (letter,) = [json.loads(line) for line in (tmp_path / "dead-letters.ndjson").read_text().splitlines()]
    assert (letter["reason"], letter["source"]) == ("malformed", "redis")
    assert letter["position"].startswith("redis:jobs/")
    assert await client.xinfo_consumers("jobs", "permutive") == []
