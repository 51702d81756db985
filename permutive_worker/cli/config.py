"""`permutive-worker config`: what is set and by whom, and what may be set."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import click
import msgspec

from permutive_worker.cli.options import loaded_from_options, settings_options
from permutive_worker.cli.printable import printable
from permutive_worker.cli.typos import CommandGroup
from permutive_worker.config import KEYS, SECRET_VARIABLES, Key, Loaded, file_schema, values_of
from permutive_worker.credentials import KEY, KEY_FILE, WORKSPACES

_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_SECRETS: Final = (KEY_FILE, KEY, WORKSPACES, *SECRET_VARIABLES)
_HIDDEN: Final = "[hidden]"

_SHOW_EPILOG: Final = """\b
Examples:
  permutive-worker config show --config worker.toml
  permutive-worker config show --rate 500 > worker.toml

It takes the flags of run. What it prints is a file for --config. Passwords are left out, and a
value that came from ${VARIABLE} is shown as that; of secrets only the variables are named.
"""
_SCHEMA_EPILOG: Final = """\b
Example:
  permutive-worker config schema > worker.schema.json
"""


@click.group(cls=CommandGroup)
def config() -> None:
    """Show the configuration, or the schema of its file."""


@config.command(epilog=_SHOW_EPILOG)
@settings_options
def show(**options: Any) -> None:
    """Print every key with its value and where that came from."""
    for line in _lines(loaded_from_options(options, os.environ), os.environ):
        click.echo(line)


@config.command(epilog=_SCHEMA_EPILOG)
def schema() -> None:
    """Print the JSON schema (draft 2020-12) of the configuration file."""
    click.echo(msgspec.json.format(msgspec.json.encode(file_schema()), indent=2))


def _lines(loaded: Loaded, environ: Mapping[str, str]) -> Iterator[str]:
    values = values_of(loaded.settings)
    section = ""
    for name, key in KEYS.items():
        if key.section != section:
            yield from ([""] if section else [])
            yield f"[{key.section}]"
            section = key.section
        yield _line(key, values[name], loaded)
    told = list(_variables(environ))
    yield from ("", *told) if told else ()


def _variables(environ: Mapping[str, str]) -> Iterator[str]:
    """What else bears on a run, and has no key."""
    for variable in _SECRETS:
        if environ.get(variable, "").strip():
            yield f"# {variable} is set: {_HIDDEN}"
    for name in _PROXIES:
        for variable in (name, name.upper()):
            if value := environ.get(variable, "").strip():
                yield f"# {variable} is set: {printable(_without_user(value))}"


def _line(key: Key, value: Any, loaded: Loaded) -> str:
    origin = loaded.origins[key.name]
    told = "# default" if origin == "default" else f"# from {printable(origin)}"
    if value is None:
        return f"# {key.field} is not set" + ("" if origin == "default" else f"  {told}")
    text = loaded.references.get(key.name)
    if text is None:
        text = _without_password(value) if key.name == "rate_limit.shared" else value
        if text != value:
            told += ", without its password"
    return f"{key.field} = {_toml(text)}  {told}"


def _toml(value: Any) -> str:
    """A value as TOML writes it: as JSON does, but for one character that it wants escaped."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")


def _without_password(url: str) -> str:
    """The URL with the user and without the password, which ends at the last @: it may hold what it should not."""
    return re.sub(r"^([^/]*//[^/?#:@]*):.*@", r"\1@", url, flags=re.DOTALL)


def _without_user(proxy: str) -> str:
    """A proxy, or a list of hosts, without user and password."""
    if "@" not in proxy:
        return proxy
    parts = urlsplit(proxy if "://" in proxy else f"//{proxy}")
    return f"{parts.scheme or 'http'}://{_HIDDEN}@{parts.netloc.rpartition('@')[2]}"
