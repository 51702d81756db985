"""Names and places nobody would choose: a terminal obeys none of them, and each fault is a sentence."""

import asyncio
import os
import pty
import sys

import pytest
from support.faults import identify, lines
from support.program import KEY, program
from support.raw_server import OK, raw_server
from support.sandbox_process import sandbox_process

pytestmark = pytest.mark.process

HOSTILE = (
    b"escape\x1b[31m\x1b]0;title\x07.ndjson",
    b"line\nend.ndjson",
    b"c1\xc2\x9b31m.ndjson",
    b"back\xe2\x80\xaewards.ndjson",
    b"over\rwritten.ndjson",
    b"no utf\xff\xfe.ndjson",
    b"-rf.ndjson",
)
OBEYED = ("\x1b[31m", "\x1b]", "\x07", "\x9b", "\u202e", "\rwritten")


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(HOSTILE):
        (tmp_path / os.fsdecode(name)).write_bytes(lines(identify(number), b"bad \x1b[31m\xc2\x9b31m"))
    return tmp_path


async def at_a_terminal(*arguments, cwd):
    """The exit code, and all that the terminal was told."""
    pid, master_fd = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.environ |= {"PERMUTIVE_API_KEY": KEY, "TERM": "xterm"}
        os.execv(sys.executable, [sys.executable, "-m", "permutive_worker", *arguments])
    told = await asyncio.to_thread(read_all, master_fd)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    os.close(master_fd)
    return os.waitstatus_to_exitcode(status), told.decode()


def read_all(descriptor):
    told = b""
    try:
        while block := os.read(descriptor, 4096):
            told += block
    except OSError:  # so Linux tells the end of a terminal
        pass
    return told


def assert_harmless(told):
    assert [sign for sign in OBEYED if sign in told] == []


async def test_no_name_steers_the_terminal_and_all_are_delivered(folder):
    async with sandbox_process() as sandbox:
        run = ("run", "--base-url", sandbox.url, "--set", "guard.max_failure_ratio=1", ".")
        first = await at_a_terminal(*run, cwd=folder)
        second = await at_a_terminal(*run, cwd=folder)
        ledger = await sandbox.ask("ledger")

    assert (first[0], second[0]) == (3, 0), first[1] + second[1]
    assert ledger["unique"] == len(HOSTILE)
    assert second[1].count("already delivered") == len(HOSTILE)
    for _, told in (first, second):
        assert_harmless(told)


@pytest.mark.parametrize("name", ["gone\x1b[31m\x9b", "gone\u202e", "gone\udcff"])
async def test_a_name_in_a_sentence_does_not_either(tmp_path, name):
    for arguments in (
        ["run", name],
        ["run", "--config", name],
        ["replay", name],
        ["dead-letters", "summarize", name],
    ):
        code, told = await at_a_terminal(*arguments, cwd=tmp_path)

        assert code in (64, 78), told
        assert_harmless(told)
        assert "Traceback" not in told


async def test_a_directory_that_is_gone_is_a_sentence(tmp_path):
    (tmp_path / "jobs.ndjson").write_bytes(lines(identify(1)))
    for arguments in (
        ["run", "jobs.ndjson"],
        ["run", str(tmp_path / "jobs.ndjson")],
        ["run", "--state-dir", str(tmp_path / "state"), str(tmp_path / "jobs.ndjson")],
        ["replay", "dead-letters.ndjson"],
    ):
        (tmp_path / "gone").mkdir()
        process = await asyncio.create_subprocess_exec(
            *(
                "sh",
                "-c",
                'rmdir ../gone; exec "$@"',
                "sh",
                sys.executable,
                "-m",
                "permutive_worker",
                *arguments,
            ),
            cwd=tmp_path / "gone",
            env={**os.environ, "PERMUTIVE_API_KEY": KEY},
            stderr=asyncio.subprocess.PIPE,
        )
        _, told = await process.communicate()

        assert process.returncode == 64, told
        assert told.decode().startswith("permutive-worker: the directory it was started in is gone"), told
        assert told.count(b"\n") == 1


async def test_with_whole_paths_the_directory_is_not_missed(tmp_path):
    (tmp_path / "gone").mkdir()
    (tmp_path / "jobs.ndjson").write_bytes(lines(identify(1)))
    async with raw_server(OK) as server:
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", 'rmdir ../gone; exec "$@"', "sh", sys.executable, "-m", "permutive_worker", "run"),
            *("--base-url", server.url, "--state-dir", tmp_path / "state"),
            *("--dead-letters", tmp_path / "dead.ndjson", tmp_path / "jobs.ndjson"),
            cwd=tmp_path / "gone",
            env={**os.environ, "PERMUTIVE_API_KEY": KEY},
            stderr=asyncio.subprocess.PIPE,
        )
        _, told = await process.communicate()

    assert process.returncode == 0, told


async def test_odd_surroundings_change_nothing(tmp_path):
    odd = {
        "no home": {},
        "ASCII": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
        "no zone": {"TZ": ":Nonsense/Nowhere"},
    }
    async with raw_server(OK) as server:
        for name, variables in odd.items():
            (tmp_path / "jobs é.ndjson").write_bytes(lines(identify(1), b"bad \xff\x1b[31m"))
            told = await program(
                *("run", "--base-url", server.url, "--restart", "--set", "guard.max_failure_ratio=1"),
                *("--log-format", "console", "jobs é.ndjson"),
                cwd=tmp_path,
                env={"PERMUTIVE_API_KEY": KEY, "HOME": "", **variables},
            )
            assert (told.code, told.summary["delivered"]) == (3, 1), (name, told.stderr)
