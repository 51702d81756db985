"""Disks that are full, read-only or gone; files that several write; processes that are killed over them."""

import asyncio
import os
import random
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from support.faults import assert_conserved, ended, identify, lines, running, said
from support.program import program, start
from support.raw_server import raw_server

from permutive_worker.outcomes.ndjson import take_for_replay
from permutive_worker.sandbox.app import Sandbox
from permutive_worker.sandbox.options import SandboxOptions

pytestmark = pytest.mark.process


def fill(directory: Path) -> None:
    with open(directory / "filler", "wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))


def make_read_only(directory: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", directory], check=True)


def take_away(directory: Path) -> None:
    subprocess.run(["umount", "--lazy", directory], check=True)
    directory.rmdir()


BREAKS = {"No space left": fill, "Read-only": make_read_only, "No such file": take_away}
OUTPUTS = {
    "dead letters": ("400 Bad", ["--dead-letters", "small/out.ndjson"]),
    "results": ("200 OK", ["--results", "small/out.ndjson"]),
}


@pytest.mark.parametrize("reason", BREAKS)
@pytest.mark.parametrize("output", OUTPUTS)
async def test_what_cannot_be_written_is_not_acknowledged_and_ends_the_run_with_74(
    tmp_path, small_disk, output, reason
):
    status, arguments = OUTPUTS[output]
    broken = asyncio.Event()

    async def late(writer):
        await broken.wait()
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()

    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(100))))
    async with raw_server(late) as server:
        process = await running(
            "--base-url", server.url, "--max-failure-ratio", "1", *arguments, "jobs.ndjson", cwd=tmp_path
        )
        await server.asked.wait()
        await asyncio.to_thread(BREAKS[reason], small_disk)
        broken.set()
        told = await ended(process)

    assert told.code == told.summary["exit_code"] == 74, told.text
    assert (told.summary["read"], told.summary["returned"]) == (100, 100)
    assert "lost" not in told.summary, "a file can be read again"
    assert f"small/out.ndjson: {reason}" in told.text
    assert len(told.text.strip().splitlines()) == 2, "one sentence and the summary"


@pytest.mark.parametrize("reason", BREAKS)
async def test_lines_of_a_pipe_that_can_go_nowhere_are_lost_and_that_is_said(tmp_path, small_disk, reason):
    broken = asyncio.Event()

    async def late(writer):
        await broken.wait()
        writer.write(b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with raw_server(late) as server:
        process = await running(
            "--base-url",
            server.url,
            "--dead-letters",
            "small/dead.ndjson",
            cwd=tmp_path,
            stdin=asyncio.subprocess.PIPE,
        )
        process.stdin.write(lines(*(identify(number, job_id="x" * 100) for number in range(60))))
        await server.asked.wait()
        await asyncio.to_thread(BREAKS[reason], small_disk)
        broken.set()
        told = await ended(process)

    assert told.code == 74, told.text
    assert_conserved(told.summary)
    assert told.summary["lost"] == told.summary["returned"] == 60


async def test_results_on_a_full_disk_are_whole_lines_of_what_counts_as_delivered(tmp_path, small_disk):
    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(2000))))
    async with Sandbox(SandboxOptions()) as sandbox:
        told = await program(
            "run", "--base-url", sandbox.url, "--results", "small/r.ndjson", "jobs.ndjson", cwd=tmp_path
        )

    written = (small_disk / "r.ndjson").read_bytes() if (small_disk / "r.ndjson").exists() else b""
    assert told.code == 74, told.text
    assert_conserved(told.summary)
    assert written.count(b"\n") == told.summary["delivered"]
    assert written.endswith(b"\n") or not written


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--results", "dead-letters.ndjson"], "the same file"),
        (["--results", "jobs.ndjson"], "the same file"),
        (["--summary", "linked.ndjson"], "the same file"),
    ],
)
async def test_one_file_for_two_things_is_refused_before_anything_is_read(tmp_path, arguments, says):
    (tmp_path / "jobs.ndjson").write_bytes(lines(identify(1)))
    (tmp_path / "linked.ndjson").hardlink_to(tmp_path / "jobs.ndjson")

    told = await program("run", "--base-url", "http://127.0.0.1:9", *arguments, "jobs.ndjson", cwd=tmp_path)

    assert told.code == 78, told.text
    assert says in told.text
    assert len(told.text.strip().splitlines()) == 1
    assert (tmp_path / "jobs.ndjson").read_bytes() == lines(identify(1))


