"""`permutive-worker check`: what is sound, what is not, and what to do; with --connect whether the key works."""

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager, suppress
from functools import partial

import pytest
import trustme
from support.in_process import calling
from support.program import KEY

GOOD, PUBLIC, BAD = "good-key-0001", "public-key-0001", "bad-key-00001"


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    return partial(calling(monkeypatch, capsys, tmp_path), "check")


@contextmanager
def sandbox_process(*options):
    """A sandbox on a free port; gives its URL."""
    command = [sys.executable, "-m", "permutive_worker", "sandbox", "--port=0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield re.findall(r"http://[0-9.:]+", process.stderr.readline())[0]
        finally:
            process.terminate()


def marks(ended) -> dict[str, str]:
    """What was looked at, and its sign."""
    lines = ended.stdout.decode().splitlines()
    return {line[2:].split("  ")[0]: line[0] for line in lines}


def line_of(ended, what) -> str:
    return next(line for line in ended.stdout.decode().splitlines() if line[2:].startswith(what))


def test_a_sound_configuration_is_told_line_by_line_and_nothing_is_made(tmp_path, check):
    (tmp_path / "jobs.ndjson").write_text('{"type":"identify"}\n')

    ended = check("--results", "done.ndjson", "--rate", "500", "--admin", "0", "jobs.ndjson")

    assert ended.code == 0
    assert set(marks(ended).values()) == {"✓"}
    assert {
        "settings",
        "key",
        "dead letters",
        "results",
        "state",
        "inputs",
        "API",
        "proxy",
        "rate",
        "wire",
    } <= {*marks(ended)}
    assert "500 requests a second" in line_of(ended, "rate")
    assert KEY not in ended.stdout.decode() + ended.text
    assert [path.name for path in tmp_path.iterdir()] == ["jobs.ndjson"]


def test_everything_that_is_wrong_is_told_at_once(tmp_path, check):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        arguments = ["--dead-letters", "no/dead.ndjson", "--summary", ".", "--admin", str(port), "nothing"]
        ended = check(*arguments, "--set", "state.dir=jobs/state", env={})

    assert ended.code == 78
    bad = {what for what, mark in marks(ended).items() if mark == "✗"}
    assert bad == {"key", "dead letters", "summary", "inputs", "admin"}
    assert "make its directory" in line_of(ended, "dead letters")
    assert "set PERMUTIVE_API_KEY_FILE" in line_of(ended, "key")


@pytest.mark.parametrize(
    ("arguments", "env", "code", "says"),
    [
        (["nothing.ndjson"], None, 64, "does not exist"),
        (["redis://localhost/0?strem=jobs"], None, 78, "did you mean stream?"),
        (["--workspace", "Nobody"], None, 78, "no credentials for workspace"),
        ([], {"PERMUTIVE_WORKER_LOG__LEVL": "x"}, 78, "did you mean PERMUTIVE_WORKER_LOG__LEVEL?"),
        (["--results", "dead-letters.ndjson"], None, 78, "are the same file"),
        (["--metrics-file", "dead-letters.ndjson"], None, 78, "are the same file"),
        ([], {"PERMUTIVE_API_KEY": KEY, "https_proxy": "socks5://u:s3cret@h"}, 78, "https_proxy must be"),
        (["--rate", "5", "--set", "rate_limit.shared=http://h"], None, 78, "must be a URL such as redis://"),
    ],
)
def test_what_a_run_would_refuse_ends_with_its_code(arguments, env, code, says, check):
    ended = check(*arguments, env=env)

    assert (ended.code, says in ended.stdout.decode()) == (code, True)
    assert b"s3cret" not in ended.stdout


def test_a_key_file_that_others_can_read_is_a_warning(tmp_path, check):
    (tmp_path / "key").write_text(KEY)
    os.chmod(tmp_path / "key", 0o644)

    ended = check(env={"PERMUTIVE_API_KEY_FILE": "key"})

    assert ended.code == 0
    assert any(
        line.startswith("! key") and "chmod 600" in line for line in ended.stdout.decode().splitlines()
    )


def test_signs_are_words_where_the_terminal_has_no_others(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "permutive_worker", "check"],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PERMUTIVE_API_KEY": KEY, "PYTHONIOENCODING": "ascii"},
        stdout=subprocess.PIPE,
    )

    assert ended.stdout.decode("ascii").startswith("ok   settings")


