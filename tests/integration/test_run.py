"""The real program against the sandbox, end to end."""

import gzip
import json
import stat

import pytest
from support.program import KEY, program

from permutive_worker.sandbox.app import Sandbox
from permutive_worker.sandbox.options import SandboxOptions

pytestmark = pytest.mark.process


def identify(number, **more):
    return {"type": "identify", "user_id": f"user-{number}", "aliases": [], "job_id": f"job-{number}", **more}


def lines(*jobs):
    return b"".join((job if isinstance(job, bytes) else json.dumps(job).encode()) + b"\n" for job in jobs)


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
async def sandbox():
    async with Sandbox(SandboxOptions(keep_bodies=True)) as started:
        yield started


async def test_a_file_is_delivered(tmp_path, sandbox):
    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(1000))))

    ended = await program("run", "--base-url", sandbox.url, "jobs.ndjson", cwd=tmp_path)

    assert ended.code == 0, ended.text
    assert ended.stdout == b""
    assert ended.summary["read"] == ended.summary["delivered"] == 1000
    ledger = sandbox.summary()
    assert (ledger["unique"], ledger["duplicates"]) == (1000, 0)
    assert {path.name for path in tmp_path.iterdir()} == {"jobs.ndjson", ".permutive-worker"}


async def test_a_pipe_is_delivered_and_results_go_to_stdout_in_json_lines(tmp_path, sandbox):
    ended = await program(
        "run",
        "--base-url",
        sandbox.url,
        "--results",
        "-",
        cwd=tmp_path,
        stdin=lines(*map(identify, range(50))),
    )

    assert ended.code == 0, ended.text
    results = [json.loads(line) for line in ended.stdout.splitlines()]
    assert {result["job_id"] for result in results} == {f"job-{number}" for number in range(50)}
    first = results[0]
    assert list(first) == [
        "job_id",
        "type",
        "position",
        "status",
        "attempts",
        "requests",
        "elapsed_seconds",
        "response",
    ]
    assert (first["type"], first["status"], first["attempts"], first["requests"]) == ("identify", 200, 1, 1)
    assert first["position"].startswith("stdin:")
    assert first["response"]["user_id"].startswith("user-")


async def test_every_kind_of_line_arrives_as_the_api_wants_it(tmp_path, sandbox):
    event = {
        "name": "Pageview",
        "time": "2026-01-02T03:04:05.678Z",
        "properties": {"a": [1, 2.50, None, True]},
    }
    jobs = lines(
        identify(1, aliases=[{"id": "x", "tag": "t"}, {"id": "y", "tag": "t2", "priority": 5}]),
        {"type": "segmentation", "user_id": "u", "events": [event] * 23, "activations": True},
        {"type": "segmentation", "alias": {"tag": "t", "id": "x"}, "events": [event]},
        {"type": "event", "name": "Buy", "user_id": "u", "properties": {"n": 1}},
    )
    (tmp_path / "jobs.ndjson").write_bytes(jobs)

    ended = await program(
        "run", "--base-url", sandbox.url, "--results", "r.ndjson", "jobs.ndjson", cwd=tmp_path
    )

    assert ended.code == 0, ended.text
    assert ended.summary["requests"] == 6
    results = {result["position"]: result for result in records(tmp_path / "r.ndjson")}
    assert results["jobs.ndjson:2"]["requests"] == 3
    assert results["jobs.ndjson:4"]["status"] == 201
    bodies = [entry["body"] for entry in sandbox.imitation.ledger.entries(0, 100)]
    texts = [body if isinstance(body, str) else json.dumps(body, separators=(",", ":")) for body in bodies]
    assert any(
        '"aliases":[{"id":"x","tag":"t","priority":0},{"id":"y","tag":"t2","priority":5}]' in text
        for text in texts
    )


