"""The README is true: its tables, its lines, its commands and its programs, against the code itself."""

import asyncio
import inspect
import re
import shlex
from pathlib import Path

import click
import msgspec
import pytest

import permutive_worker.errors
from permutive_worker.cli.main import cli
from permutive_worker.config import KEYS, Settings
from permutive_worker.config.permutive_api import VARIABLES
from permutive_worker.control.exit_code import ORDER
from permutive_worker.control.guard import FIRST, WINDOW
from permutive_worker.credentials import Keyring
from permutive_worker.destinations.memory import MemoryWire
from permutive_worker.jobs.dead_letter import DeadLetter, parse_dead_letter
from permutive_worker.jobs.decode import KINDS, Decoder, Fault
from permutive_worker.model import Reason, Response, Summary
from permutive_worker.outcomes.results import Result
from permutive_worker.permutive import PermutiveClient
from permutive_worker.sources.memory import MemorySource
from permutive_worker.telemetry.metrics import WorkerCollector
from permutive_worker.worker import Worker

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PREFIX = "permutive_worker_"


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no section {title}"
    return found[1]


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def table(heading: str, text: str = README) -> list[list[str]]:
    """The rows of the table whose first heading this is, as cells without the marks of code."""
    _, found, rest = text.partition(f"\n| {heading} |")
    assert found, f"the README has no table of {heading}"
    rows = []
    for line in rest.split("\n")[2:]:
        if not line.startswith("|"):
            break
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        rows.append([re.sub("^`([^`]*)`$", r"\1", cell.strip()).replace("\\|", "|") for cell in cells])
    return rows


def column(heading: str, text: str = README) -> list[str]:
    return [row[0] for row in table(heading, text)]


def fields(struct: type) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(struct)]


def shown(key) -> str:
    match key.default:
        case None:
            return "none"
        case bool():
            return str(key.default).lower()
        case int() if key.field.endswith("_bytes"):
            return f"{key.default // 1024**2} MiB"
        case float():
            return f"{key.default:g}"
    return str(key.default)


def commands() -> list[str]:
    """Every command line of the program that the README shows."""
    lines = [
        part for block in blocks("sh") for line in block.splitlines() for part in re.split("&&|[|]", line)
    ]
    lines += re.findall(r"`((?:\S+ )*permutive-worker \S[^`]*)`", README)
    return [line for line in lines if re.search(r"permutive-worker (?!\.)[a-z-]", line)]


