"""`permutive-worker plan`: what is told before a run, and that nothing happens."""

import gzip
import json
import socket

import pytest
from support.in_process import calling
from support.program import KEY, program

NOBODY: dict = {}  # no key in the environment
HASH = "0" * 64
UUID = "8b0c3c5e-6f0e-4a86-9a43-1f6a9e1f1c11"


def identify(user_id=UUID, **more):
    return json.dumps({"type": "identify", "user_id": user_id, "aliases": [], **more})


def segmentation(events):
    event = {"name": "Pageview", "time": "2026-01-31T12:00:00Z", "properties": {}}
    return json.dumps({"type": "segmentation", "user_id": UUID, "events": [event] * events})


@pytest.fixture
def plan(tmp_path, monkeypatch, capsys):
    call = calling(monkeypatch, capsys, tmp_path)

    def planned(*arguments, env=NOBODY, as_json="--json", lines=None):
        if lines is not None:
            (tmp_path / "lines").write_text("\n".join(lines) + "\n")
            arguments = (*arguments, "lines")
        return call("plan", *filter(None, [as_json]), *arguments, env=env)

    return planned


def test_lines_requests_and_time_are_counted_and_nothing_is_written(tmp_path, plan):
    lines = [identify(), identify("u1"), "", segmentation(25), "{", '{"type":"identify","user_id":"u1"}']
    (tmp_path / "jobs.ndjson").write_text("\n".join(lines) + "\n")

    ended = plan("--rate", "2", "jobs.ndjson")

    told = json.loads(ended.stdout)
    assert ended.code == 3
    assert (told["lines"], told["blank"], told["invalid"]) == (6, 1, 2)
    assert told["jobs"] == {"identify": 2, "segmentation": 1}
    assert told["requests"] == 5
    assert (told["seconds"], told["rate_is_assumed"]) == (2.5, False)
    assert told["reasons"] == {"malformed": 1, "invalid": 1}
    assert told["invalid_lines"]["malformed"][0]["position"] == "jobs.ndjson:5"
    assert told["invalid_lines"]["invalid"] == [
        {"position": "jobs.ndjson:6", "message": "aliases: missing"},
    ]
    assert (told["user_id_is_no_uuid"], told["user_id_is_no_uuid_at"]) == (1, ["jobs.ndjson:2"])
    assert told["stored_bytes"] == (tmp_path / "jobs.ndjson").stat().st_size == told["text_bytes"]
    assert [path.name for path in tmp_path.iterdir()] == ["jobs.ndjson"]


async def test_from_a_pipe_and_without_a_rate_one_is_assumed(tmp_path):
    lines = b"\n".join([identify().encode()] * 1000)
    ended = await program("plan", "--json", cwd=tmp_path, env=NOBODY, stdin=lines)

    told = json.loads(ended.stdout)
    assert ended.code == 0
    assert (told["rate_per_second"], told["rate_is_assumed"], told["seconds"]) == (500, True, 2)


def test_no_connection_is_opened(plan, monkeypatch):
    def refuse(*_):
        raise AssertionError("it opened a connection")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    assert (
        plan("--rate", "5", "--admin", "9000", env={"PERMUTIVE_API_KEY": KEY}, lines=[identify()]).code == 0
    )


def test_inputs_are_those_of_run(tmp_path, plan):
    (tmp_path / "exports").mkdir()
    for number in range(4):
        packed = gzip.compress((identify() + "\n").encode() * (number + 1))
        (tmp_path / "exports" / f"{number}.ndjson.gz").write_bytes(packed)
    (tmp_path / "exports" / "dead-letters.ndjson").write_text("{}\n")

    whole = json.loads((plan("--dead-letters", "exports/dead-letters.ndjson", "exports")).stdout)
    glob = json.loads((plan("exports/*.gz")).stdout)
    shards = [json.loads((plan("--shard", f"{k}/2", "exports/*.gz")).stdout) for k in (1, 2)]

    assert (whole["inputs"], whole["lines"]) == (4, 10)
    assert (glob["inputs"], glob["lines"]) == (4, 10)
    assert sum(shard["lines"] for shard in shards) == 10


