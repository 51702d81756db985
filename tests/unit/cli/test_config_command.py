"""`config show` and `config schema`: what they print is true, usable and without secrets."""

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

from permutive_worker.cli.main import main
from permutive_worker.config import KEYS, Settings, file_schema

ROOT = Path(__file__).parents[3]
SECRET = "hunter2-f00dfeed"


@pytest.fixture
def show(tmp_path, monkeypatch, capsys):
    """Call `config show` with a file, an environment and flags; what it printed."""
    for name in ("PERMUTIVE_API_KEY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*flags, file=None, **environ):
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        if file is not None:
            (tmp_path / "worker.toml").write_text(file)
        with pytest.raises(SystemExit) as ended:
            main(["config", "show", *(["--config", "worker.toml"] if file is not None else []), *flags])
        assert ended.value.code == 0
        return capsys.readouterr().out

    return call


def line_of(told, field):
    return next(line for line in told.splitlines() if field in line)


def test_each_value_says_where_it_came_from(show):
    told = show(
        "--timeout",
        "3",
        "--set",
        "log.format=json",
        file='[rate_limit]\nrate_per_second = 500\n[delivery]\nmax_pending_bytes = "2MiB"\n',
        PERMUTIVE_WORKER_LOG__LEVEL="debug",
        PERMUTIVE_RETRY_MAX_RETRIES="4",
    )

    assert line_of(told, "rate_per_second") == "rate_per_second = 500  # from worker.toml"
    assert line_of(told, "max_pending_bytes") == "max_pending_bytes = 2097152  # from worker.toml"
    assert line_of(told, "timeout_seconds") == "timeout_seconds = 3  # from --timeout"
    assert line_of(told, "format") == 'format = "json"  # from --set log.format'
    assert line_of(told, "level") == 'level = "debug"  # from PERMUTIVE_WORKER_LOG__LEVEL'
    assert line_of(told, "max_attempts") == "max_attempts = 4  # from PERMUTIVE_RETRY_MAX_RETRIES"
    assert line_of(told, "drain_seconds") == "drain_seconds = 20  # default"
    assert line_of(told, "burst") == "# burst is not set"


def test_every_key_is_there_and_what_is_printed_is_a_file_again(show, tmp_path):
    told = show(
        "--results",
        'odd "name"\\\t\x7f',
        "--rate",
        "1.5",
        file='[output]\ndead_letters = "${PLACE}/dead.ndjson"\n',
        PLACE="/data",
    )
    (tmp_path / "again.toml").write_text(told)

    assert all(key.field in told for key in KEYS.values())
    again = Settings.load(tmp_path / "again.toml", {"PLACE": "/data"})
    assert again.output.results == 'odd "name"\\\t\x7f'
    assert again.output.dead_letters == "/data/dead.ndjson"
    assert again.rate_limit.rate_per_second == 1.5
    assert again == Settings.load(tmp_path / "worker.toml", {"PLACE": "/data"}, {
        "output.results": 'odd "name"\\\t\x7f', "rate_limit.rate_per_second": 1.5
    })  # fmt: skip


@pytest.mark.parametrize(
    "url",
    [f"redis://ann:{SECRET}@host/0", f"redis://:{SECRET}@host/0", f"redis://ann:{SECRET}@x/{SECRET}@host/0"],
)
def test_secrets_are_not_shown(url, show):
    told = show(
        "--rate",
        "5",
        "--set",
        f"rate_limit.shared={url}",
        file='[input]\nworkspace = "${WHERE}"\n',
        WHERE=SECRET,
        PERMUTIVE_API_KEY=SECRET,
        PERMUTIVE_WORKER_SOURCE__PASSWORD=SECRET,
        https_proxy=f"http://ann:{SECRET}@proxy:3128",
        all_proxy=f"ann:{SECRET}@proxy:3128",
    )

    assert SECRET not in told
    assert "@host/0" in line_of(told, "shared")
    assert line_of(told, "workspace") == 'workspace = "${WHERE}"  # from worker.toml'
    assert "# PERMUTIVE_API_KEY is set: [hidden]" in told
    assert "# https_proxy is set: http://[hidden]@proxy:3128" in told
    assert tomllib.loads(told)


def test_the_schema_is_one_and_has_every_key():
    schema = file_schema()
    jsonschema.Draft202012Validator.check_schema(schema)

    for key in KEYS.values():
        told = schema["properties"][key.section]["properties"][key.field]
        assert told["description"] == key.help
        assert told.get("default") == key.default
        text = json.dumps(told)
        assert all(f'"{choice}"' in text for choice in key.choices)


@pytest.mark.parametrize("path", ["deploy/worker.example.toml"])
def test_files_that_we_show_are_of_the_schema(path):
    jsonschema.Draft202012Validator(file_schema()).validate(tomllib.loads((ROOT / path).read_text()))


def test_defaults_are_of_the_schema(show):
    jsonschema.Draft202012Validator(file_schema()).validate(tomllib.loads(show()))


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        ("[http]\ntimeout_seconds = 0", False),
        ("[http]\ntimeout_seconds = 0.1", True),
        ("[http]\ntimeout_seconds = '${SECONDS}'", True),
        ("[http]\ntimeout_seconds = '5'", False),
        ("[http]\nwire = 'fast'", False),
        ("[input]\ntype = 'identfy'", False),
        ("[input]\nmax_line_bytes = '1 MiB'", True),
        ("[input]\nmax_line_bytes = '1 mile'", False),
        ("[rate_limit]\nrate = 5", False),
        ("[ratelimit]", False),
    ],
)
def test_the_schema_refuses_what_the_program_refuses(text, sound, tmp_path):
    path = tmp_path / "worker.toml"
    path.write_text(text)
    valid = jsonschema.Draft202012Validator(file_schema()).is_valid(tomllib.loads(text))

    try:
        Settings.load(path, {"SECONDS": "5"})
        taken = True
    except ValueError:
        taken = False

    assert (valid, taken) == (sound, sound)