async def test_results_redirected_into_the_input_are_refused(tmp_path):
    (tmp_path / "jobs.ndjson").write_bytes(lines(identify(1)))
    source = os.open(tmp_path / "jobs.ndjson", os.O_RDONLY)
    target = os.open(tmp_path / "jobs.ndjson", os.O_WRONLY | os.O_APPEND)
    process = await start(
        *("run", "--base-url", "http://127.0.0.1:9", "--results", "-"),
        cwd=tmp_path,
        stdin=source,
        stdout=target,
    )
    os.close(source)
    os.close(target)
    told = await ended(process)

    assert (told.code, "stdin and stdout are the same file" in told.text) == (78, True), told.text


@pytest.mark.parametrize("umask", [0o000, 0o077])
async def test_every_file_is_for_its_owner_only_whatever_the_umask(tmp_path, umask):
    async with Sandbox(SandboxOptions(faults="400=0.5,500=0.2")) as sandbox:
        previous = os.umask(umask)
        try:
            process = await running(
                *("--base-url", sandbox.url, "--results", "r.ndjson", "--summary", "s.json", "--rate", "200"),
                cwd=tmp_path,
                stdin=asyncio.subprocess.PIPE,
            )
        finally:
            os.umask(previous)
        (tmp_path / "dead-letters.ndjson").write_bytes(b"torn")
        os.chmod(tmp_path / "dead-letters.ndjson", 0o600)
        process.stdin.write(lines(*map(identify, range(1000))))
        while not (tmp_path / "r.ndjson").exists() or sandbox.summary()["unique"] < 20:
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        await said(process, "run.stopping")
        await ended(process)

    made = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert made == dict.fromkeys(
        (
            "dead-letters.ndjson",
            "dead-letters.ndjson.torn",
            "dead-letters.returned.ndjson",
            "r.ndjson",
            "s.json",
        ),
        0o600,
    )


async def test_two_workers_one_of_them_killed_and_a_replay_on_one_dead_letter_file_lose_nothing(tmp_path):
    common = ("--max-failure-ratio", "1", "--rate", "1500", "--dead-letters", "dead.ndjson")
    for name in "ab":
        jobs = [identify(f"{name}{number}") for number in range(1500)]
        (tmp_path / f"{name}.ndjson").write_bytes(lines(*jobs))
    async with Sandbox(SandboxOptions(faults="400=1", keep_bodies=True)) as sandbox:
        url = ("--base-url", sandbox.url)
        killed, other = [await running(*url, *common, f"{name}.ndjson", cwd=tmp_path) for name in "ab"]
        dead = tmp_path / "dead.ndjson"
        while not dead.exists() or dead.stat().st_size < 100_000:
            await asyncio.sleep(0.01)
        killed.kill()
        first = await program("replay", *url, "--max-failure-ratio", "1", "dead.ndjson", cwd=tmp_path)
        await ended(killed)
        told = await ended(other)
        sandbox.imitation.set_faults("none")
        again = await program("run", *url, *common, "a.ndjson", cwd=tmp_path)
        second = await program("replay", *url, "dead.ndjson", cwd=tmp_path)
        taken = {entry["id"] for entry in sandbox.imitation.ledger.entries(0, 100_000) if entry["taken"]}

    assert (told.code, again.code, first.code, second.code) == (3, 0, 3, 0), first.text + second.text
    assert taken == {f"user-{name}{number}" for name in "ab" for number in range(1500)}


WRITE = """
import sys
from pathlib import Path
from permutive_worker.outcomes.ndjson import LockedAppender

writer, path = sys.argv[1], Path(sys.argv[2])
appender = LockedAppender(path)
group = 0
while True:
    appender.append(b"".join(b"%s-%d-%d %s\\n" % (writer.encode(), group, line, b"x" * 500) for line in range(5)))
    print(f"{writer}-{group}", flush=True)
    group += 1
"""


def test_a_group_that_was_acknowledged_survives_kills_of_all_its_writers(tmp_path):
    path, dice, acknowledged, taken = tmp_path / "dead.ndjson", random.Random(1), set(), []
    for life in range(4):
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITE, f"{life}.{n}", path], stdout=subprocess.PIPE)
            for n in range(3)
        ]
        for writer in writers:
            for _ in range(dice.randint(3, 30)):
                acknowledged.add(writer.stdout.readline().strip().decode())
            if file := take_for_replay(path):
                taken.append(file.rename(tmp_path / f"taken-{len(taken)}"))
            writer.kill()
            acknowledged |= {line.decode() for line in writer.stdout.read().split(b"\n")[:-1]}
            writer.stdout.close()
            writer.wait()
    if path.exists():
        taken.append(path)

    kept = [line for file in taken for line in file.read_bytes().splitlines()]
    whole = {line.split()[0].decode() for line in kept if line.endswith(b"x" * 500)}
    assert {f"{group}-{line}" for group in acknowledged for line in range(5)} <= whole
    assert len(whole) >= len(kept) - 1, "nothing is torn but the last line, and nothing is there twice"
