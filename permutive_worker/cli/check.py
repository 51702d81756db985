"""`permutive-worker check`: is this configuration sound, and does the key work?"""

import os
import shutil
import sys
import textwrap
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import click

from permutive_worker.cli.connections import connections
from permutive_worker.cli.findings import Finding, Mark, findings
from permutive_worker.cli.loops import run_in_loop
from permutive_worker.cli.options import files_for, loaded_from_options, settings_options
from permutive_worker.config import Loaded
from permutive_worker.control.exit_code import worst
from permutive_worker.credentials import Keyring, load_keyring
from permutive_worker.errors import ConfigurationError, CredentialsError

_SIGNS: Final = {Mark.GOOD: "✓", Mark.WARNING: "!", Mark.BAD: "✗"}
_PLAIN_SIGNS: Final = {Mark.GOOD: "ok  ", Mark.WARNING: "warn", Mark.BAD: "BAD "}
_COLORS: Final = {Mark.GOOD: "green", Mark.WARNING: "yellow", Mark.BAD: "red"}
_WHAT_COLUMNS: Final = 12
_NARROWEST_COLUMNS: Final = 40

_EPILOG: Final = """\b
Examples:
  permutive-worker check --config worker.toml exports/
  permutive-worker check --connect
  permutive-worker check --connect 'redis://localhost:6379/0?stream=jobs'

It takes the flags of run. With --connect each key lists the cohorts of its workspace, which changes
nothing, and a queue is looked for, not read; no job is ever sent. Nothing is written.

Exit codes: 0 a run would start, 64 an input is missing, 69 something cannot be reached, 75 the API
throttles, 77 the key is refused, 78 the configuration is not sound. A warning (!) changes nothing.
"""


@click.command("check", epilog=_EPILOG, short_help="Say whether a run would start, and what to do if not.")
@click.argument("inputs", nargs=-1, metavar="[INPUT …]", shell_complete=files_for)
@click.option("--connect", is_flag=True, help="Try the connections and the key too.")
@settings_options
def check(inputs: tuple[str, ...], connect: bool, **options: Any) -> int:
    """Look whether a run with this configuration (and INPUT) would start, and say what to do if not."""
    try:
        loaded = loaded_from_options(options, os.environ)
    except ConfigurationError as error:
        for sentence in str(error).splitlines():
            _tell(Finding(Mark.BAD, "settings", sentence))
        return error.exit_code
    return run_in_loop(_check(loaded, inputs, connect=connect))


async def _check(loaded: Loaded, inputs: Sequence[str], *, connect: bool) -> int:
    codes: set[int] = set()
    keyring = _keyring()
    async for finding in _all(loaded, keyring, inputs, connect=connect):
        _tell(finding)
        codes.add(finding.exit_code)
    return worst(codes)


async def _all(
    loaded: Loaded, keyring: Keyring | CredentialsError, inputs: Sequence[str], *, connect: bool
) -> AsyncIterator[Finding]:
    async for finding in findings(loaded, keyring, inputs):
        yield finding
    if connect:
        there = keyring if isinstance(keyring, Keyring) else None
        async for finding in connections(loaded.settings, there, inputs):
            yield finding


def _keyring() -> Keyring | CredentialsError:
    try:
        return load_keyring(os.environ)
    except CredentialsError as error:
        return error


def _tell(finding: Finding) -> None:
    signs = _SIGNS if _can_be_written("✓✗") else _PLAIN_SIGNS
    sign, told = signs[finding.mark], finding.told
    indent = " " * (len(sign) + _WHAT_COLUMNS + 3)
    if sys.stdout.isatty():
        columns = max(shutil.get_terminal_size().columns, _NARROWEST_COLUMNS)
        told = "\n".join(textwrap.wrap(told, columns - len(indent), break_on_hyphens=False)).replace(
            "\n", f"\n{indent}"
        )
        if not os.environ.get("NO_COLOR"):
            sign = click.style(sign, fg=_COLORS[finding.mark])
    click.echo(f"{sign} {finding.what:<{_WHAT_COLUMNS}}  {told}")


def _can_be_written(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
