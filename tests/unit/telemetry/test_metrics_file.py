import asyncio
import shutil
import stat
from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from structlog.testing import capture_logs
from support.jump_loop import run_jumping

from permutive_worker.errors import ConfigurationError
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.metrics_file import EVERY_SECONDS, last_success, metrics_file
from permutive_worker.telemetry.status import LaneStatus, Status

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LANE = LaneStatus("eu", 0, 0, 0, 0, 64, 0.0, 500.0, None, None, "closed", credentials_valid=True)
STATUS = Status("running", "run", NOON, 8.0, [LANE], 0, 0, 1024, 0, None, None)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "worker.prom"


@pytest.fixture
def counts(path):
    path.parent.mkdir()
    return Counts("file", ["identify"])


def kept(path, counts):
    return metrics_file(str(path), counts, lambda: STATUS, "1.2.3")


def numbers(path):
    return {sample.name: sample.value for family in parse(path.read_text()) for sample in family.samples}


def read(path):
    return numbers(path)["permutive_worker_jobs_read_total"]


def test_it_is_written_at_the_start_every_15_seconds_and_at_the_end(path, counts):
    async def run():
        seen = []
        async with kept(path, counts):
            for number in (1, 2):
                seen.append(read(path))
                counts.read = number
                await asyncio.sleep(EVERY_SECONDS - 1)
                seen.append(read(path))
                await asyncio.sleep(2)
                seen.append(read(path))
            counts.read = 3
        return [*seen, read(path)]

    assert run_jumping(run()) == [0, 0, 1, 1, 1, 2, 3]


def test_an_error_leaves_the_last_numbers_too(path, counts):
    async def run():
        async with kept(path, counts):
            counts.read = 5
            raise RuntimeError

    with pytest.raises(RuntimeError):
        run_jumping(run())
    assert read(path) == 5


def test_others_may_read_it_nothing_is_left_beside_it_and_the_process_is_not_in_it(path, counts):
    async def run():
        async with kept(path, counts):
            pass

    run_jumping(run())

    assert [file.name for file in path.parent.iterdir()] == ["worker.prom"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert all(name.startswith("permutive_worker_") for name in numbers(path))


def test_a_link_stays_one(path, counts):
    link = path.with_name("link.prom")
    link.symlink_to(path)

    async def run():
        async with kept(link, counts):
            pass

    run_jumping(run())

    assert link.is_symlink()
    assert read(path) == 0


@pytest.mark.parametrize("name", ["missing/worker.prom", "folder", "/dev/null"])
def test_what_cannot_be_written_is_refused_at_the_start(path, counts, tmp_path, name):
    async def run():
        async with kept(tmp_path / name, counts):
            pytest.fail("it began")

    with pytest.raises(ConfigurationError, match="name another"):
        run_jumping(run())


def test_a_write_that_fails_later_is_told_once_and_tried_again(path, counts):
    async def run():
        async with kept(path, counts):
            shutil.rmtree(path.parent)
            await asyncio.sleep(3 * EVERY_SECONDS)
            path.parent.mkdir()
            counts.read = 7
            await asyncio.sleep(EVERY_SECONDS)
            return read(path)

    with capture_logs() as logs:
        assert run_jumping(run()) == 7
    assert [log["event"] for log in logs] == ["metrics_file.failed"]


def test_a_name_node_exporter_does_not_read_is_warned_of(path, counts):
    async def run():
        async with kept(path.with_suffix(".txt"), counts):
            pass

    with capture_logs() as logs:
        run_jumping(run())
    assert [log["event"] for log in logs] == ["metrics_file.unread"]


def test_the_last_success_is_taken_over_from_the_run_before(path, counts):
    async def run(success=None):
        now = Counts("file", ["identify"])
        async with kept(path, now):
            told = last_success(path)
            now.last_success_at = success or now.last_success_at
        return told

    assert run_jumping(run()) is None  # a first run, that fails
    assert run_jumping(run(NOON)) is None
    assert run_jumping(run()) == NOON  # it is there while a run lasts, and after one that failed
    assert last_success(path) == NOON


@pytest.mark.parametrize(
    "text", ["", "rubbish\xff", "permutive_worker_run_last_success_timestamp_seconds NaN", "\0" * 9]
)
@pytest.mark.parametrize("more", ["", "\npermutive_worker_run_last_success_timestamp_seconds 1e300"])
def test_a_file_of_rubbish_tells_of_no_success(path, counts, text, more):
    path.write_text(text + more, encoding="latin-1")

    assert last_success(path) is None


def test_without_a_path_nothing_is_written(path, counts):
    async def run():
        async with metrics_file(None, counts, lambda: STATUS, "1.2.3"):
            pass

    run_jumping(run())

    assert not list(path.parent.iterdir())
