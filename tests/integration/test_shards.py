"""Several machines share the files of one input."""

import asyncio
import json

import pytest
from support.program import KEY, program

from permutive_worker.sandbox.app import Sandbox
from permutive_worker.sandbox.options import SandboxOptions

pytestmark = pytest.mark.process


@pytest.fixture
async def sandbox():
    async with Sandbox(SandboxOptions()) as started:
        yield started


@pytest.fixture
def files(tmp_path):
    for number in range(12):
        job = {"type": "identify", "user_id": f"user-{number}", "aliases": []}
        (tmp_path / f"jobs-{number}.ndjson").write_text(json.dumps(job))


async def run(tmp_path, sandbox, shard, **environ):
    return await program(
        *(
            "run",
            "--shard",
            shard,
            "--base-url",
            sandbox.url,
            "--set",
            f"output.dead_letters=dead-{len(environ)}",
        ),
        "jobs-*.ndjson",
        cwd=tmp_path,
        env={"PERMUTIVE_API_KEY": KEY, **environ},
    )


async def test_the_shards_together_deliver_every_file_once(tmp_path, sandbox, files):
    ended = await asyncio.gather(
        run(tmp_path, sandbox, "1/3"),
        run(tmp_path, sandbox, "2/3"),
        run(tmp_path, sandbox, "auto/3", JOB_COMPLETION_INDEX="2"),
    )

    assert [one.code for one in ended] == [0, 0, 0], [one.text for one in ended]
    assert sum(one.summary["delivered"] for one in ended) == 12
    assert (sandbox.summary()["unique"], sandbox.summary()["duplicates"]) == (12, 0)


async def test_a_shard_without_a_file_is_done(tmp_path, sandbox, files):
    ended = [await run(tmp_path, sandbox, f"{number}/200") for number in (1, 2)]

    assert {one.code for one in ended} == {0}


async def test_what_cannot_be_meant_is_one_sentence(tmp_path, sandbox, files):
    unnamed, wrong = await run(tmp_path, sandbox, "auto/3"), await run(tmp_path, sandbox, "4/3")
    piped = await program("run", "--shard", "1/3", "-", cwd=tmp_path)

    assert (unnamed.code, "JOB_COMPLETION_INDEX" in unnamed.text) == (78, True)
    assert (wrong.code, "K/N" in wrong.text) == (78, True)
    assert (piped.code, "is for files" in piped.text) == (64, True)
