"""The rehearsals of deploy/README.md, with the processes that compose would start."""

import json
from urllib.error import HTTPError

import pytest
from support.composed import Composed

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


@pytest.fixture
async def stack(tmp_path):
    composed = Composed(tmp_path)
    try:
        for name in ("redis", "sandbox", "load", "worker"):
            await composed.up(name)
        await composed.until(lambda seen: seen["jobs_delivered_total"] >= 100, "jobs flow")
        yield composed
    finally:
        await composed.down()


async def delivers_more(stack):
    before = (await stack.metrics())["jobs_delivered_total"]
    await stack.until(lambda seen: seen["jobs_delivered_total"] >= before + 100, "it delivers again")


async def nothing_is_lost(stack):
    """By the worker's own counts, at this moment and without a dead letter."""
    seen = await stack.metrics()
    ended = sum(seen[f"jobs_{end}_total"] for end in ("delivered", "dead_lettered", "skipped", "returned"))

    assert seen["jobs_read_total"] == ended + seen["jobs_pending"]
    assert seen["jobs_dead_lettered_total"] == 0


async def is_ready(stack):
    try:
        return await stack.worker("/readyz") == "ok\n"
    except HTTPError as refused:
        assert refused.code == 503
        return False


async def test_an_upgrade(stack):
    assert await stack.stop("worker") in (0, 75)
    await stack.up("worker")

    await delivers_more(stack)
    await nothing_is_lost(stack)
    assert (await stack.sandbox("ledger"))["duplicates"] == 0


async def test_an_outage(stack):
    await stack.stop("sandbox")
    await stack.until(lambda seen: seen["request_errors_total"] >= 20, "requests fail")
    assert await stack.worker("/livez") == "ok\n"
    await stack.up("sandbox")

    await delivers_more(stack)
    await nothing_is_lost(stack)


async def test_a_revoked_key(stack):
    new = "another-rehearsal-key-that-opens-nothing"
    await stack.sandbox("keys", {"api_keys": [new]})
    await stack.until(lambda seen: seen["credentials_valid"] == 0, "the key is refused")
    assert not await is_ready(stack)
    assert json.loads(await stack.worker("/status"))["lanes"][0]["halted"] is True

    stack.key.write_text(new)

    await stack.until(
        lambda seen: seen["credentials_valid"] == 1, "the new key is taken up without a restart"
    )
    await delivers_more(stack)
    await nothing_is_lost(stack)


async def test_a_storm_of_throttles(stack):
    await stack.sandbox("faults", {"faults": "storm"})
    await stack.until(lambda seen: seen["throttled_total"] > 0, "answers ask to slow down")
    await stack.until(lambda seen: seen["paused_until_timestamp_seconds"] > 0, "the pause is shown")
    assert await stack.worker("/livez") == "ok\n"
    await stack.sandbox("faults", {"faults": "none"})

    await delivers_more(stack)
    await nothing_is_lost(stack)
