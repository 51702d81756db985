from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from permutive_worker.cli.options import loaded_from_options, settings_from_options, settings_options
from permutive_worker.config import KEYS, Loaded, Settings
from permutive_worker.errors import ConfigurationError

MARKER = "f00dfeed-SECRET-8d4c-1fb6c790e1cc"


def invoke(*args: str) -> Result:
    @click.command()
    @settings_options
    @click.option("--restart", is_flag=True)
    def run(**options):
        return loaded_from_options(options, {"PERMUTIVE_WORKER_LOG__LEVEL": "debug"})

    return CliRunner().invoke(run, args, standalone_mode=False)


def load(*args: str) -> Loaded:
    result = invoke(*args)
    assert result.exception is None
    return result.return_value


def refused(*args: str) -> str:
    error = invoke(*args).exception
    assert isinstance(error, click.UsageError)
    return error.format_message()


def test_every_row_of_the_table_has_its_flag():
    flags = {key.flag: name for name, key in KEYS.items() if key.flag}

    assert flags == {
        "--rate": "rate_limit.rate_per_second",
        "--burst": "rate_limit.burst",
        "--max-in-flight": "delivery.max_in_flight",
        "--max-attempts": "delivery.max_attempts",
        "--max-age": "delivery.max_age_seconds",
        "--timeout": "http.timeout_seconds",
        "--allow-http": "http.allow_http",
        "--base-url": "http.base_url",
        "--type": "input.type",
        "--workspace": "input.workspace",
        "--follow": "input.follow",
        "--state-dir": "state.dir",
        "--shard": "input.shard",
        "--processes": "input.processes",
        "--create": "input.create",
        "--results": "output.results",
        "--dead-letters": "output.dead_letters",
        "--summary": "output.summary",
        "--metrics-file": "output.metrics",
        "--max-failures": "guard.max_failures",
        "--max-failure-ratio": "guard.max_failure_ratio",
        "--admin": "admin.listen",
        "--progress": "log.progress",
        "--log-level": "log.level",
        "--log-format": "log.format",
    }


def test_a_flag_that_is_not_given_leaves_the_other_sources():
    loaded = load("--restart")

    assert loaded.settings.log.level == "debug"
    assert loaded.origins["log.level"] == "PERMUTIVE_WORKER_LOG__LEVEL"
    assert loaded.settings.rate_limit == Settings().rate_limit


def test_flags_win_and_are_named_as_the_origin():
    loaded = load("--rate", "250", "--log-level=error", "--results", "-", "--max-failure-ratio", "1")

    assert loaded.settings.rate_limit.rate_per_second == 250
    assert loaded.settings.log.level == "error"
    assert loaded.settings.output.results == "-"
    assert loaded.settings.guard.max_failure_ratio == 1
    assert loaded.origins["rate_limit.rate_per_second"] == "--rate"


def test_set_sets_any_key_and_a_flag_of_its_own_wins():
    loaded = load(
        *("--set", "http.allow_http=true", "--set", "http.base_url=http://a.example.com/x=y/"),
        *("--set", "http.timeout_seconds=5", "--timeout", "7"),
        *("--set", "delivery.max_pending_bytes=2MiB"),
    )

    assert loaded.settings.http.base_url == "http://a.example.com/x=y"
    assert loaded.settings.http.timeout_seconds == 7
    assert loaded.settings.delivery.max_pending_bytes == 2 * 1024 * 1024
    assert loaded.origins["http.allow_http"] == "--set http.allow_http"


def test_config_reads_a_file(tmp_path: Path):
    path = tmp_path / "worker.toml"
    path.write_text('[log]\nlevel = "error"\n[rate_limit]\nburst = 9\n')

    settings = load("--config", str(path)).settings

    assert settings.rate_limit.burst == 9
    assert settings.log.level == "debug"


def test_settings_from_options_gives_the_settings_alone():
    options = {name.replace(".", "_"): None for name, key in KEYS.items() if key.flag}

    assert settings_from_options({**options, "config": None, "set": []}, {}) == Settings()


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--rate", "fast"], "--rate must be a number from 0 to 1,000,000, got 'fast'"),
        (["--rate", "nan"], "--rate must be a number from 0 to 1,000,000, got nan"),
        (["--rate=-1"], "--rate must be a number from 0 to 1,000,000, got -1"),
        (["--burst", "0"], "--burst must be a number from 1 to 1,000,000, got 0"),
        (
            ["--max-attempts", "1.5"],
            "--max-attempts must be a whole number from 1 to 1,000,000,000, got '1.5'",
        ),
        (
            ["--progress", "bra"],
            "--progress must be one of auto, bar, json, off, got 'bra'; did you mean bar?",
        ),
        (["--dead-letters", ""], "--dead-letters must be text that is not empty"),
        (["--set", "log.level"], "--set takes section.key=value, such as http.timeout_seconds=5"),
        (["--set", MARKER], "--set takes section.key=value, such as http.timeout_seconds=5"),
        (
            ["--set", "rate_limt.rate=1"],
            "--set rate_limt.rate is no key of the configuration; did you mean rate_limit.rate_per_second?",
        ),
        (["--set", "http.allow_http=maybe"], "--set http.allow_http must be true or false, got 'maybe'"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_a_usage_error(args, expected):
    assert refused(*args) == expected


def test_a_url_that_cannot_be_meant_names_its_flag():
    error = invoke("--base-url", "http://example.com").exception

    assert isinstance(error, ConfigurationError)
    assert str(error).startswith("--base-url must begin with https://")


def test_help_shows_every_flag_with_its_default_():
    @click.command()
    @settings_options
    def run(**options): ...

    shown = CliRunner().invoke(run, ["--help"], terminal_width=200).output

    assert [key.flag for key in KEYS.values() if key.flag and f"{key.flag} " not in shown] == []
    assert "--rate N" in shown
    assert "--log-level debug|info|warning|error" in shown
    assert "[default: https://api.permutive.app]" in shown
    assert "--allow-http" in shown