def arguments_of(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    words = words[: words.index(">")] if ">" in words else words
    program = max(index for index, word in enumerate(words) if word.split("/")[-1] == "permutive-worker")
    return words[program + 1 :]


def parse(arguments: list[str]) -> click.Context:
    """Parse as the program does, and stop before anything is done."""
    name, command = "permutive-worker", cli
    while isinstance(command, click.Group):
        name, command, arguments = command.resolve_command(click.Context(command), arguments)
    return command.make_context(name, arguments)


def test_the_table_of_settings_is_that_of_the_code():
    told = [(row[0], row[1], row[2]) for row in table("flag")]

    assert told == [
        (" ".join(filter(None, (key.flag, key.metavar))), key.name, shown(key)) for key in KEYS.values()
    ]


def test_the_words_a_key_may_be_are_all_named():
    for flag, name, _, meaning in table("flag"):
        for choice in KEYS[name].choices:
            assert f"`{choice}`" in meaning, (flag, choice)


def test_the_example_of_a_configuration_file_is_one(tmp_path):
    (example,) = blocks("toml")
    path = tmp_path / "worker.toml"
    path.write_text(example)

    settings = Settings.load(path, {"HOME": "/home/ann"})

    assert settings.rate_limit.rate_per_second == 500
    assert settings.output.dead_letters == "/home/ann/dead-letters.ndjson"


def test_variables_are_named_as_they_are():
    assert f"`{KEYS['rate_limit.rate_per_second'].variable}=500`" in README
    for variable, (key, _) in VARIABLES.items():
        assert re.search(rf"`{variable}`\s+\(`{key}`\)", README), variable
    for variable in column("variable"):
        assert variable in Path(permutive_worker.credentials.__file__).read_text()


def test_every_exit_code_is_told():
    codes = {
        error.exit_code
        for _, error in inspect.getmembers(permutive_worker.errors, inspect.isclass)
        if hasattr(error, "exit_code")
    }

    assert column("code") == [str(code) for code in sorted({0, 3, 4, 130, *codes, *ORDER})]
    assert f"If several apply: {', '.join(map(str, (*ORDER, 3, 0)))}." in README


def test_the_guard_is_told_as_it_is():
    assert f"the first {FIRST}, or the last {WINDOW:,}, jobs" in README


@pytest.mark.parametrize(
    ("struct", "before"),
    [(Result, "**Results**"), (DeadLetter, "**Dead letters**"), (Summary, "**Summary**")],
)
def test_every_field_of_a_file_is_told(struct, before):
    assert column("field", README.partition(before)[2]) == fields(struct)


def test_examples_of_files_have_only_fields_that_exist():
    examples = blocks("json")
    credentials, result, letter = map(msgspec.json.decode, examples)

    assert isinstance(credentials, list)
    assert list(result) == [name for name in fields(Result) if name in result]
    assert list(letter) == [name for name in fields(DeadLetter) if name in letter]
    assert parse_dead_letter(examples[2].encode()).reason == "invalid"


def test_every_reason_is_told():
    assert column("reason") == [*Reason]


def test_example_lines_are_jobs_and_every_kind_is_told():
    (examples,) = blocks("ndjson")
    jobs = [Decoder().decode(line.encode()) for line in examples.splitlines()]

    assert [job.kind for job in jobs if not isinstance(job, Fault)] == list(KINDS)
    assert column("kind") == list(KINDS)


def test_every_metric_is_told_and_exists():
    wire = MemoryWire(lambda _: Response(200, {}, b"{}"))
    worker = Worker(
        Settings(), source=MemorySource([]), writers={}, wire=wire, keyring=Keyring.of_key("not-a-key")
    )
    asyncio.run(worker.run())

    live = {
        sample.name.removeprefix(PREFIX): set(sample.labels) - {"le"}
        for family in WorkerCollector(worker.counts, worker.look, "1").collect()
        for sample in family.samples
        if not sample.name.endswith(("_count", "_sum"))
    }
    told = {}
    for metric in column("metric"):
        name, _, labels = metric.rstrip("}").partition("{")
        told[name] = set(filter(None, labels.split(",")))

    assert told == {name.removesuffix("_bucket"): labels for name, labels in live.items()}


@pytest.mark.parametrize("line", commands())
def test_every_command_line_is_understood(line):
    assert parse(arguments_of(line)).command.callback is not None


def test_command_lines_were_found():
    names = {parse(arguments_of(line)).command.name for line in commands()}

    assert {"run", "replay", "enqueue", "summarize", "sandbox", "demo", "plan", "check"} | {
        "show",
        "schema",
        "completion",
        "list",
        "create",
        "aliases",
        "identify",
    } == names


@pytest.mark.parametrize(
    "program", blocks("python"), ids=["deliver", "stream", "worker", "deliver by a client", "client"]
)
def test_programs_run(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    exec(compile(program, "README.md", "exec"), {"__name__": "__main__"})  # their own asserts are the test


def test_the_calls_that_replace_those_of_permutive_api_exist():
    client = PermutiveClient(api_key="not-a-real-key")
    told = re.findall(r"permutive\.((?:[a-z_]+\.)*[a-z_]+)", section("The client"))

    for path in set(told) - {"app", "com"}:
        part = client
        for name in path.split("."):
            if path.startswith("in_workspace"):
                break
            part = getattr(part, name)


def test_the_lines_that_ci_runs_are_there():
    for name in ("try", "test"):
        assert re.search(rf"^<!-- ci: {name} -->\n```sh\npython3 -m venv .*\n```$", README, re.MULTILINE)