async def test_the_input_may_be_a_gzip_a_glob_or_a_directory_and_outputs_are_no_inputs(tmp_path, sandbox):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.ndjson").write_bytes(lines(identify(1)))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines(identify(2))) + gzip.compress(lines(identify(3))))
    (folder / "c.txt").write_bytes(b"not an input")
    (folder / ".hidden.ndjson").write_bytes(b"not an input")
    (folder / "dead-letters.ndjson").write_bytes(b"")

    ended = await program(
        "run",
        "--base-url",
        sandbox.url,
        "--dead-letters",
        "in/dead-letters.ndjson",
        "in",
        "in/*.gz",
        cwd=tmp_path,
    )

    assert ended.code == 0, ended.text
    assert ended.summary["delivered"] == 3


async def test_bad_lines_are_dead_letters_with_position_and_bytes_and_the_run_goes_on(tmp_path, sandbox):
    long_line = b'{"type":"identify","user_id":"' + b"x" * 5000 + b'","aliases":[]}'
    bad = (
        lines(
            identify(1),
            b"{not json",
            b"[1, 2]",
            {"type": "teleport"},
            identify(2, aliases=[{"id": "a", "tag": "t"}, {"id": "b", "tag": "t", "priority": True}]),
            b'{"type":"identify","user_id":"\xff"}',
            b"[" * 2000,
            b"",
            long_line,
            identify(3, colour="red"),
        )
        + json.dumps(identify(4)).encode()
    )
    (tmp_path / "jobs.ndjson").write_bytes(b"\xef\xbb\xbf" + bad)

    ended = await program(
        "run", "--base-url", sandbox.url, "--set", "input.max_line_bytes=4000", "jobs.ndjson", cwd=tmp_path
    )

    assert ended.code == 3, ended.text
    summary = ended.summary
    assert (summary["read"], summary["delivered"], summary["dead_lettered"], summary["skipped"]) == (
        11,
        2,
        8,
        1,
    )
    dead = {record["position"].split(":")[1]: record for record in records(tmp_path / "dead-letters.ndjson")}
    assert {number: record["reason"] for number, record in dead.items()} == {
        "2": "malformed",
        "3": "malformed",
        "4": "invalid",
        "5": "invalid",
        "6": "malformed",
        "7": "malformed",
        "9": "too_large",
        "10": "invalid",
    }
    assert dead["2"]["raw"] == "{not json"
    assert dead["5"]["error"]["message"] == "aliases[1].priority: expected int, got bool"
    assert dead["5"]["job"]["job_id"] == "job-2"
    assert "colour" in dead["10"]["error"]["message"]
    assert "raw_base64" in dead["6"]
    assert stat.S_IMODE((tmp_path / "dead-letters.ndjson").stat().st_mode) == 0o600


async def test_a_truncated_gzip_is_delivered_as_far_as_it_goes_and_said_so(tmp_path, sandbox):
    whole = gzip.compress(lines(*map(identify, range(5000))))
    (tmp_path / "cut.ndjson.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "next.ndjson").write_bytes(lines(identify(9999)))

    ended = await program("run", "--base-url", sandbox.url, "cut.ndjson.gz", "next.ndjson", cwd=tmp_path)

    assert ended.code == 74, ended.text
    assert "cut.ndjson.gz" in ended.text
    assert 1000 < ended.summary["delivered"] < 5000
    bodies = {entry["id"] for entry in sandbox.imitation.ledger.entries(0, 10_000)}
    assert "user-9999" in bodies


async def test_type_names_the_kind_of_lines_without_one(tmp_path, sandbox):
    ended = await program(
        "run",
        "--type",
        "identify",
        "--base-url",
        sandbox.url,
        cwd=tmp_path,
        stdin=lines({"user_id": "u", "aliases": []}),
    )
    assert ended.code == 0, ended.text


async def test_rejected_jobs_are_dead_letters_that_replay_delivers_once_they_are_mended(tmp_path, sandbox):
    sandbox.imitation.set_faults("400=1")
    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(20))))
    first = await program("run", "--base-url", sandbox.url, "jobs.ndjson", cwd=tmp_path)
    assert (first.code, first.summary["dead_lettered"]) == (3, 20)
    letters = records(tmp_path / "dead-letters.ndjson")
    assert letters[0]["reason"] == "rejected"
    assert letters[0]["status"] == 400
    assert letters[0]["error"]["request_id"]
    assert len(letters[0]["attempts"]) == 1

    dry = await program("replay", "--dry-run", "dead-letters.ndjson", cwd=tmp_path)
    assert b"20 of 20" in dry.stdout
    none = await program(
        "replay", "--status", "500", "--base-url", sandbox.url, "dead-letters.ndjson", cwd=tmp_path
    )
    assert (none.code, none.summary["skipped"]) == (0, 20)
    again = await program("replay", "--base-url", sandbox.url, "dead-letters.ndjson", cwd=tmp_path)
    assert again.code == 3
    letters = records(tmp_path / "dead-letters.ndjson")
    assert len(letters) == 20
    assert [len(letter["attempts"]) for letter in letters] == [2] * 20
    assert {letter["position"] for letter in letters} == {f"jobs.ndjson:{n}" for n in range(1, 21)}

    sandbox.imitation.set_faults("none")
    mended = await program("replay", "--base-url", sandbox.url, "dead-letters.ndjson", cwd=tmp_path)
    assert (mended.code, mended.summary["delivered"]) == (0, 20)
    assert not (tmp_path / "dead-letters.ndjson.replaying").exists()
    assert not (tmp_path / "dead-letters.ndjson").exists() or not records(tmp_path / "dead-letters.ndjson")
    assert sandbox.summary()["unique"] == 20


