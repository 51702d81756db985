"""The flags that set keys, one decorator for every command that has them.

A flag stands beside its key in `config.settings`; here it becomes a click option. What is wrong on the
command line is a usage error, told by the sentence the key has for it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from permutive_worker.cli.secrets import refusal
from permutive_worker.config import KEYS, Key, Loaded, Settings, is_secret, load_with_origins, unknown_name
from permutive_worker.jobs.decode import KINDS

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Any], Any]

_CONNECTION: Final = ("http.base_url", "http.allow_http", "http.timeout_seconds", "input.workspace")


def settings_options(command: Command) -> Command:
    """Give a command every flag that sets a key, `--config` and `--set`.

    The command takes them as `**options` and hands them to `settings_from_options`.
    """
    flags = [_flag(key) for key in KEYS.values() if key.flag]
    for decorate in reversed([_config_flag(), *flags, _set_flag()]):
        command = decorate(command)
    return command


def connection_options(command: Command) -> Command:
    """Give a command the flags that say where the API is and with whose key, `--config` and `--set`."""
    flags = [_flag(KEYS[name]) for name in _CONNECTION]
    for decorate in reversed([*flags, _config_flag(), _set_flag()]):
        command = decorate(command)
    return command


def settings_from_options(options: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """Return the settings a command line asks for, on top of environment and file.

    `options` is what click gave to a command under one of the decorators above; others in it are left alone.

    Raises:
        ConfigurationError: see `load_settings`.
    """
    return loaded_from_options(options, environ).settings


def loaded_from_options(options: Mapping[str, Any], environ: Mapping[str, str]) -> Loaded:
    """Do as `settings_from_options`, and tell where each value came from."""
    overrides: dict[str, Any] = {}
    spelling: dict[str, str] = {}
    for name, value in options["set"]:
        overrides[name], spelling[name] = value, f"--set {name}"
    for key in KEYS.values():  # a flag of its own is the more deliberate one
        if key.flag and options.get(_parameter(key)) is not None:
            overrides[key.name], spelling[key.name] = options[_parameter(key)], key.flag
    return load_with_origins(options["config"], environ, overrides, spelling)


def _assignment(text: str, ctx: click.Context) -> tuple[str, Any]:
    """Read `section.key=value`."""
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError("--set takes section.key=value, such as http.timeout_seconds=5", ctx)
    name = name.strip()
    if name not in KEYS and is_secret(name):
        raise click.UsageError(refusal(f"--set {name}"), ctx)
    if problem := unknown_name(name, "is no key of the configuration", KEYS):
        raise click.UsageError(f"--set {problem}", ctx)
    return name, _value(KEYS[name], value, f"--set {name}", ctx)


def _value(key: Key, text: str, label: str, ctx: click.Context) -> Any:
    """Read the text of a flag as a value of its key."""
    value = key.parse(text)
    if fault := key.fault(value):
        raise click.UsageError(f"{label} {fault}{key.shown(value)}", ctx)
    return value


def _config_flag() -> Decorator:
    return click.option(
        "--config",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Read settings from a TOML file; ${VARIABLE} in it comes from the environment.",
    )


def _set_flag() -> Decorator:
    return click.option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        multiple=True,
        shell_complete=_keys_for,
        callback=lambda ctx, _param, given: [_assignment(one, ctx) for one in given],
        help="Set any key of the configuration; repeatable.",
    )


def _flag(key: Key) -> Decorator:
    flag = key.flag or ""
    if key.default is False:
        return click.option(flag, _parameter(key), is_flag=True, flag_value=True, default=None, help=key.help)
    default = "none" if key.default is None else key.default
    return click.option(
        flag,
        _parameter(key),
        metavar=key.metavar or "|".join(key.choices),
        shell_complete=partial(_words_for, key),
        callback=lambda ctx, _param, text: None if text is None else _value(key, text, flag, ctx),
        help=f"{key.help} [default: {default}]",
    )


def files_for(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[CompletionItem]:
    """The `shell_complete` of an input: the shell knows its files itself."""
    return [CompletionItem(begun, type="file")]


def _words_for(key: Key, _ctx: click.Context, _param: click.Parameter, begun: str) -> list[CompletionItem]:
    """What the shell may complete the value of a flag to."""
    match key.metavar:
        case "PATH" | "PATH|-" | "FILE":
            return [CompletionItem(begun, type="file")]
        case "DIR":
            return [CompletionItem(begun, type="dir")]
        case "KIND":
            words: Sequence[str] = KINDS
        case _:
            words = key.choices
    return [CompletionItem(word) for word in words if word.startswith(begun)]


def _keys_for(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[CompletionItem]:
    return [CompletionItem(f"{name}=", help=key.help) for name, key in KEYS.items() if name.startswith(begun)]


def _parameter(key: Key) -> str:
    return key.name.replace(".", "_")