@pytest.mark.parametrize(
    ("key", "code", "mark", "says"),
    [
        (GOOD, 0, "✓", "lets it list cohorts"),
        (PUBLIC, 0, "!", "identify and events may be allowed"),
        (BAD, 77, "✗", "refuses it with 401"),
    ],
)
def test_the_key_is_tried_by_a_call_that_changes_nothing(key, code, mark, says, check):
    with sandbox_process("--api-key", GOOD, "--public-key", PUBLIC) as url:
        ended = check("--connect", "--base-url", url, env={"PERMUTIVE_API_KEY": key})
        with urllib.request.urlopen(f"{url}/_sandbox/ledger") as told:
            ledger = json.load(told)

    assert ended.code == code
    line = line_of(ended, "key works")
    assert (line[0], says in line) == (mark, True)
    assert ledger["by_endpoint"] == {"cohort.list": 1}
    assert ledger["taken"] == 0
    assert key not in ended.stdout.decode() + ended.text


@pytest.mark.parametrize(
    ("faults", "code", "says"),
    [("500=1", 69, "answers 500"), ("429=1", 75, "slow down"), ("reset=1", 69, "reset")],
)
def test_an_answer_that_says_nothing_of_the_key_is_no_success(faults, code, says, check):
    with sandbox_process("--faults", faults) as url:
        ended = check("--connect", "--base-url", url)

    assert (ended.code, says in line_of(ended, "key works")) == (code, True)


def test_a_host_that_does_not_answer_is_69_and_no_key_is_tried(check):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        ended = check("--connect", "--base-url", f"http://127.0.0.1:{nobody.getsockname()[1]}")

    assert ended.code == 69
    assert marks(ended)["connection"] == "✗"
    assert "key works" not in marks(ended)


def test_a_queue_that_is_not_there_is_69(check):
    with sandbox_process() as url:
        ended = check("--connect", "--base-url", url, "redis://127.0.0.1:1/0?stream=jobs")

    assert ended.code == 69
    assert (marks(ended)["inputs"], marks(ended)["queue"]) == ("✓", "✗")


@pytest.mark.parametrize(
    ("inputs", "mark"),
    [(["jobs.ndjson"], "✗"), ([], "!"), (["-"], None), (["redis://h/0?stream=jobs"], None)],
)
def test_a_place_for_checkpoints_is_needed_for_files_only(inputs, mark, tmp_path, check):
    (tmp_path / "jobs.ndjson").touch()

    ended = check("--state-dir", "jobs.ndjson/state", *inputs)

    assert marks(ended).get("state") == mark
    assert ended.code == (78 if mark == "✗" else 0)


def test_a_certificate_that_nobody_trusts_is_told(tmp_path, check):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            with suppress(OSError):
                context.wrap_socket(server.accept()[0], server_side=True).close()

        answering = threading.Thread(target=answer, daemon=True)
        answering.start()
        ended = check("--connect", "--base-url", f"https://127.0.0.1:{server.getsockname()[1]}")
        answering.join()

    assert ended.code == 69
    assert "http.ca_file" in line_of(ended, "connection")
    assert "key works" not in marks(ended)


def test_a_file_of_authorities_and_one_of_metrics_are_looked_at(tmp_path, check):
    (tmp_path / "ca.pem").write_text("no certificate")

    ended = check("--connect", "--set", "http.ca_file=ca.pem", "--set", "output.metrics=no/metrics.prom")

    assert ended.code == 78
    assert {what for what, mark in marks(ended).items() if mark == "✗"} >= {"CA file", "metrics file"}
