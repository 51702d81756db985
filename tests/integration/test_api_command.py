"""`permutive-worker api`, as a process, against the sandbox."""

import json

import click
import pytest
from support.program import KEY, program

from permutive_worker.cli.api import api
from permutive_worker.sandbox.app import Sandbox
from permutive_worker.sandbox.options import SandboxOptions

USER = "2008c38f-dece-4570-976d-87593ed001c3"
EVENT = '{"name": "Pageview", "time": "2026-01-31T12:00:00Z", "properties": {}}'
pytestmark = pytest.mark.process


@pytest.fixture
async def sandbox():
    async with Sandbox(SandboxOptions(api_keys=frozenset({KEY}), keep_bodies=True)) as running:
        yield running


@pytest.fixture
def call(sandbox, tmp_path):
    async def call(*words, env=None):
        return await program("api", *words, "--base-url", sandbox.url, cwd=tmp_path, env=env)

    return call


def lines(ended):
    assert ended.code == 0, ended.text
    return [json.loads(line) for line in ended.stdout.splitlines()]


async def test_cohorts_by_hand(call, tmp_path):
    (tmp_path / "query.json").write_text('{"event": "Pageview"}')

    (made,) = lines(
        await call("cohorts", "create", "--name", "VIP", "--query", "@query.json", "--tag", "a", "--tag", "b")
    )
    (changed,) = lines(
        await call("cohorts", "update", made["id"], "--description", "d", "--state", "Disabled")
    )
    (cleared,) = lines(await call("cohorts", "update", made["id"], "--no-description"))
    (found,) = lines(await call("cohorts", "get", "--name", "VIP"))
    listed = lines(await call("cohorts", "list", "--child-workspaces"))
    assert lines(await call("cohorts", "delete", made["id"])) == []
    gone = await call("cohorts", "get", made["id"])

    assert (made["query"], made["tags"]) == ({"event": "Pageview"}, ["a", "b"])
    assert (changed["description"], changed["state"]) == ("d", "Disabled")
    assert "description" not in cleared
    assert found == cleared
    assert len(listed) == 4
    assert (gone.code, gone.stdout) == (64, b"")
    assert "was answered 404" in gone.text


async def test_imports_and_segments_by_hand(call):
    home = lines(await call("imports", "list"))[0]["id"]
    (made,) = lines(
        await call(
            "segments", "create", home, "--code", "c/1", "--name", "Cars", "--cpm", "2", "--category", "x"
        )
    )
    (changed,) = lines(await call("segments", "update", home, "--code", "c/1", "--name", "Vans"))
    (found,) = lines(await call("segments", "get", home, "--id", made["id"]))
    table = await call("segments", "list", home, "--table")
    (deleted,) = lines(await call("segments", "delete", home, "--code", "c/1"))

    assert lines(await call("imports", "get", home))[0]["id"] == home
    assert (changed["name"], changed["cpm"], found) == ("Vans", 2, changed)
    assert deleted["id"] == made["id"]
    assert "Vans" in table.stdout.decode()
    assert "{" not in table.stdout.decode().split("\n")[0]


async def test_people_by_hand(call, tmp_path):
    (tmp_path / "event.json").write_text(EVENT)

    assert lines(await call("identify", USER, "--alias", "appnexus=1", "--alias", "pxid=2")) == [
        {"user_id": USER}
    ]
    aliases = lines(await call("users", "aliases", USER))
    (member,) = lines(
        await call("segment", USER, "--event", EVENT, "--event", "@event.json", "--activations")
    )
    (other,) = lines(await call("segment", "--alias", "appnexus=1", "--event", EVENT))
    (made,) = lines(await call("users", "create"))

    assert {(alias["tag"], alias["id"]) for alias in aliases} == {("appnexus", "1"), ("pxid", "2")}
    assert member["activations"]["gam"] == member["cohorts"] == other["cohorts"]
    assert made["id"] != USER


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["identify", USER, "--alias", "nonsense"], 64, "TAG=ID"),
        (["segment", USER, "--event", "[]"], 64, "JSON was expected"),
        (["segment", USER, "--event", "@missing.json"], 64, "missing.json cannot be read"),
        (["segment", USER, "--event", '{"nam": "A"}'], 64, "--event"),
        (["cohorts", "get"], 64, "exactly one of"),
        (["cohorts", "get", "--name", "nobody"], 64, "no such cohort"),
        (["segments", "get", "m"], 64, "--id and --code"),
        (["segments", "update", "m", "--code", "c"], 64, "an update needs"),
        (["cohorts", "list", "--api-key", "x"], 64, "not taken from the command line"),
        (["cohorts", "list", "--workspace", "News"], 78, "News"),
    ],
)
async def test_what_is_wrong_is_told_with_its_exit_code(call, words, code, told):
    ended = await call(*words)

    assert (ended.code, ended.stdout) == (code, b"")
    assert told in ended.text
    assert "Traceback" not in ended.text
    assert KEY not in ended.text


async def test_a_refused_key_is_77_and_no_host_69(call, tmp_path):
    refused = await call("cohorts", "list", env={"PERMUTIVE_API_KEY": "another-key-12345"})
    nobody = await program("api", "users", "create", "--base-url", "http://127.0.0.1:9", cwd=tmp_path)

    assert (refused.code, nobody.code) == (77, 69)
    assert "another-key-12345" not in refused.text


def verbs(command=api, name="api"):
    if isinstance(command, click.Group):
        for inner, one in command.commands.items():
            yield from verbs(one, f"{name} {inner}")
    else:
        yield name, command


@pytest.mark.parametrize(("name", "command"), list(verbs()))
def test_every_verb_has_help_that_shows_an_example(name, command):
    words = command.get_help(click.Context(command, info_name=name))

    assert f"permutive-worker {name}" in words.partition("Example:")[2]
    assert command.help
    for option in command.params:
        assert isinstance(option, click.Argument) or option.help or option.hidden, option.name