async def test_a_replay_that_was_killed_is_finished_first(tmp_path, sandbox):
    sandbox.imitation.set_faults("400=1")
    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(5))))
    await program("run", "--base-url", sandbox.url, "jobs.ndjson", cwd=tmp_path)
    (tmp_path / "dead-letters.ndjson").rename(tmp_path / "dead-letters.ndjson.replaying")
    sandbox.imitation.set_faults("none")

    ended = await program("replay", "--base-url", sandbox.url, "dead-letters.ndjson", cwd=tmp_path)

    assert (ended.code, ended.summary["delivered"]) == (0, 5)
    assert not (tmp_path / "dead-letters.ndjson.replaying").exists()


async def test_a_lossy_api_loses_nothing(tmp_path, sandbox):
    sandbox.imitation.set_faults("500=0.1,reset=0.02,429=0.01,truncate=0.01,400=0.02")
    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(3000))))

    ended = await program(
        "run",
        "--base-url",
        sandbox.url,
        "--set",
        "delivery.backoff_initial_seconds=0.05",
        "jobs.ndjson",
        cwd=tmp_path,
    )

    assert ended.code == 3, ended.text
    summary = ended.summary
    assert summary["read"] == 3000 == summary["delivered"] + summary["dead_lettered"]
    dead = records(tmp_path / "dead-letters.ndjson")
    assert {letter["reason"] for letter in dead} == {"rejected"}
    taken = {entry["id"] for entry in sandbox.imitation.ledger.entries(0, 10_000) if entry["taken"]}
    assert taken | {letter["job"]["user_id"] for letter in dead} == {f"user-{n}" for n in range(3000)}
    assert summary["retries"] > 300
    assert summary["ambiguous"] > 100


async def test_retry_after_pauses_the_lane(tmp_path):
    options = SandboxOptions(rate_limit_per_second=50, burst=20, retry_after_seconds=1)
    async with Sandbox(options) as sandbox:
        (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(60))))
        ended = await program(
            "run", "--base-url", sandbox.url, "--max-in-flight", "8", "jobs.ndjson", cwd=tmp_path
        )

        assert ended.code == 0, ended.text
        assert ended.summary["throttled"] > 0
        arrivals = sandbox.imitation.ledger.arrivals()
    refused_at = None
    for at, status in arrivals:
        if status == 429:
            refused_at = refused_at if refused_at is not None and at - refused_at < 0.5 else at
        elif refused_at is not None and at > refused_at + 0.2:
            assert at >= refused_at + 0.95, "sent during the pause"
            refused_at = None


