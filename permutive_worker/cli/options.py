"""The flags that set keys, one decorator for every command that has them.

A flag stands beside its key in `config.settings`; here it becomes a click option. What is wrong on the
command line is a usage error, told by the sentence the key has for it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from permutive_worker.config import KEYS, Key, Loaded, Settings, load_with_origins, unknown_name

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Any], Any]

_TRAPS: Final = ("--api-key", "--key", "--token")  # what people try; refused with what to do instead
_CONNECTION: Final = ("http.base_url", "http.timeout_seconds", "input.workspace")
_NO_KEY_HERE: Final = (
    "The key is not taken from the command line, where everybody on this machine can read it; "
    "set PERMUTIVE_API_KEY_FILE to a file that holds it, or PERMUTIVE_API_KEY"
)


def settings_options(command: Command) -> Command:
    """Give a command every flag that sets a key, `--config` and `--set`.

    The command takes them as `**options` and hands them to `settings_from_options`.
    """
    flags = [_flag(key) for key in KEYS.values() if key.flag]
    for decorate in reversed([_config_flag(), *flags, _set_flag(), *map(_trap, _TRAPS)]):
        command = decorate(command)
    return command


def connection_options(command: Command) -> Command:
    """Give a command the flags that say where the API is and with whose key, `--config` and `--set`."""
    flags = [_flag(KEYS[name]) for name in _CONNECTION]
    for decorate in reversed([*flags, _config_flag(), _set_flag(), *map(_trap, _TRAPS)]):
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
        callback=lambda ctx, _param, given: [_assignment(one, ctx) for one in given],
        help="Set any key of the configuration; repeatable.",
    )


def _flag(key: Key) -> Decorator:
    flag = key.flag or ""
    if key.default is False:
        return click.option(flag, _parameter(key), is_flag=True, flag_value=True, default=None, help=key.help)
    default = "none" if key.default is None else key.default
    if key.default is False:
        return click.option(flag, _parameter(key), is_flag=True, flag_value=True, default=None, help=key.help)
    return click.option(
        flag,
        _parameter(key),
        metavar=key.metavar or "|".join(key.choices),
        callback=lambda ctx, _param, text: None if text is None else _value(key, text, flag, ctx),
        help=f"{key.help} [default: {default}]",
    )


def _trap(flag: str) -> Decorator:
    return click.option(flag, hidden=True, expose_value=False, is_eager=True, callback=_refuse_key)


def _refuse_key(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError(_NO_KEY_HERE, ctx)


def _parameter(key: Key) -> str:
    return key.name.replace(".", "_")
