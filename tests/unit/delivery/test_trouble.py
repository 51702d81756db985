"""What refusals and long throttles do to a run."""

import itertools
import json

from support.jump_loop import run_jumping
from support.worker import identify, memory_worker

from permutive_worker.config import Delivery, Guard, Input, RateLimit, Settings
from permutive_worker.credentials import load_keyring
from permutive_worker.destinations.memory import MemoryWire
from permutive_worker.errors import ConfigurationError, KeyRefusedError, ThrottledTooLong
from permutive_worker.model import Response


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
    assert isinstance(worker.errors()[0], ThrottledTooLong)
    assert "2026-01-01 02:00" in str(worker.errors()[0])


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