async def test_the_rate_is_true_from_the_first_second_on(tmp_path, sandbox):
    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(700))))

    ended = await program("run", "--base-url", sandbox.url, "--rate", "200", "jobs.ndjson", cwd=tmp_path)

    assert ended.code == 0, ended.text
    assert sandbox.summary()["peak_per_second"] <= 200 + 10


async def test_a_refused_key_loses_nothing_and_ends_with_77(tmp_path, sandbox):
    sandbox.imitation.set_keys(["another-key"])
    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(100))))

    ended = await program("run", "--base-url", sandbox.url, "jobs.ndjson", cwd=tmp_path)

    assert ended.code == 77, ended.text
    assert ended.summary["dead_lettered"] == 0
    assert "PERMUTIVE_API_KEY" in ended.text
    assert KEY not in ended.text


async def test_the_guard_stops_a_wrong_mapping(tmp_path, sandbox):
    sandbox.imitation.set_faults("400=1")
    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(20_000))))

    ended = await program("run", "--base-url", sandbox.url, "--rate", "2000", "jobs.ndjson", cwd=tmp_path)

    assert ended.code == 4, ended.text
    assert "guard" in ended.text
    assert 100 <= ended.summary["dead_lettered"] < 3000
    assert ended.summary["read"] == ended.summary["dead_lettered"] + ended.summary["returned"]


async def test_several_workspaces_each_have_a_lane_and_a_key(tmp_path, sandbox):
    workspaces = [
        {"name": "eu", "organisation_id": "o", "workspace_id": "o", "api_key": "key-of-the-eu-workspace"},
        {
            "name": "us",
            "organisation_id": "o",
            "workspace_id": "w-us",
            "privateKey": "key-of-the-us-workspace",
        },
    ]
    (tmp_path / "keys.json").write_text(json.dumps(workspaces))
    sandbox.imitation.set_keys(["key-of-the-us-workspace"])

    ended = await program(
        "run",
        "--base-url",
        sandbox.url,
        cwd=tmp_path,
        env={"PERMUTIVE_APPLICATION_CREDENTIALS": "keys.json"},
        stdin=lines(
            identify(1, workspace="us"), identify(2, workspace="w-us"), identify(3, workspace="nowhere")
        ),
    )

    assert ended.code == 3, ended.text
    assert ended.summary["delivered"] == 2
    assert records(tmp_path / "dead-letters.ndjson")[0]["error"]["message"].startswith("workspace:")


async def test_the_summary_is_written_where_it_is_wanted(tmp_path, sandbox):
    ended = await program(
        "run", "--base-url", sandbox.url, "--summary", "s.json", cwd=tmp_path, stdin=lines(identify(1))
    )
    assert json.loads((tmp_path / "s.json").read_text()) == ended.summary
    assert list(ended.summary) == [
        "run_id",
        "read",
        "delivered",
        "dead_lettered",
        "skipped",
        "returned",
        "requests",
        "retries",
        "throttled",
        "ambiguous",
        "elapsed_seconds",
        "average_per_thousand_seconds",
        "exit_code",
    ]


