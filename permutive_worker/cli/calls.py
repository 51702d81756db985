"""What the verbs of `permutive-worker api` have in common: a client, one call, and its answer on stdout."""

import inspect
import os
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import click
import msgspec

from permutive_worker.cli.loops import run_in_loop
from permutive_worker.cli.options import connection_options, settings_from_options
from permutive_worker.config import Settings
from permutive_worker.credentials import load_keyring
from permutive_worker.errors import (
    ApiConnectionError,
    ApiError,
    AuthenticationError,
    DecodingError,
    KeyRefusedError,
    RateLimitError,
    ServerError,
    ThrottledTooLong,
    UnreachableError,
    UsageError,
    WorkerError,
)
from permutive_worker.permutive.client import PermutiveClient
from permutive_worker.permutive.models import Answer

# How a call that failed ends the program; the first that fits.
_ENDS: Final[Mapping[type[ApiError], type[WorkerError]]] = {
    AuthenticationError: KeyRefusedError,
    RateLimitError: ThrottledTooLong,
    ServerError: UnreachableError,
    ApiConnectionError: UnreachableError,
    DecodingError: UnreachableError,
    ApiError: UsageError,
}
_CELL_CHARACTERS: Final = 60
_FOLDED_COLUMNS: Final = 36  # a UUID stays whole, to be copied
_MARGIN_COLUMNS: Final = 3  # of each column of a table: its border and two spaces

Verb = Callable[..., Any]


def verb(group: click.Group, name: str, *examples: str) -> Callable[[Verb], click.Command]:
    """Make a function of a client a command of `group`.

    What it returns is printed: an answer, several, or nothing. Its first docstring line is the help.
    """
    epilog = "\b\nExample:\n" + "\n".join(f"  permutive-worker api {example}" for example in examples)

    def decorate(function: Verb) -> click.Command:
        own: list[click.Parameter] = getattr(function, "__click_params__", [])
        names = [str(parameter.name) for parameter in own]

        def command(**given: Any) -> None:
            arguments = {name: given[name] for name in names}
            run_call(function, arguments, settings_from_options(given, os.environ), table=given["table"])

        table = click.option(
            "--table", is_flag=True, help="Print a table for people, not a line of JSON each."
        )
        decorated: Any = table(connection_options(command))
        decorated.__click_params__ += own  # click reads them backwards: the verb's own come first
        return group.command(name, epilog=epilog, help=function.__doc__)(decorated)

    return decorate


def run_call(function: Verb, arguments: Mapping[str, Any], settings: Settings, *, table: bool) -> None:
    """Call, and print what came.

    Raises:
        WorkerError: it failed; with the exit code for that.
    """
    try:
        run_in_loop(_call(function, arguments, settings, table=table))
    except ApiError as error:
        notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
        end = next(end for kind, end in _ENDS.items() if isinstance(error, kind))
        raise end(f"{error}{notes}") from None


async def _call(function: Verb, arguments: Mapping[str, Any], settings: Settings, *, table: bool) -> None:
    http, keyring = settings.http, load_keyring(os.environ)
    client = PermutiveClient(
        credentials=keyring,
        workspace=settings.input.workspace,
        base_url=None if http.base_url == Settings().http.base_url else http.base_url,
        allow_http=http.allow_http,
        timeout=http.timeout_seconds,
        ca_file=http.ca_file,
    )
    async with client:
        result = function(client, **arguments)
        result = await result if inspect.isawaitable(result) else result
        if table:
            _print_table([one async for one in _several(result)], keyring.scrub_text)
            return
        async for one in _several(result):
            click.echo(keyring.scrub(msgspec.json.encode(_plain(one))))


async def _several(result: Any) -> AsyncIterator[Any]:
    if isinstance(result, AsyncIterator):
        async for one in result:
            yield one
    else:
        for one in result if isinstance(result, list) else [result] * (result is not None):
            yield one


def _plain(one: Any) -> Any:
    """What the API sent, as it sent it."""
    return one.raw if isinstance(one, Answer) else one


def _print_table(items: list[Any], scrub: Callable[[str], str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [row for row in map(_plain, items) if isinstance(row, dict)]
    headings = list(dict.fromkeys(name for row in rows for name in row))
    cells = {heading: [scrub(_cell(row.get(heading))) for row in rows] for heading in headings}
    widths = {heading: max(map(len, (heading, *cells[heading]))) for heading in headings}
    console = Console()
    if not console.is_terminal:  # nobody's width: as wide as it is
        console.width = max(console.width, sum(widths.values()) + _MARGIN_COLUMNS * len(widths) + 1)
    shown = fitting(widths, console.width)
    table = Table()
    for heading in shown:
        table.add_column(Text(heading), overflow="fold")
    for row in zip(*(cells[heading] for heading in shown), strict=True):
        table.add_row(*map(Text, row))
    console.print(table)
    if left_out := headings[len(shown) :]:
        click.echo(f"too narrow for {', '.join(left_out)}; without --table all is shown", err=True)


def fitting(widths: Mapping[str, int], room: int) -> list[str]:
    """Return the first columns that fit into so many columns of a terminal, one at least; wide ones may be folded."""
    shown: list[str] = []
    taken = 1
    for heading, width in widths.items():
        taken += min(width, _FOLDED_COLUMNS) + _MARGIN_COLUMNS
        if shown and taken > room:
            break
        shown.append(heading)
    return shown


def _cell(value: Any) -> str:
    """One line that a terminal does not obey."""
    text = "" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if len(shown) <= _CELL_CHARACTERS else f"{shown[:_CELL_CHARACTERS]}…"
