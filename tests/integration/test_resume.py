"""The real program, run again over the same files."""

import asyncio
import json
import shutil
import signal
import stat

import pytest
from support.program import KEY, program, start

from permutive_worker.config import Http, Output, Settings, State
from permutive_worker.credentials import Keyring
from permutive_worker.sandbox.app import Sandbox
from permutive_worker.sandbox.options import SandboxOptions
from permutive_worker.worker import Worker

pytestmark = pytest.mark.process

STATE = ".permutive-worker"


def job_lines(first, last):
    return b"".join(
        b'{"type":"identify","user_id":"marker-person-%d","aliases":[],"job_id":%d}\n' % (number, number)
        for number in range(first, last)
    )


@pytest.fixture
async def sandbox():
    async with Sandbox(SandboxOptions()) as started:
        yield started


@pytest.fixture
def run(tmp_path, sandbox):
    def arguments(*more):
        return ("run", "--base-url", sandbox.url, "--progress", "off", *more)

    async def run_to_the_end(*more, **given):
        return await program(*arguments(*more), cwd=tmp_path, **given)

    run_to_the_end.arguments = arguments
    return run_to_the_end


async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)


async def test_a_delivered_file_says_so_and_is_sent_again_only_on_request(tmp_path, sandbox, run):
    (tmp_path / "jobs.ndjson").write_bytes(job_lines(0, 100))
    await run("jobs.ndjson")

    again = await run("jobs.ndjson")
    assert (again.code, again.summary["read"]) == (0, 0)
    assert "jobs.ndjson was already delivered on 20" in again.text
    assert "--restart to send it again" in again.text
    assert sandbox.summary()["taken"] == 100

    restarted = await run("--restart", "jobs.ndjson")
    assert (restarted.code, restarted.summary["delivered"]) == (0, 100)
    assert sandbox.summary()["duplicates"] == 100


async def test_a_delivered_file_needs_no_host(tmp_path):
    (tmp_path / "jobs.ndjson").write_bytes(job_lines(0, 10))
    async with Sandbox(SandboxOptions()) as sandbox:
        first = await program("run", "--base-url", sandbox.url, "jobs.ndjson", cwd=tmp_path)

    again = await program("run", "--base-url", sandbox.url, "jobs.ndjson", cwd=tmp_path)

    assert (first.code, again.code) == (0, 0), again.text


async def test_a_grown_file_and_new_files_go_on(tmp_path, sandbox, run):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.ndjson").write_bytes(job_lines(0, 50))
    (tmp_path / "in" / "b.ndjson").write_bytes(job_lines(50, 100))
    await run("in")
    with (tmp_path / "in" / "a.ndjson").open("ab") as file:
        file.write(job_lines(100, 120))
    (tmp_path / "in" / "c.ndjson").write_bytes(job_lines(120, 130))

    again = await run("in")

    assert (again.code, again.summary["delivered"]) == (0, 30)
    assert (sandbox.summary()["unique"], sandbox.summary()["duplicates"]) == (130, 0)


async def test_checkpoints_among_the_inputs_are_no_inputs(tmp_path, run):
    (tmp_path / "jobs.ndjson").write_bytes(job_lines(0, 10))
    await run("--state-dir", ".", "jobs.ndjson")

    again = await run("--state-dir", ".", "--restart", "*")

    assert (again.code, again.summary["read"]) == (0, 10)


async def test_checkpoints_are_private_and_hold_neither_key_nor_identifiers(tmp_path, run):
    (tmp_path / "jobs.ndjson").write_bytes(job_lines(0, 100))

    await run("--state-dir", "my/state", "jobs.ndjson")

    assert stat.S_IMODE((tmp_path / "my" / "state").stat().st_mode) == 0o700
    (checkpoint,) = (tmp_path / "my" / "state").iterdir()
    assert stat.S_IMODE(checkpoint.stat().st_mode) == 0o600
    assert b"marker" not in checkpoint.read_bytes()  # the key of these tests begins with it too


async def test_a_run_shows_when_it_last_wrote_a_checkpoint_and_where_it_went_on(tmp_path, sandbox, run):
    (tmp_path / "jobs.ndjson").write_bytes(job_lines(0, 3_000))
    process = await start(*run.arguments("--rate", 500, "jobs.ndjson"), cwd=tmp_path)
    await until(lambda: sandbox.summary()["taken"] > 500)
    process.kill()
    await process.communicate()
    keyring = Keyring.of_key(KEY)
    settings = Settings(
        http=Http(base_url=sandbox.url),
        state=State(dir=str(tmp_path / STATE)),
        output=Output(dead_letters=str(tmp_path / "dead-letters.ndjson")),
    )
    worker = Worker(settings, [str(tmp_path / "jobs.ndjson")], keyring=keyring)
    seen = []
    worker._on_progress = lambda progress: seen.append((progress.total, worker.look().input_position_bytes))

    summary = await worker.run()

    assert 0 < summary.delivered < 3_000
    assert worker.counts.checkpoint_at is not None
    assert seen[0][1] > 0
    assert seen[-1] == (summary.read, (tmp_path / "jobs.ndjson").stat().st_size)


