"""`permutive-worker plan`: what a run would do, before it does anything."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import click
import msgspec

from permutive_worker.cli.loops import run_in_loop
from permutive_worker.cli.options import files_for, settings_from_options, settings_options
from permutive_worker.cli.printable import printable
from permutive_worker.cli.tally import Found, InvalidLine, Tally
from permutive_worker.config import Settings
from permutive_worker.credentials import KEY, KEY_FILE, WORKSPACES, Keyring, load_keyring
from permutive_worker.errors import CredentialsError, InputError, UsageError
from permutive_worker.jobs.decode import Decoder
from permutive_worker.ports import Source
from permutive_worker.sources.address import is_url
from permutive_worker.sources.files import FileSource
from permutive_worker.sources.stdin import StdinSource
from permutive_worker.telemetry.progress import duration
from permutive_worker.worker.inputs import input_files

BLOCK_BYTES: Final = 256 * 1024
ASSUMED_PER_SECOND: Final = 500.0  # where a run that is to find the rate begins
INVALID: Final = 3  # the exit code: as a run that made dead letters of them
FRAME_SECONDS: Final = 0.25
_BAR_COLUMNS: Final = 30
_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB")

_EPILOG: Final = """\b
Examples:
  permutive-worker plan --rate 500 'exports/*.ndjson.gz'
  permutive-worker plan --json jobs.ndjson | jq .requests
  zcat jobs.gz | permutive-worker plan

It takes the flags of run, opens no connection, needs no key and writes nothing. If a key is set,
the workspaces that lines name are looked up. What earlier runs have delivered is counted too.

Exit codes: 0 every line is valid, 3 some are not, 74 an input could not be read to its end.
"""


class Plan(msgspec.Struct, frozen=True):
    """What `plan --json` prints.

    Attributes:
        inputs: files; 1 for stdin.
        stored_bytes: as the inputs are stored; `text_bytes` is what they unpack to, with a line end for each line.
        jobs: lines by type, those that are there.
        requests: what the jobs need, if none is repeated.
        rate_is_assumed: nobody said a rate; the run would find one.
        seconds: the requests at that rate, in each workspace beside the others.
        reasons: invalid lines by reason; `invalid_lines` has the first of each.
        user_id_is_no_uuid: jobs, all of them valid; `user_id_is_no_uuid_at` has the first positions.
    """

    inputs: int
    stored_bytes: int
    text_bytes: int
    lines: int
    jobs: dict[str, int]
    blank: int
    invalid: int
    requests: int
    rate_per_second: float
    rate_is_assumed: bool
    seconds: float
    reasons: dict[str, int]
    invalid_lines: dict[str, list[InvalidLine]]
    user_id_is_no_uuid: int
    user_id_is_no_uuid_at: list[str]
    warnings: list[str]


@click.command("plan", epilog=_EPILOG, short_help="Say what an input holds and how long a run takes.")
@click.argument("inputs", nargs=-1, metavar="[INPUT …]", shell_complete=files_for)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@settings_options
def plan(inputs: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Read INPUT as run would, and say what is in it: jobs by type, lines that are none, requests and time.

    INPUT is - (stdin, the default), or files, globs and directories, also gzipped.
    """
    settings = settings_from_options(options, os.environ)
    chosen = list(inputs) or ["-"]
    if chosen == ["-"] and sys.stdin is not None and sys.stdin.isatty():
        click.echo("permutive-worker: reading jobs from this terminal; Ctrl-D ends them", err=True)
    warnings: list[str] = []
    keyring = _keyring(warnings)
    workspace = _default_workspace(keyring, settings, warnings)
    tally = Tally(Decoder(settings.input.type), keyring, workspace)
    source, files = _source(settings, chosen)
    problem = run_in_loop(_read(source, tally))
    told = _plan(settings, tally, files, source.bytes_read(), warnings)
    click.echo(msgspec.json.encode(told) if as_json else "\n".join(_text(told, tally)))
    if problem is not None:
        raise problem
    return INVALID if told.invalid else 0


def _source(settings: Settings, inputs: list[str]) -> tuple[Source, int]:
    """The source and how many files it has."""
    if any(map(is_url, inputs)):
        raise UsageError(
            "a queue cannot be planned: its messages would have to be taken from it; plan the files that are put into it"
        )
    if inputs == ["-"]:
        return StdinSource(settings.input.max_line_bytes), 1
    paths = input_files(settings, inputs)
    return FileSource(paths, settings.input.max_line_bytes), len(paths)


def _keyring(warnings: list[str]) -> Keyring | None:
    """The credentials, if any are set; what is wrong with them is for `check` to refuse."""
    if not any(os.environ.get(name, "").strip() for name in (KEY_FILE, KEY, WORKSPACES)):
        return None
    try:
        return load_keyring(os.environ)
    except CredentialsError as error:
        warnings.append(f"workspaces are not looked up: {error}")
        return None


