"""`permutive-worker`: the commands, each imported when it is called, and what every end of it exits with."""

import atexit
import errno
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, NoReturn

import click

from permutive_worker import __version__
from permutive_worker.cli.directory import is_homeless
from permutive_worker.cli.leaving import leave
from permutive_worker.cli.printable import printable_lines
from permutive_worker.cli.secrets import refusal
from permutive_worker.cli.terminal import outlive_hangups
from permutive_worker.cli.typos import CommandGroup
from permutive_worker.cli.unread import be_patient_with_stderr
from permutive_worker.config import is_secret
from permutive_worker.errors import OutputError, UsageError, WorkerError

# Where each command lives: module and name. Importing all of them would triple the start-up time.
COMMANDS: Final = {
    "run": ("permutive_worker.cli.run", "run"),
    "replay": ("permutive_worker.cli.replay", "replay"),
    "plan": ("permutive_worker.cli.plan", "plan"),
    "check": ("permutive_worker.cli.check", "check"),
    "config": ("permutive_worker.cli.config", "config"),
    "enqueue": ("permutive_worker.cli.enqueue", "enqueue"),
    "dead-letters": ("permutive_worker.cli.dead_letters", "dead_letters"),
    "api": ("permutive_worker.cli.api", "api"),
    "sandbox": ("permutive_worker.cli.sandbox", "sandbox"),
    "demo": ("permutive_worker.cli.demo", "demo"),
    "completion": ("permutive_worker.cli.completion", "completion"),
}

# A disk that is full, or a terminal that is gone. A run tells of its own files.
_NOT_WRITTEN: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_HOMELESS: Final = "the directory it was started in is gone, and a path is meant from there; start it in another, or name whole paths"

_EPILOG: Final = """\b
Try it without a key:
  permutive-worker demo

\b
For real:
  export PERMUTIVE_API_KEY_FILE=/run/secrets/permutive
  permutive-worker run --rate 500 jobs.ndjson.gz
"""


class Commands(CommandGroup):
    """Imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Where nobody reads stdout any more click would end with 1, which is a bug's."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _drop_stdout()
            return 0


@click.command(cls=Commands, epilog=_EPILOG)
@click.version_option(__version__, prog_name="permutive-worker")
def cli() -> None:
    """Deliver jobs to the Permutive API (users, events, segmentation, cohorts, segments), without losing a line."""


def program() -> NoReturn:
    """As `main`; then the process is gone."""
    _fill_closed_descriptors()
    be_patient_with_stderr()
    try:
        main()
    except SystemExit as ended:
        _ignore_signals()
        leave(ended.code if isinstance(ended.code, int) else 1)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit; see the README for the exit codes."""
    _fill_closed_descriptors()
    _be_stoppable()
    outlive_hangups()
    atexit.register(_ignore_signals)
    try:
        code = cli.main(args=argv, prog_name="permutive-worker", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as help_wanted:
        click.echo(help_wanted.format_message())
        code = 0
    except click.exceptions.Exit as ended:
        code = ended.exit_code
    except click.Abort:
        code = 130
    except click.ClickException as error:
        code = _told(error)
    except WorkerError as error:
        click.echo(f"permutive-worker: {printable_lines(str(error))}", err=True)
        code = error.exit_code
    except FileNotFoundError as error:
        if not is_homeless(error):
            raise
        click.echo(f"permutive-worker: {_HOMELESS}", err=True)
        code = UsageError.exit_code
    except BrokenPipeError:  # nobody reads stdout any more
        code = 0
        _drop_stdout()
    except OSError as error:
        if error.errno not in _NOT_WRITTEN:
            raise
        click.echo(f"permutive-worker: cannot write: {error.strerror}", err=True)
        code = OutputError.exit_code
        _drop_stdout()
    sys.exit(code if isinstance(code, int) else 0)


def _ignore_signals() -> None:
    """One that comes while the interpreter ends, which takes 15 ms, must not take the place of the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _fill_closed_descriptors() -> None:
    """Open /dev/null in place of a closed stdin, stdout or stderr.

    Otherwise the loop's own descriptors get these numbers, and libuv aborts when it closes one.
    `sys.stdin is None` still tells that it was closed.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _drop_stdout() -> None:
    """What is left in its buffer would fail again at exit, and change the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _be_stoppable() -> None:
    """As process 1 of a container, SIGTERM has no effect until somebody handles it: a run, later."""
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def _told(error: click.ClickException) -> int:
    """Say what is wrong with the command line in one line; click's own exit code would be 2."""
    context = getattr(error, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    told = error.format_message()
    if isinstance(error, click.NoSuchOption) and is_secret(error.option_name):
        told = refusal(error.option_name)
    click.echo(f"permutive-worker: {printable_lines(told)}{hint}", err=True)
    return error.exit_code if error.exit_code not in (1, 2) else UsageError.exit_code
