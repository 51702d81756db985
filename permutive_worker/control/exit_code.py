"""Which exit code a run ends with, when several apply."""

from collections.abc import Collection
from typing import Final

# The first that applies; then 3 for dead letters, then 0. A bug comes first: nothing else can be trusted.
ORDER: Final = (1, 74, 77, 78, 69, 64, 4, 75)
GUARD: Final = 4
STOPPED_EARLY: Final = 75
DEAD_LETTERS: Final = 3


def exit_code(errors: Collection[int], *, guard: bool, returned: int, dead: int) -> int:
    """Combine the codes of errors with how the run ended.

    Args:
        errors: the exit codes of the errors there were.
        guard: a guard stopped the run.
        returned: how many lines were returned.
        dead: how many became dead letters.
    """
    codes = {*errors, *([GUARD] if guard else []), *([STOPPED_EARLY] if returned else [])}
    return worst([*codes, *([DEAD_LETTERS] if dead else [])])


def worst(codes: Collection[int]) -> int:
    """The code that stands for several runs."""
    return next((code for code in (*ORDER, DEAD_LETTERS) if code in codes), 0)
