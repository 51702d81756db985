"""The command line as a whole: typos, secrets, help and completion, for every command."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from permutive_worker.cli.main import cli, main

MARKER = "f00dfeed-SECRET-8d4c-1fb6c790e1cc"


def commands(group=cli, path=()):
    """Every command with its path."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


LEAVES = [(path, command) for path, command in commands() if not isinstance(command, click.Group)]


def ids(leaf):
    return " ".join(leaf[0])


@pytest.fixture
def ended(capsys):
    """Call the program in this process: its exit code and what it said on stderr."""

    def call(*argv):
        with pytest.raises(SystemExit) as stopped:
            main(list(argv))
        return stopped.value.code, capsys.readouterr().err

    return call


@pytest.mark.parametrize("leaf", LEAVES, ids=ids)
def test_every_command_says_what_it_does_with_an_example(leaf):
    path, command = leaf
    shown = command.get_help(click.Context(command, info_name=path[-1]))

    assert command.help
    assert "Example" in shown
    assert f"permutive-worker {' '.join(path)}" in shown


@pytest.mark.parametrize("leaf", LEAVES, ids=ids)
def test_no_command_takes_a_secret_from_the_command_line(leaf, ended):
    path, command = leaf
    if any("--api-key" in parameter.opts for parameter in command.params):
        assert path == ("sandbox",)  # it opens nothing: which keys the imitation takes
        return

    code, told = ended(*path, "--api-key", MARKER)

    assert code == 64
    assert "--api-key is not taken from the command line" in told
    assert MARKER not in told


@pytest.mark.parametrize("flag", ["--apikey", "--key", "--token", "--password", "--secret", "--credentials"])
def test_it_is_told_whatever_the_flag_is_called(flag, ended):
    code, told = ended("run", "--rate", "fast", f"{flag}={MARKER}")

    assert code == 64
    assert f"{flag} is not taken from the command line" in told
    assert "set PERMUTIVE_API_KEY_FILE to a file that holds it" in told
    assert MARKER not in told


@pytest.mark.parametrize("name", ["credentials.api_key", "http.token", "source.password"])
def test_no_key_of_the_configuration_is_a_secret(name, ended):
    code, told = ended("run", "--set", f"{name}={MARKER}")

    assert code == 64
    assert f"--set {name} is not taken from the command line" in told
    assert "PERMUTIVE_WORKER_SOURCE__PASSWORD_FILE" in told
    assert MARKER not in told


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("rn", "run"),
        ("summarise", None),
        ("dead-leters summarize x", "dead-letters"),
        ("dead-letters sumarize x", "summarize"),
        ("config shw", "show"),
        ("api cohrts list", "cohorts"),
        ("api cohorts lst", "list"),
        ("replay --reason exhaustd x", "exhausted"),
        ("completion zhs", "zsh"),
        ("run --progress bra", "bar"),
        ("run --log-level warn", "warning"),
        ("run --set http.wire=leen", "lean"),
        ("run --set http.timeout=1", "http.timeout_seconds"),
    ],
)
def test_a_typo_gets_what_was_probably_meant(line, meant, ended):
    code, told = ended(*line.split())

    assert code == 64
    assert f"did you mean {meant}?" in told if meant else "there are " in told


def test_a_flag_and_a_kind_get_it_too(ended):
    code, told = ended("run", "--tpe", "identify")
    assert (code, "--type" in told) == (64, True)

    code, told = ended("run", "--type", "identfy")
    assert (code, "did you mean identify?" in told) == (78, True)


@pytest.mark.parametrize("directory", [".", "/", "here"])
def test_a_directory_is_no_dead_letter_file(directory, ended, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()

    for flags in ([], ["--dry-run"]):
        code, told = ended("replay", *flags, directory)
        assert (code, "is a directory" in told) == (64, True)


def test_a_packed_dead_letter_file_is_left_as_it_is(ended, tmp_path, monkeypatch):
    monkeypatch.setenv("PERMUTIVE_API_KEY", "not-a-real-key")
    monkeypatch.chdir(tmp_path)
    packed = tmp_path / "dead-letters.ndjson.gz"
    packed.write_bytes(content := gzip.compress(b"{}\n"))

    code, told = ended("replay", str(packed))

    assert (code, "gunzip" in told) == (64, True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {packed.name: content}


def test_a_fault_profile_that_is_none_is_told_before_the_demo_begins(ended):
    code, told = ended("demo", "--faults", "stromy")

    assert (code, "is no fault profile" in told) == (64, True)


def run_into(stdout, line):
    command = [sys.executable, "-m", "permutive_worker", *line.split()]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


@pytest.mark.parametrize("line", ["config show", "config schema", "completion bash", "--help"])
def test_a_full_disk_is_no_bug(line):
    with Path("/dev/full").open("w") as full:
        ended = run_into(full, line)

    assert (ended.returncode, ended.stderr) == (
        74,
        "permutive-worker: cannot write: No space left on device\n",
    )


@pytest.mark.parametrize("line", ["config show", "config schema", "completion bash"])
def test_nobody_who_reads_is_no_bug(line):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as nobody:
        ended = run_into(nobody, line)

    assert (ended.returncode, ended.stderr) == (0, "")


def completed(monkeypatch, capsys, line) -> list[str]:
    words = line.split(" ")
    monkeypatch.setenv("_PERMUTIVE_WORKER_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    with pytest.raises(SystemExit):
        main([])
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("permutive-worker pl", ["plain,plan"]),
        ("permutive-worker run --prog", ["plain,--progress"]),
        ("permutive-worker run --progress b", ["plain,bar"]),
        ("permutive-worker run --type i", ["plain,identify"]),
        ("permutive-worker run --set log.f", ["plain,log.format="]),
        ("permutive-worker run --results x", ["file,x"]),
        ("permutive-worker run --state-dir x", ["dir,x"]),
        ("permutive-worker replay --reason ex", ["plain,exhausted", "plain,expired"]),
        ("permutive-worker dead-letters summarize x", ["file,x"]),
        *((f"permutive-worker {command} x", ["file,x"]) for command in ("run", "plan", "check", "enqueue")),
    ],
)
def test_the_shell_completes(line, words, monkeypatch, capsys):
    assert completed(monkeypatch, capsys, line) == words


def test_a_real_bash_completes_commands_and_files(tmp_path: Path):
    program = tmp_path / "permutive-worker"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m permutive_worker "$@"\n')
    program.chmod(0o700)
    (tmp_path / "jobs.ndjson").touch()
    script = """
        eval "$(permutive-worker completion bash)"
        ask() {
            COMP_WORDS=(permutive-worker "$@"); COMP_CWORD=$#; COMPREPLY=()
            _permutive_worker_completion permutive-worker
            echo "$*: ${COMPREPLY[*]}"
        }
        ask dead
        ask run jo
    """
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )

    assert ended.stdout.splitlines()[0] == "dead: dead-letters"
    # For files it says so to bash, which knows them itself.
    assert ended.stdout.splitlines()[1] in ("run jo: ", "run jo: jobs.ndjson")


@pytest.mark.parametrize(
    ("shell", "mark"), [("bash", "complete "), ("zsh", "#compdef"), ("fish", "complete ")]
)
def test_each_shell_gets_its_script(shell, mark, capsys):
    with pytest.raises(SystemExit):
        main(["completion", shell])

    told = capsys.readouterr().out
    assert mark in told
    assert "_PERMUTIVE_WORKER_COMPLETE" in told