def test_the_first_twenty_of_each_reason_are_named(tmp_path, plan):
    (tmp_path / "jobs.ndjson").write_text("{\n" * 30 + "[]\n" + '{"type":"x"}\n')

    told = json.loads((plan("jobs.ndjson")).stdout)
    text = plan("jobs.ndjson", as_json=None).stdout.decode()

    assert len(told["invalid_lines"]["malformed"]) == 20
    assert len(told["invalid_lines"]["invalid"]) == 1
    assert "malformed: 31 lines" in text
    assert "  jobs.ndjson:20  " in text
    assert "  and 11 more" in text
    assert "  jobs.ndjson:32  type: unknown kind" in text


def test_workspaces_are_looked_up_if_there_are_credentials(tmp_path, plan):
    credentials = [
        {"name": "News", "workspace_id": "1", "organisation_id": "1", "api_key": KEY},
        {"name": "Sport", "workspace_id": "2", "organisation_id": "1", "api_key": KEY + "2"},
    ]
    (tmp_path / "keys.json").write_text(json.dumps(credentials))
    lines = [identify(), identify(workspace="Sport"), identify(workspace="2"), identify(workspace="Sprot")]

    ended = plan("--rate", "1", env={"PERMUTIVE_APPLICATION_CREDENTIALS": "keys.json"}, lines=lines)
    without = plan("--rate", "1", lines=lines)

    told = json.loads(ended.stdout)
    assert told["invalid_lines"]["invalid"][0]["position"] == "lines:4"
    assert (told["requests"], told["seconds"]) == (3, 2)  # each workspace has a rate of its own
    assert json.loads(without.stdout)["invalid"] == 0


def test_lines_that_no_workspace_would_take_are_told_as_such(tmp_path, plan):
    credentials = [
        {"name": name, "workspace_id": name, "organisation_id": "top", "api_key": KEY} for name in ("A", "B")
    ]
    (tmp_path / "keys.json").write_text(json.dumps(credentials))

    ended = plan(
        env={"PERMUTIVE_APPLICATION_CREDENTIALS": "keys.json"},
        lines=[identify(), identify(workspace="A")],
        as_json=None,
    )

    assert "(none) 1, A 1" in ended.stdout.decode()
    assert "a run would not start" in ended.stdout.decode()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["redis://localhost/0?stream=jobs"], 64, "a queue cannot be planned"),
        (["nothing.ndjson"], 64, "does not exist"),
        (["--rate", "x", "-"], 64, "must be a number"),
        (["--config", "no.toml"], 78, "cannot be read"),
    ],
)
def test_what_cannot_be_planned_is_refused(arguments, code, says, plan):
    ended = plan(*arguments)

    assert (ended.code, says in ended.text, ended.stdout) == (code, True, b"")


def test_a_file_that_breaks_off_is_planned_as_far_as_it_goes(tmp_path, plan):
    packed = gzip.compress((identify() + "\n").encode() * 100)
    (tmp_path / "jobs.gz").write_bytes(packed[:-8])

    ended = plan("jobs.gz")

    assert ended.code == 74
    assert json.loads(ended.stdout)["lines"] == 100
    assert "ends in the middle" in ended.text


def test_a_line_that_is_too_long_is_told_and_no_identifier_is(tmp_path, plan):
    long = identify("ann@example.com " * 100)
    unhashed = json.dumps(
        {"type": "identify", "user_id": UUID, "aliases": [{"id": "ann@example.com", "tag": "email_sha256"}]}
    )

    ended = plan("--set", "input.max_line_bytes=1000", lines=[long, unhashed])

    assert json.loads(ended.stdout)["reasons"] == {"too_large": 1, "invalid": 1}
    assert b"ann" not in ended.stdout
    assert "ann" not in ended.text