async def test_a_pipe_has_no_checkpoint(tmp_path, run):
    ended = await run("-", stdin=job_lines(0, 10))

    assert ended.code == 0
    assert not (tmp_path / STATE).exists()


@pytest.mark.parametrize(
    "spoil",
    [lambda data: b"", lambda data: data[:50], lambda data: b"\0" * 300, lambda data: b"x" + data],
    ids=["empty", "cut", "NULs", "changed"],
)
async def test_a_corrupt_checkpoint_is_refused(tmp_path, sandbox, run, spoil):
    (tmp_path / "jobs.ndjson").write_bytes(job_lines(0, 10))
    await run("jobs.ndjson")
    (checkpoint,) = (tmp_path / STATE).iterdir()
    checkpoint.write_bytes(spoil(checkpoint.read_bytes().splitlines(keepends=True)[0]))

    refused = await run("jobs.ndjson")

    assert refused.code == 78
    assert len(refused.text.strip().splitlines()) == 1
    assert checkpoint.name in refused.text
    assert "--restart" in refused.text
    assert sandbox.summary()["taken"] == 10
    assert (await run("--restart", "jobs.ndjson")).code == 0


async def test_a_replaced_or_truncated_file_is_refused(tmp_path, run):
    (tmp_path / "jobs.ndjson").write_bytes(job_lines(0, 10))
    await run("jobs.ndjson")
    for text, says in ((job_lines(1, 20), "replaced"), (job_lines(0, 5), "truncated")):
        (tmp_path / "jobs.ndjson").write_bytes(text)

        refused = await run("jobs.ndjson")

        assert refused.code == 78
        assert f"jobs.ndjson was {says}" in refused.text


async def test_two_workers_on_one_input_are_refused(tmp_path, run):
    (tmp_path / "jobs.ndjson").write_bytes(job_lines(0, 10_000))
    first = await start(*run.arguments("--rate", 100, "jobs.ndjson"), cwd=tmp_path)
    await until((tmp_path / STATE).exists)

    second = await run("jobs.ndjson")
    first.terminate()
    await first.communicate()

    assert second.code == 64
    assert f"another worker, process {first.pid} on" in second.text
    assert first.returncode == 75


async def test_a_second_signal_is_not_a_loss(tmp_path, sandbox, run):
    (tmp_path / "jobs.ndjson").write_bytes(job_lines(0, 3_000))
    process = await start(*run.arguments("--rate", 1000, "jobs.ndjson"), cwd=tmp_path)
    await until(lambda: sandbox.summary()["taken"] > 500)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 75

    assert (await run("jobs.ndjson")).code == 0
    assert sandbox.summary()["unique"] == 3_000
    assert sandbox.summary()["duplicates"] <= 256  # what was in flight and cut


async def test_a_state_directory_that_vanishes_stops_the_run_with_74(tmp_path, sandbox, run):
    (tmp_path / "jobs.ndjson").write_bytes(job_lines(0, 10_000))
    process = await start(*run.arguments("--rate", 500, "jobs.ndjson"), cwd=tmp_path)
    await until(lambda: sandbox.summary()["taken"] > 100)
    shutil.rmtree(tmp_path / STATE)

    _, told = await process.communicate()

    assert process.returncode == 74
    assert b"cannot write the checkpoint" in told
    assert sandbox.summary()["taken"] < 10_000


async def test_a_state_directory_that_cannot_be_made_is_78(tmp_path, run):
    (tmp_path / "jobs.ndjson").write_bytes(job_lines(0, 10))
    (tmp_path / STATE).write_bytes(b"a file")

    refused = await run("jobs.ndjson")

    assert refused.code == 78
    assert "--state-dir" in refused.text


async def test_a_followed_file_is_delivered_as_it_grows_until_a_signal(tmp_path, sandbox, run):
    path = tmp_path / "log.ndjson"
    path.write_bytes(job_lines(0, 10) + b'{"type":"identify",')
    process = await start(*run.arguments("--follow", "log.ndjson"), cwd=tmp_path)
    await until(lambda: sandbox.summary()["unique"] == 10)
    with path.open("ab") as file:
        file.write(b'"user_id":"x","aliases":[]}\n')
    await until(lambda: sandbox.summary()["unique"] == 11)
    path.rename(tmp_path / "log.1")
    path.write_bytes(job_lines(20, 30))
    await until(lambda: sandbox.summary()["unique"] == 21)

    process.terminate()
    _, told = await process.communicate()

    assert process.returncode == 0, told.decode()
    assert json.loads(told.splitlines()[-1])["delivered"] == 21
    assert sandbox.summary()["duplicates"] == 0


async def test_a_pipe_and_a_compressed_file_cannot_be_followed(tmp_path, run):
    (tmp_path / "jobs.gz").write_bytes(b"\x1f\x8b\x08")
    for name, says in (("-", "--follow is for files"), ("jobs.gz", "compressed")):
        refused = await run("--follow", name)

        assert refused.code == 64
        assert says in refused.text
