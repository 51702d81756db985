"""`permutive-worker dead-letters`: what is in a dead-letter file, before it is sent again."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click
import msgspec

from permutive_worker.cli.printable import printable
from permutive_worker.cli.typos import CommandGroup
from permutive_worker.jobs.dead_letter import DeadLetter
from permutive_worker.outcomes.dead_letters import read_dead_letters

_EXAMPLES: Final = 3
_EPILOG: Final = """\b
Examples:
  permutive-worker dead-letters summarize dead-letters.ndjson
  permutive-worker dead-letters summarize --json old-*.ndjson.gz | jq '.groups[0].examples'

Days are those of UTC; examples are the positions of the first lines of each group.
"""
_HEADINGS: Final = ("count", "reason", "status", "code", "day", "examples")


class Group(msgspec.Struct):
    """Dead letters of one reason, status, error code and day (UTC)."""

    reason: str
    status: int | None
    code: int | None
    day: str
    count: int = 0
    examples: list[str] = []  # positions of the first ones; msgspec copies an empty default


class DeadLetterSummary(msgspec.Struct):
    """What `summarize --json` prints.

    Attributes:
        torn: files whose last line breaks off, which is not counted.
    """

    total: int
    files: list[str]
    torn: list[str]
    groups: list[Group]  # the largest first


@click.group("dead-letters", cls=CommandGroup)
def dead_letters() -> None:
    """Look into dead-letter files."""


@dead_letters.command(epilog=_EPILOG, short_help="Count them by reason, status, error code and day.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def summarize(files: tuple[Path, ...], as_json: bool) -> None:
    """Count dead letters by reason, status, error code and day, with examples.

    FILE is a dead-letter file, plain or .gz.
    """
    summary = summarize_files(files)
    for file in summary.torn:
        click.echo(
            f"{printable(str(file))}: the last line breaks off (its writer was killed) and is not counted",
            err=True,
        )
    if as_json:
        click.echo(msgspec.json.encode(summary))
    elif sys.stdout.isatty():
        _print_table(summary)
    else:
        click.echo(_columns(summary))


def summarize_files(files: Iterable[Path]) -> DeadLetterSummary:
    """Read the files one after another, without holding one whole.

    Raises:
        UsageError: a file is missing or no dead-letter file.
    """
    files = list(files)
    torn: list[Path] = []
    groups: dict[tuple[object, ...], Group] = {}
    for file in files:
        for letter in read_dead_letters(file, torn.append):
            _add(groups, letter)
    total = sum(group.count for group in groups.values())
    largest_first = sorted(groups.values(), key=lambda group: -group.count)
    return DeadLetterSummary(total, list(map(str, files)), list(map(str, torn)), largest_first)


def _add(groups: dict[tuple[object, ...], Group], letter: DeadLetter) -> None:
    code = letter.error.code if letter.error is not None else None
    key = (letter.reason, letter.status, code, letter.at.date())
    group = groups.get(key)
    if group is None:
        group = groups[key] = Group(letter.reason, letter.status, code, letter.at.date().isoformat())
    group.count += 1
    if len(group.examples) < _EXAMPLES:
        group.examples.append(letter.position)


def _rows(summary: DeadLetterSummary) -> list[tuple[str, ...]]:
    return [
        (
            str(group.count),
            printable(group.reason),
            "-" if group.status is None else str(group.status),
            "-" if group.code is None else str(group.code),
            group.day,
            printable(" ".join(group.examples)),
        )
        for group in summary.groups
    ]


def _total(summary: DeadLetterSummary) -> str:
    in_files = "1 file" if len(summary.files) == 1 else f"{len(summary.files)} files"
    letters = "1 dead letter" if summary.total == 1 else f"{summary.total} dead letters"
    return f"{letters} in {in_files}"


def _columns(summary: DeadLetterSummary) -> str:
    rows = [_HEADINGS, *_rows(summary)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, _total(summary)])


def _print_table(summary: DeadLetterSummary) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(caption=_total(summary), caption_justify="left")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right" if heading == "count" else "left")
    for row in _rows(summary):
        table.add_row(*map(Text, row))  # Text: square brackets in a file's name are no markup
    Console().print(table)
