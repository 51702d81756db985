"""`permutive-worker run`."""

import os
import sys
from typing import Any, Final

import click

from permutive_worker.cli.options import files_for, settings_from_options, settings_options
from permutive_worker.cli.process import run_to_exit
from permutive_worker.credentials import load_keyring
from permutive_worker.worker import Worker

_EPILOG: Final = """\b
Examples:
  permutive-worker run jobs.ndjson.gz                  a file, as fast as the API allows
  permutive-worker run --rate 500 'exports/*.ndjson'   many files, 500 requests a second
  zcat jobs.gz | permutive-worker run --results done.ndjson
  permutive-worker run 'redis://localhost:6379/0?stream=jobs'

\b
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
    settings = settings_from_options(options, os.environ)
    keyring = load_keyring(os.environ)
    chosen = inputs or ("-",)
    if chosen == ("-",) and sys.stdin is not None and sys.stdin.isatty():
        click.echo("permutive-worker: reading jobs from this terminal; Ctrl-D ends them", err=True)
    return run_to_exit(settings, keyring, lambda: Worker(settings, chosen, keyring=keyring, restart=restart))
