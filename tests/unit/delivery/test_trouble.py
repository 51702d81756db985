"""What refusals and long throttles do to a run."""

import asyncio
import itertools
import json
from types import SimpleNamespace

import pytest
from support.jump_loop import run_jumping
from support.worker import KEY, LoopClock, identify, memory_worker

from permutive_worker.config import Delivery, Guard, Input, Output, RateLimit, Settings, State
from permutive_worker.credentials import Keyring, load_keyring
from permutive_worker.destinations.memory import MemoryWire
from permutive_worker.errors import ConfigurationError, KeyRefusedError, ThrottledTooLong
from permutive_worker.model import Response
from permutive_worker.worker import Worker


def run(answers, jobs=20, **settings):
    """Run with answers one after another, the last one for ever; return worker, outcomes and requests."""
    script = itertools.chain(answers, itertools.repeat(answers[-1]))
    wire = MemoryWire(lambda _: Response(*next(script), b""))

    async def scenario():
        made = Settings(guard=Guard(max_failure_ratio=1), **settings)
        worker, outcomes = memory_worker(map(identify, range(jobs)), wire, settings=made)
        return worker, outcomes, await worker.run()

    worker, outcomes, summary = run_jumping(scenario())
    return worker, outcomes, summary, wire.requests


ONE = Delivery(max_in_flight=1)


def test_never_a_success_ends_after_one_probe_and_nothing_is_dead_lettered():
    worker, outcomes, summary, requests = run([(401, {})], delivery=ONE)
    assert summary.exit_code == 77
    assert len(requests) == 2
    assert isinstance(worker.errors()[0], KeyRefusedError)
    assert {outcome.end for outcome in outcomes} == {"returned"}


def test_a_wrong_host_or_path_ends_with_78():
    for status in (404, 302):
        worker, _, summary, _ = run([(status, {})], delivery=ONE)
        assert summary.exit_code == 78
        assert isinstance(worker.errors()[0], ConfigurationError)


def test_a_key_that_was_good_is_waited_for_with_a_probe_every_five_seconds():
    answers = [(200, {})] * 5 + [(401, {})] * 4 + [(200, {})]
    _, _, summary, requests = run(answers, delivery=ONE)
    assert (summary.exit_code, summary.delivered) == (0, 20)
    assert len(requests) == 24
    assert 10 <= summary.elapsed_seconds <= 17


def test_a_key_that_stays_refused_ends_after_max_halt_seconds():
    _, outcomes, summary, _ = run(
        [(200, {})] * 5 + [(401, {})], delivery=Delivery(max_in_flight=1, max_halt_seconds=60)
    )
    assert summary.exit_code == 77
    assert 60 <= summary.elapsed_seconds <= 70
    assert summary.delivered == 5
    assert sum(outcome.end == "returned" for outcome in outcomes) == summary.returned


def test_a_pause_that_is_too_long_for_a_finite_run_ends_with_75_and_says_until_when():
    worker, _, summary, requests = run(
        [(429, {"Retry-After": "7200"})], delivery=ONE, rate_limit=RateLimit(max_retry_after_seconds=3600)
    )
    assert summary.exit_code == 75
    assert len(requests) == 1
    assert worker.counts.returned == {"stop": 0, "guard": 0, "halt": 0, "pause": summary.returned}
    assert isinstance(worker.errors()[0], ThrottledTooLong)
    assert "wait 2 h, until 2026-01-01 02:00" in str(worker.errors()[0])


def test_an_absurd_pause_is_told_in_days():
    worker, _, summary, _ = run([(429, {"Retry-After": str(10**12)})], delivery=ONE)
    assert summary.exit_code == 75
    assert "asks to wait 365 d, until 2027-01-01" in str(worker.errors()[0])


def test_a_wait_that_a_rejected_job_is_given_is_nobodys():
    _, _, summary, _ = run([(400, {"Retry-After": "7200"}), (200, {})], delivery=ONE)
    assert (summary.exit_code, summary.delivered, summary.dead_lettered) == (3, 19, 1)


def test_retry_after_is_obeyed_to_the_second():
    _, _, summary, _ = run([(200, {}), (429, {"Retry-After": "7"}), (200, {})], delivery=ONE)
    assert summary.exit_code == 0
    assert 7 <= summary.elapsed_seconds < 8


def test_a_date_is_obeyed_too():
    _, _, summary, _ = run([(429, {"Retry-After": "Thu, 01 Jan 2026 00:00:30 GMT"}), (200, {})], delivery=ONE)
    assert summary.exit_code == 0
    assert 28 <= summary.elapsed_seconds <= 31


