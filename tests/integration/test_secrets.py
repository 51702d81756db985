"""The key and the identifiers stay where they belong, whatever fails, at debug level."""

import json

import pytest
from support.program import KEY, program

from permutive_worker.sandbox.app import Sandbox
from permutive_worker.sandbox.options import SandboxOptions

pytestmark = pytest.mark.process
IDENTIFIER = "marker-identifier-of-a-reader"


@pytest.mark.parametrize("faults", ["none", "500=1", "reset=1", "400=1", "truncate=1", "503=1", "429=1"])
async def test_neither_key_nor_identifier_is_logged_and_the_key_reaches_no_file(tmp_path, faults):
    job = {"type": "identify", "user_id": IDENTIFIER, "aliases": [{"id": IDENTIFIER + "2", "tag": "t"}]}
    bad = {
        "type": "identify",
        "user_id": IDENTIFIER,
        "aliases": [{"id": IDENTIFIER, "tag": "t", "priority": "x"}],
    }
    lines = "\n".join([json.dumps(job), json.dumps(bad), "{" + IDENTIFIER, ""]).encode()
    async with Sandbox(SandboxOptions(faults=faults)) as sandbox:
        ended = await program(
            "run",
            "--base-url",
            sandbox.url,
            "--log-level",
            "debug",
            "--max-attempts",
            "2",
            "--max-age",
            "2",
            "--set",
            "delivery.backoff_initial_seconds=0.01",
            "--summary",
            "summary.json",
            cwd=tmp_path,
            stdin=lines,
        )
    assert ended.code in (0, 3), ended.text
    assert KEY not in ended.text
    assert IDENTIFIER not in ended.text
    for path in tmp_path.iterdir():
        assert KEY not in path.read_text()
        assert path.stat().st_mode & 0o077 == 0


async def test_an_answer_that_echoes_the_key_is_scrubbed_before_it_is_kept(tmp_path):
    from support.raw_server import raw_server

    said = json.dumps({"error": {"message": f"bad key {KEY}", "code": 1, "status": "Bad"}, "k": KEY}).encode()
    answer = b"HTTP/1.1 400 Bad\r\nLocation: /?k=%b\r\nContent-Length: %d\r\n\r\n%b" % (
        KEY.encode(),
        len(said),
        said,
    )
    async with raw_server(answer) as server:
        ended = await program(
            "run",
            "--base-url",
            server.url,
            "--log-level",
            "debug",
            cwd=tmp_path,
            stdin=b'{"type":"identify","user_id":"u","aliases":[]}\n',
        )
    assert ended.code == 3, ended.text
    kept = (tmp_path / "dead-letters.ndjson").read_text()
    assert "bad key" in kept
    assert KEY not in kept + ended.text


async def test_a_key_is_not_taken_from_the_command_line_nor_repeated(tmp_path):
    ended = await program("run", f"--api-key={KEY}", cwd=tmp_path, env={})
    assert ended.code == 64
    assert KEY not in ended.text
