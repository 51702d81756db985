"""`permutive-worker completion`: the script by which a shell completes commands, flags and files."""

import click
from click.shell_completion import get_completion_class

from permutive_worker.cli.typos import Choice

_VARIABLE = "_PERMUTIVE_WORKER_COMPLETE"  # click's own: the program answers the shell when it is set
_EPILOG = """\b
Examples: for this shell, and for every new one
  eval "$(permutive-worker completion bash)"
  permutive-worker completion bash > ~/.local/share/bash-completion/completions/permutive-worker
  permutive-worker completion zsh > ~/.zfunc/_permutive-worker
  permutive-worker completion fish > ~/.config/fish/completions/permutive-worker.fish

bash must be 4.4 or newer. zsh needs `fpath+=~/.zfunc; autoload -Uz compinit; compinit` in ~/.zshrc.
"""


@click.command("completion", epilog=_EPILOG, short_help="Print the completion script of a shell.")
@click.argument("shell", metavar="bash|zsh|fish", type=Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell: bash, zsh or fish."""
    found = get_completion_class(shell)
    assert found is not None  # noqa: S101  (click has these three)
    click.echo(found(ctx.find_root().command, {}, "permutive-worker", _VARIABLE).source())