def test_a_workspace_that_is_refused_does_not_stop_the_others(tmp_path):
    workspaces = [
        {"name": name, "workspace_id": name, "api_key": f"key-of-{name}-workspace"}
        for name in ("bad", "good")
    ]
    (tmp_path / "keys.json").write_text(json.dumps(workspaces))
    keyring = load_keyring({"PERMUTIVE_APPLICATION_CREDENTIALS": str(tmp_path / "keys.json")})
    jobs = [
        identify(number, user=f"{name}-{number}", workspace=name)
        for number in range(50)
        for name in ("bad", "good")
    ]
    wire = MemoryWire(lambda request: Response(401 if b'"bad-' in request.body else 200, {}, b""))

    async def scenario():
        settings = Settings(
            input=Input(workspace="good"), delivery=Delivery(max_in_flight=1, max_halt_seconds=30)
        )
        worker, outcomes = memory_worker(jobs, wire, settings=settings, keyring=keyring)
        return await worker.run(), outcomes

    summary, outcomes = run_jumping(scenario())
    assert summary.exit_code == 77
    assert {outcome.index % 2 for outcome in outcomes if outcome.delivered} == {1}
    assert (summary.delivered, summary.returned, summary.dead_lettered) == (50, 50, 0)


def forbidding(refuses, jobs, *, latency_seconds=0.02, **settings):
    """Run on a wire that answers 403 where `refuses(request, now)`; return worker, outcomes and requests."""

    async def scenario():
        loop = asyncio.get_running_loop()
        requests = []

        async def send(request):
            sent_at = loop.time()
            requests.append((sent_at, request))
            await asyncio.sleep(latency_seconds)
            status = refuses(request, sent_at)
            return Response(403 if status is True else status or 200, {}, b"")

        made = Settings(guard=Guard(max_failure_ratio=1), **settings)
        worker, outcomes = memory_worker(jobs, SimpleNamespace(send=send), settings=made)
        return worker, outcomes, await worker.run(), requests

    return run_jumping(scenario())


def event(number, user=None):
    return {"type": "event", "name": "Bought", "user_id": user or f"user-{number}", "job_id": number}


def test_a_kind_that_is_forbidden_waits_and_the_others_go_on():
    jobs = [make(number) for number in range(500) for make in (identify, event)]
    _, _, summary, requests = forbidding(
        lambda request, now: request.kind == "event" and now < 60,
        jobs,
        delivery=Delivery(max_in_flight=8),
    )
    assert (summary.exit_code, summary.delivered) == (0, 1000)
    refused = [at for at, request in requests if request.kind == "event" and at < 60]
    assert len(refused) <= 8 + 1 + 12
    assert max(at for at, request in requests if request.kind == "identify") < 10
    assert summary.elapsed_seconds < 70


def test_one_job_that_is_always_forbidden_is_rejected_and_holds_nobody():
    _, outcomes, summary, requests = forbidding(
        lambda request, now: b'"user-7"' in request.body, map(identify, range(1000)), delivery=ONE
    )
    assert (summary.exit_code, summary.delivered, summary.dead_lettered) == (3, 999, 1)
    (dead,) = (outcome for outcome in outcomes if not outcome.delivered)
    assert (dead.index, dead.reason, dead.status) == (7, "rejected", 403)
    assert len(requests) == 1001


def test_two_forbidden_jobs_alone_are_waited_for_and_returned():
    _, _, summary, _ = forbidding(
        lambda request, now: now > 0,
        map(identify, range(3)),
        delivery=Delivery(max_in_flight=1, max_halt_seconds=30),
    )
    assert (summary.exit_code, summary.delivered, summary.returned, summary.dead_lettered) == (77, 1, 2, 0)


@pytest.mark.parametrize("status", [429, 500, 503, 408])
def test_a_probe_that_is_answered_by_a_throttle_or_a_failure_opens_nothing_and_counts_nothing(status):
    def answer(request, now):
        if now == 0 or now > 60:
            return 200
        return 401 if now < 0.1 else status

    _, outcomes, summary, requests = forbidding(
        answer,
        map(identify, range(50)),
        delivery=Delivery(max_in_flight=1, max_attempts=2),
    )
    assert (summary.exit_code, summary.delivered) == (0, 50)
    assert len([at for at, _ in requests if at <= 60]) <= 3 + 60 / 5
    assert {outcome.attempts for outcome in outcomes} != {1}


@pytest.mark.parametrize("status", [400, 409])
def test_a_probe_that_is_refused_for_its_own_sake_opens_the_halt(status):
    def answer(request, now):
        return {0: 200, 1: 401, 2: status}.get(round(now / 0.02), 200)

    _, _, summary, _ = forbidding(answer, map(identify, range(20)), delivery=ONE)
    assert (summary.delivered, summary.dead_lettered) == (19, 1)
    assert summary.elapsed_seconds < 2


def test_a_halt_that_lasts_too_long_ends_though_its_probe_gets_no_refusal():
    _, _, summary, _ = forbidding(
        lambda request, now: 200 if now == 0 else 401 if now < 0.1 else 502,
        map(identify, range(20)),
        delivery=Delivery(max_in_flight=1, max_halt_seconds=60, max_attempts=2),
    )
    assert (summary.exit_code, summary.delivered, summary.returned) == (77, 1, 19)
    assert 60 <= summary.elapsed_seconds <= 62