@pytest.mark.parametrize(
    ("arguments", "env", "code", "says"),
    [
        (["run", "missing.ndjson"], None, 64, "missing.ndjson"),
        (["run", "empty"], None, 64, "empty"),
        (["run", "*.nothing"], None, 64, "*.nothing"),
        (["run", "--no-such-flag"], None, 64, "--no-such-flag"),
        (["run", "--rate", "fast", "jobs.ndjson"], None, 64, "--rate"),
        (["run", "--rate", "-1", "jobs.ndjson"], None, 64, "--rate"),
        (["nonsense"], None, 64, "nonsense"),
        (["run", "--api-key", "SECRET", "jobs.ndjson"], None, 64, "PERMUTIVE_API_KEY_FILE"),
        (["run", "--set", "http.timout_seconds=1", "jobs.ndjson"], None, 64, "timeout_seconds"),
        (["run", "jobs.ndjson"], {}, 78, "PERMUTIVE_API_KEY"),
        (["run", "jobs.ndjson"], {"PERMUTIVE_API_KEY_FILE": "/nowhere/key"}, 78, "PERMUTIVE_API_KEY_FILE"),
        (["run", "--results", "/nowhere/r.ndjson", "jobs.ndjson"], None, 78, "/nowhere"),
        (["run", "--dead-letters", "/nowhere/d.ndjson", "jobs.ndjson"], None, 78, "make its directory"),
        (["run", "--dead-letters", "/proc/x.ndjson", "jobs.ndjson"], None, 78, "/proc"),
        (["run", "--summary", "empty", "jobs.ndjson"], None, 78, "name a file, not a directory"),
        (["run", "--summary", "/nowhere/s.json", "jobs.ndjson"], None, 78, "/nowhere/s.json"),
        (["run", "--config", "c.toml", "jobs.ndjson"], None, 78, "UNSET_VARIABLE"),
        (["run", "--base-url", "http://example.com", "jobs.ndjson"], None, 78, "http"),
        (
            ["run", "jobs.ndjson"],
            {"PERMUTIVE_API_KEY": "k" * 20, "PERMUTIVE_WORKER_HTTP__TIMOUT": "1"},
            78,
            "TIMOUT",
        ),
        (
            ["run", "jobs.ndjson"],
            {"PERMUTIVE_API_KEY": "k" * 20, "PERMUTIVE_BATCH_MAX_WORKERS": "x"},
            78,
            "PERMUTIVE_BATCH_MAX_WORKERS",
        ),
        (["replay", "missing.ndjson"], None, 64, "missing.ndjson"),
        (["replay", "jobs.ndjson"], None, 64, "jobs.ndjson"),
    ],
)
async def test_what_is_wrong_is_said_in_a_sentence_before_anything_is_sent(
    tmp_path, arguments, env, code, says
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "jobs.ndjson").write_bytes(lines(identify(1)))
    (tmp_path / "c.toml").write_text('[http]\nbase_url = "${UNSET_VARIABLE}"\n')

    ended = await program(*arguments, cwd=tmp_path, env=env)

    assert ended.code == code, ended.text
    assert says in ended.text
    assert "Traceback" not in ended.text
    assert "SECRET" not in ended.text
    assert len(ended.text.strip().splitlines()) == 1
    assert ended.stdout == b""


async def test_a_host_that_does_not_answer_ends_with_69(tmp_path):
    (tmp_path / "jobs.ndjson").write_bytes(lines(identify(1)))
    ended = await program(
        "run",
        "--timeout",
        "1",
        "--base-url",
        "http://127.0.0.1:9",
        "--log-level",
        "error",
        "jobs.ndjson",
        cwd=tmp_path,
    )
    assert ended.code == 69
    assert "127.0.0.1:9 cannot be reached" in ended.text


async def test_help_of_every_command_has_an_example(tmp_path):
    top = await program("--help", cwd=tmp_path)
    assert top.code == 0
    for command in ("run", "replay", "dead-letters", "sandbox", "demo"):
        assert command in top.stdout.decode()
        told = await program(command, "--help", cwd=tmp_path)
        assert told.code == 0
        assert "permutive-worker" in told.stdout.decode()


async def test_the_demo_proves_that_nothing_was_lost(tmp_path):
    ended = await program("demo", "--jobs", "500", "--faults", "500=0.1", cwd=tmp_path, env={})
    assert ended.code == 0, ended.text
    assert "Nothing was lost." in ended.text


async def test_results_that_cannot_be_written_return_the_lines_of_a_pipe_and_end_with_74(tmp_path, sandbox):
    (tmp_path / "full").symlink_to("/dev/full")
    ended = await program(
        "run",
        "--base-url",
        sandbox.url,
        "--results",
        "full",
        cwd=tmp_path,
        stdin=lines(*map(identify, range(300))),
    )
    assert ended.code == 74, ended.text
    summary = ended.summary
    assert summary["read"] == summary["delivered"] + summary["returned"]
    returned = (tmp_path / "dead-letters.returned.ndjson").read_text().splitlines()
    assert len(returned) == summary["returned"] > 0
