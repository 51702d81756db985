"""`permutive-worker replay`: dead letters again."""

import fcntl
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from permutive_worker.cli.options import settings_from_options, settings_options
from permutive_worker.cli.printable import printable
from permutive_worker.cli.process import run_to_exit
from permutive_worker.cli.typos import Choice
from permutive_worker.config import Settings
from permutive_worker.control.exit_code import DEAD_LETTERS, STOPPED_EARLY, worst
from permutive_worker.credentials import Keyring, load_keyring
from permutive_worker.errors import UsageError
from permutive_worker.jobs.dead_letter import DeadLetter
from permutive_worker.model import End, Reason
from permutive_worker.outcomes.dead_letters import read_dead_letters
from permutive_worker.outcomes.ndjson import replaying_path, take_for_replay
from permutive_worker.outcomes.put_back import PutBackWriter
from permutive_worker.sources.replay import ReplaySource
from permutive_worker.sources.tracked import CheckpointStore
from permutive_worker.worker import Worker
from permutive_worker.worker.checkpoints import checkpoint_store

_EPILOG: Final = """\b
Examples:
  permutive-worker replay dead-letters.ndjson
  permutive-worker replay --reason exhausted --since 2026-01-31 dead-letters.ndjson
  permutive-worker replay --status 400 --dry-run dead-letters.ndjson

FILE is renamed to FILE.replaying while it is read. What is left out, fails again or is not reached is
appended to FILE; then FILE.replaying goes. One left by a killed replay is finished first, from where it was.
"""


def _moment(_ctx: click.Context, _param: click.Parameter, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no date or time; 2026-01-31 and 2026-01-31T12:00:00Z are"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


class Filter(msgspec.Struct, frozen=True):
    """Which dead letters are sent again; an empty criterion lets all pass."""

    reasons: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    since: datetime | None = None
    until: datetime | None = None

    def __call__(self, letter: DeadLetter) -> bool:
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (not self.statuses or letter.status in self.statuses)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
        )


@click.command("replay", epilog=_EPILOG, short_help="Deliver dead letters again.")
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE …", type=click.Path(dir_okay=False, path_type=Path)
)
@click.option(
    "--reason",
    "reasons",
    multiple=True,
    type=Choice([reason.value for reason in Reason]),
    help="Only these; repeatable.",
)
@click.option("--status", "statuses", multiple=True, type=int, help="Only with this last status; repeatable.")
@click.option("--since", callback=_moment, metavar="TIME", help="Only written at this time or later (UTC).")
@click.option("--until", callback=_moment, metavar="TIME", help="Only written before this time (UTC).")
@click.option("--dry-run", is_flag=True, help="Say what would be sent; change and send nothing.")
@click.option("--restart", is_flag=True, help="Forget how far a replay that was killed had come.")
@settings_options
def replay(
    files: tuple[Path, ...],
    reasons: tuple[str, ...],
    statuses: tuple[int, ...],
    since: datetime | None,
    until: datetime | None,
    dry_run: bool,
    restart: bool,
    **options: Any,
) -> int:
    """Deliver the dead letters in FILE again, all or those that pass every filter."""
    keep = Filter(reasons, statuses, since, until)
    if dry_run:
        for file in files:
            _tell_plan(file, keep)
        return 0
    settings = settings_from_options(options, os.environ)
    keyring = load_keyring(os.environ)
    store = checkpoint_store(settings, keyring, restart=restart)
    codes: set[int] = set()
    for number, file in enumerate(files, 1):
        code, stopped = _replay(file, settings, keyring, keep, store)
        codes.add(code)
        if stopped and files[number:]:
            _tell_left(files[number:])
            return worst({*codes, STOPPED_EARLY})
    return worst(codes)


def _replay(
    file: Path, settings: Settings, keyring: Keyring, keep: Filter, store: CheckpointStore
) -> tuple[int, bool]:
    """Return the exit code, and whether what ended it early is true of all files: a signal, a key, a full disk."""
    renamed = _take(file, store)
    with _locked(renamed):
        output = msgspec.structs.replace(settings.output, dead_letters=str(file))
        settings = msgspec.structs.replace(settings, output=output)
        workers: list[Worker] = []

        def make() -> Worker:
            workers.append(_worker(settings, renamed, keep, keyring, store))
            return workers[0]

        code = run_to_exit(settings, keyring, make)
        if workers[0].is_complete:
            renamed.unlink()
            store.forget(renamed)  # last: without it a file that is still there would be sent again
        else:
            name = printable(str(renamed))
            click.echo(f"permutive-worker: {name} is kept: run the same replay again", err=True)
        return code, workers[0].stopping.requested or code not in {0, DEAD_LETTERS}


def _tell_left(files: Sequence[Path]) -> None:
    names = printable(", ".join(map(str, files)))
    click.echo(f"permutive-worker: not begun: {names}", err=True)


def _worker(
    settings: Settings, renamed: Path, keep: Filter, keyring: Keyring, store: CheckpointStore
) -> Worker:
    """A worker that delivers dead letters again; `settings.output.dead_letters` is where the rest goes back."""
    source = ReplaySource(renamed, settings.input.max_line_bytes, keep, store)
    worker = Worker(settings, source=source, keyring=keyring)
    put_back = PutBackWriter(Path(settings.output.dead_letters), source.put_back)
    worker.writers |= {End.SKIPPED: put_back, End.RETURNED: put_back}
    return worker


def _take(file: Path, store: CheckpointStore) -> Path:
    """Raises UsageError if there is no dead-letter file, or a packed one."""
    if file.suffix == ".gz":
        raise UsageError(
            f"{file} is packed, and what fails again is appended to it: unpack it with gunzip first"
        )
    if not replaying_path(file).exists():
        store.forget(replaying_path(file))  # of an earlier one, which is gone
    for path in (replaying_path(file), file):
        if path.exists():
            next(read_dead_letters(path), None)  # refuses what is no dead-letter file
    renamed = take_for_replay(file)
    if renamed is None:
        raise UsageError(f"{file} does not exist; name a file that was written with --dead-letters")
    return renamed


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two replays of one file would send everything twice."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another replay of {path} is running; wait for it") from None
        yield


def _tell_plan(file: Path, keep: Filter) -> None:
    chosen: Counter[tuple[str, str]] = Counter()
    total = 0
    paths = [path for path in (replaying_path(file), file) if path.exists()] or [file]
    for path in paths:
        for letter in read_dead_letters(path):
            total += 1
            if letter.whole and keep(letter):
                chosen[letter.type or "(no type)", letter.reason] += 1
    click.echo(
        f"{printable(str(file))}: {sum(chosen.values()):,} of {total:,} dead letters would be sent again"
    )
    for (kind, reason), count in chosen.most_common():
        click.echo(f"  {count:>10,}  {kind}  {reason}")