def test_jobs_behind_a_halt_expire():
    _, outcomes, summary, requests = forbidding(
        lambda request, now: 401 if now else 200,
        map(identify, range(20)),
        delivery=Delivery(max_in_flight=1, max_age_seconds=12),
    )
    assert (summary.exit_code, summary.delivered, summary.dead_lettered) == (3, 1, 19)
    assert {outcome.reason for outcome in outcomes if not outcome.delivered} == {"expired"}
    assert 12 <= summary.elapsed_seconds <= 18
    assert len(requests) <= 6


def test_a_job_behind_its_user_expires_though_it_is_never_tried():
    _, outcomes, summary, _ = forbidding(
        lambda request, now: 500 if b'"slow"' in request.body else 200,
        [identify(number, user="slow") for number in range(3)] + [identify(9)],
        delivery=Delivery(max_age_seconds=5, backoff_initial_seconds=60),
    )
    assert (summary.delivered, summary.dead_lettered) == (1, 3)
    assert {outcome.reason for outcome in outcomes if not outcome.delivered} == {"expired"}


def test_expired_jobs_trip_no_guard():
    async def scenario():
        made = Settings(guard=Guard(max_failures=0), delivery=Delivery(max_age_seconds=5))
        wire = MemoryWire(lambda _: Response(500, {}, b""))
        worker, _ = memory_worker(map(identify, range(500)), wire, settings=made)
        return await worker.run()

    summary = run_jumping(scenario())
    assert (summary.exit_code, summary.dead_lettered) == (3, 500)


def test_one_user_keeps_its_order_over_kinds_while_one_of_them_is_forbidden():
    jobs = [make(number, user="u") for number in range(10) for make in (identify, event)]
    _, outcomes, summary, _ = forbidding(
        lambda request, now: request.kind == "event" and now < 30,
        [*jobs, identify(99)],
        delivery=Delivery(max_in_flight=4),
    )
    assert (summary.exit_code, summary.delivered) == (0, 21)
    mine = [outcome.index for outcome in outcomes if outcome.index < 20]
    assert mine == sorted(mine)


@pytest.mark.parametrize(("status", "code"), [(302, 77), (404, 77)])
def test_a_path_that_goes_missing_after_a_success_ends_like_a_refused_key(status, code):
    _, _, summary, _ = forbidding(
        lambda request, now: status if now else 200,
        map(identify, range(5)),
        delivery=Delivery(max_in_flight=1, max_halt_seconds=10),
    )
    assert (summary.exit_code, summary.delivered, summary.returned) == (code, 1, 4)


def test_a_kind_that_fails_leaves_probes_to_one_that_is_refused_and_keeps_no_run_from_giving_up():
    def segmentation(number):
        events = [{"name": "Seen", "time": "2026-01-31T12:00:00Z", "properties": {}}]
        return {"type": "segmentation", "user_id": f"user-{number}", "events": events}

    statuses = {"identify": 200, "event": 500, "segmentation": True}
    _, outcomes, summary, requests = forbidding(
        lambda request, now: statuses[request.kind],
        [*map(identify, range(100)), *map(event, range(100, 130)), *map(segmentation, range(200, 210))],
        delivery=Delivery(max_in_flight=8, max_attempts=3, max_halt_seconds=60),
    )
    assert (summary.exit_code, summary.delivered, summary.returned) == (77, 100, 10)
    assert {outcome.reason for outcome in outcomes if outcome.type == "event"} == {"exhausted"}
    probes = [at for at, request in requests if request.kind == "segmentation"]
    assert len(probes) >= 10  # one in five seconds, but for the first two while the breaker waits
    assert summary.elapsed_seconds < 120


def test_a_refused_kind_in_more_files_than_may_be_open_ends_the_run_too(tmp_path, monkeypatch):
    monkeypatch.setattr("permutive_worker.sources.remembered.MAX_OPEN", 5)
    for number in range(8):
        lines = "".join(json.dumps(make(number)) + "\n" for make in (identify, event))
        (tmp_path / f"{number}.ndjson").write_text(lines)
    wire = MemoryWire(lambda request: Response(403 if request.kind == "event" else 200, {}, b""))

    async def scenario():
        settings = Settings(
            delivery=Delivery(max_halt_seconds=60),
            state=State(dir=str(tmp_path / "state")),
            output=Output(dead_letters=str(tmp_path / "dead.ndjson")),
        )
        worker = Worker(settings, [str(tmp_path)], wire=wire, keyring=Keyring.of_key(KEY), clock=LoopClock())
        return await worker.run()

    summary = run_jumping(scenario())
    assert (summary.exit_code, summary.delivered, summary.returned) == (77, 5, 5)
    assert 60 <= summary.elapsed_seconds < 70
