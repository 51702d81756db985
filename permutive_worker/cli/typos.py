"""A typo gets the word that was probably meant: commands and choices. Flags get it from click, keys from `config`."""

from typing import Any

import click

from permutive_worker.config import did_you_mean


class CommandGroup(click.Group):
    """A group of commands; groups made in it are of this class as well."""

    group_class = type

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` begin with."""
        name = args[0]
        is_command = not name.startswith("-") and not ctx.resilient_parsing
        if is_command and self.get_command(ctx, name) is None:
            meant = did_you_mean(name, self.list_commands(ctx))
            there_are = f"; there are {', '.join(self.list_commands(ctx))}"
            raise click.UsageError(f"There is no command {name[:40]!r}{meant or there_are}", ctx)
        return super().resolve_command(ctx, args)


class Choice(click.Choice):  # type: ignore[type-arg]  # generic only in newer versions of click
    """One of a few words."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the word. Raises BadParameter."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            words = [str(word) for word in self.choices]
            meant = did_you_mean(str(value), words)
            raise click.BadParameter(
                f"{str(value)[:40]!r} is none of {', '.join(words)}{meant}", ctx, param
            ) from None
