"""`--metrics-file`: what a run leaves for node_exporter."""

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from support.jump_loop import run_jumping
from support.program import program
from support.worker import identify, memory_worker

from permutive_worker.config import Guard, Output, Settings
from permutive_worker.destinations.memory import MemoryWire
from permutive_worker.model import Response
from permutive_worker.sources.memory import MemorySource
from permutive_worker.telemetry.metrics_file import last_success


class Endless(MemorySource):
    finite = False


def answer(request):
    return Response(400 if b"bad" in request.body else 200, {}, b"{}")


def run(path, jobs, source=None):
    async def to_the_end():
        settings = Settings(output=Output(metrics=str(path)), guard=Guard(max_failure_ratio=1))
        worker, _ = memory_worker(jobs, MemoryWire(answer), settings=settings, source=source)
        return await worker.run()

    return run_jumping(to_the_end())


def numbers(path):
    found = {}
    for family in parse(path.read_text()):
        for sample in family.samples:
            name = sample.name.removeprefix("permutive_worker_")
            found[name] = found.get(name, 0) + sample.value
    return found


def test_success_is_exit_code_0(tmp_path):
    path = tmp_path / "worker.prom"

    assert run(path, [identify(1), identify(2, user="bad")]).exit_code == 3
    assert last_success(path) is None
    assert run(path, [identify(1)]).exit_code == 0
    success = last_success(path)
    assert success is not None
    assert run(path, [identify(2, user="bad")]).exit_code == 3
    assert last_success(path) == success


def test_a_service_that_is_stopped_is_no_success(tmp_path):
    path = tmp_path / "worker.prom"

    assert run(path, [], source=Endless([identify(1)])).exit_code == 0
    assert last_success(path) is None


def test_the_numbers_are_those_of_the_summary(tmp_path):
    path = tmp_path / "worker.prom"
    summary = run(path, [identify(1), identify(2, user="bad"), identify(3), ""])

    told = numbers(path)
    for name in ("read", "delivered", "dead_lettered", "skipped", "returned"):
        assert told[f"jobs_{name}_total"] == getattr(summary, name), name
    assert told["jobs_pending"] == 0


@pytest.mark.process
async def test_a_file_that_cannot_be_written_ends_a_run_with_78_before_anything_is_sent(tmp_path):
    (tmp_path / "jobs.ndjson").write_bytes(b'{"type":"identify","user_id":"u","aliases":[]}\n')
    wrong = ("--metrics-file", "missing/worker.prom", "--base-url", "http://127.0.0.1:9")

    ended = await program("run", *wrong, "jobs.ndjson", cwd=tmp_path)

    assert (ended.code, ended.stdout) == (78, b"")
    assert "cannot write the metrics to" in ended.text


@pytest.mark.process
async def test_the_own_metrics_file_is_no_input(tmp_path):
    (tmp_path / "m.prom").touch()

    ended = await program("run", "--metrics-file", "m.prom", "m.prom", cwd=tmp_path)

    assert ended.code == 78
    assert "are the same file" in ended.text
