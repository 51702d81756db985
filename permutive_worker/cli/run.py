"""`permutive-worker run`."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from permutive_worker.cli.options import files_for, loaded_from_options, settings_options
from permutive_worker.cli.process import Run, run_to_exit
from permutive_worker.cli.terminal import is_terminal
from permutive_worker.config import Settings
from permutive_worker.credentials import Keyring, load_keyring
from permutive_worker.worker import Worker

if TYPE_CHECKING:
    from permutive_worker.processes.fleet import Fleet

_EPILOG: Final = """\b
Examples:
  permutive-worker run jobs.ndjson.gz                  a file, as fast as the API allows
  permutive-worker run --rate 500 'exports/*.ndjson'   many files, 500 requests a second
  zcat jobs.gz | permutive-worker run --results done.ndjson
  permutive-worker run 'redis://localhost:6379/0?stream=jobs'

The key comes from PERMUTIVE_API_KEY_FILE, PERMUTIVE_API_KEY or PERMUTIVE_APPLICATION_CREDENTIALS.

Exit codes: 0 all delivered, 3 with dead letters, 75 stopped early; see the README for all.
"""


@click.command("run", epilog=_EPILOG, short_help="Deliver files, a pipe or a queue.")
@click.argument("inputs", nargs=-1, metavar="[INPUT …]", shell_complete=files_for)
@click.option("--restart", is_flag=True, help="Forget what is known of the inputs; send all of them again.")
@settings_options
def run(inputs: tuple[str, ...], restart: bool, **options: Any) -> int:
    """Deliver the lines of INPUT: - (stdin, the default), files, globs, directories, or the URL of one queue.

    A file that was begun goes on where it was, and one that was delivered is not sent again, unless you
    say --restart. A directory means its *.ndjson, *.jsonl and *.json, also gzipped. One line is one job.
    """
    loaded = loaded_from_options(options, os.environ)
    settings = loaded.settings
    keyring = load_keyring(os.environ)
    chosen = inputs or ("-",)
    if chosen == ("-",) and sys.stdin is not None and sys.stdin.isatty():
        click.echo("permutive-worker: reading jobs from this terminal; Ctrl-D ends them", err=True)

    def make() -> Run:
        if settings.input.processes > 1:
            return _fleet(settings, chosen, keyring, restart=restart)
        return Worker(settings, chosen, keyring=keyring, restart=restart)

    return run_to_exit(settings, keyring, make, load=lambda: loaded_from_options(options, os.environ))


def _fleet(settings: Settings, inputs: Sequence[str], keyring: Keyring, *, restart: bool) -> Run:
    from permutive_worker.processes.fleet import Fleet
    from permutive_worker.processes.member import worker_command

    is_console = settings.log.format == "console" or (
        settings.log.format == "auto" and is_terminal(sys.stderr)
    )
    command = worker_command("permutive_worker.cli.member")
    fleet = Fleet(
        settings,
        inputs,
        keyring=keyring,
        command=command,
        log_format="console" if is_console else "json",
        restart=restart,
    )
    _suspend_together(fleet)
    return fleet


def _suspend_together(fleet: "Fleet") -> None:
    """Ctrl-Z is for the first process too, and would leave the others sending with nobody to show it."""

    def on_suspend() -> None:
        fleet.suspend()
        os.kill(os.getpid(), signal.SIGSTOP)  # returns when somebody says SIGCONT
        fleet.resume()

    # Only where those that are suspended wake up when this process is killed: see `cli/member.py`.
    if sys.platform == "linux" and signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTSTP, on_suspend)