def _default_workspace(keyring: Keyring | None, settings: Settings, warnings: list[str]) -> str:
    if keyring is None:
        return ""
    try:
        return keyring.default(settings.input.workspace).name
    except CredentialsError as error:
        warnings.append(f"a run would not start: {error}")
        return ""


async def _read(source: Source, tally: Tally) -> InputError | None:
    """Count every line; return what kept an input from being read to its end."""
    shown = Shown(source)
    await source.open()
    try:
        while deliveries := await source.receive(BLOCK_BYTES):
            tally.add(deliveries)
            shown.look(tally.lines)
            await asyncio.sleep(0)  # so that Ctrl-C is heard while the disk is faster than we are
    except InputError as error:
        return error
    finally:
        shown.end()
        await source.close()
    return None


class Shown:
    """How far it is, on stderr, in place; nothing unless that is a terminal."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._shows = sys.stderr is not None and sys.stderr.isatty()
        self._next_at = time.monotonic() + FRAME_SECONDS
        self._columns = 0

    def look(self, lines: int) -> None:
        if not self._shows or time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + FRAME_SECONDS
        total = self._source.bytes_total()
        text = f"{_bar(self._source.bytes_read() / total)}{lines:,} lines" if total else f"{lines:,} lines"
        self._columns = max(self._columns, len(text))
        click.echo("\r" + text.ljust(self._columns), err=True, nl=False)

    def end(self) -> None:
        if self._columns:
            click.echo("\r" + " " * self._columns + "\r", err=True, nl=False)


def _bar(done: float) -> str:
    full = "━" * int(done * _BAR_COLUMNS)
    return f"{full:<{_BAR_COLUMNS}} {done:4.0%}  "


def _plan(settings: Settings, tally: Tally, files: int, stored_bytes: int, warnings: list[str]) -> Plan:
    rate = settings.rate_limit.rate_per_second
    per_second = rate or ASSUMED_PER_SECOND
    return Plan(
        inputs=files,
        stored_bytes=stored_bytes,
        text_bytes=tally.text_bytes,
        lines=tally.lines,
        jobs={kind: count for kind, count in tally.jobs.items() if count},
        blank=tally.blank,
        invalid=tally.invalid_lines,
        requests=sum(tally.requests.values()),
        rate_per_second=per_second,
        rate_is_assumed=not rate,
        seconds=round(max(tally.requests.values(), default=0) / per_second, 3),
        reasons={reason.value: found.lines for reason, found in tally.invalid.items()},
        invalid_lines={reason.value: found.first for reason, found in tally.invalid.items()},
        user_id_is_no_uuid=tally.no_uuid.lines,
        user_id_is_no_uuid_at=[line.position for line in tally.no_uuid.first],
        warnings=warnings,
    )


def _text(told: Plan, tally: Tally) -> Iterator[str]:
    """The same for people."""
    figures = [
        ("inputs", f"{told.inputs:,}", f"{size(told.stored_bytes)}, {size(told.text_bytes)} of text"),
        ("lines", f"{told.lines:,}", ""),
        *((f"  {kind}", f"{count:,}", "") for kind, count in told.jobs.items()),
        *([("  blank", f"{told.blank:,}", "skipped")] if told.blank else []),
        *([("  invalid", f"{told.invalid:,}", "dead letters of a run")] if told.invalid else []),
        ("requests", f"{told.requests:,}", _workspaces(tally)),
        ("time", duration(told.seconds) if told.seconds >= 1 else "< 1 s", _at_rate(told)),
    ]
    names, numbers = (max(len(row[column]) for row in figures) for column in (0, 1))
    for name, number, more in figures:
        yield f"{name:<{names}}  {number:>{numbers}}  {more}".rstrip()
    for reason, found in tally.invalid.items():
        yield from ("", f"{reason}: {_lines(found.lines)}", *_first(found))
    if tally.no_uuid.lines:
        first = printable(tally.no_uuid.first[0].position)
        yield from ("", f"warning: user_id is no UUID in {_lines(tally.no_uuid.lines)}, first at {first}")
    for warning in told.warnings:
        yield from ("", f"warning: {warning}")


def _first(found: Found) -> Iterator[str]:
    for line in found.first:
        yield f"  {printable(line.position)}  {line.message}".rstrip()
    if found.lines > len(found.first):
        yield f"  and {found.lines - len(found.first):,} more"


def _workspaces(tally: Tally) -> str:
    if len(tally.requests) < 2:
        return ""
    return ", ".join(f"{name or '(none)'} {count:,}" for name, count in sorted(tally.requests.items()))


def _at_rate(told: Plan) -> str:
    at = f"at {told.rate_per_second:g} requests a second"
    return f"{at}, which is assumed: say --rate N" if told.rate_is_assumed else at


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count:,} lines"


def size(count_bytes: float) -> str:
    """Return a size as a person says it: `3.2 MB`."""
    power = 0
    while count_bytes >= 1000 and power < len(_UNITS) - 1:
        count_bytes /= 1000
        power += 1
    return f"{count_bytes:,.0f} {_UNITS[power]}" if power == 0 else f"{count_bytes:,.1f} {_UNITS[power]}"
