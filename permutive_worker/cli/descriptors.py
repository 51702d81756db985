"""How many files and connections this process may have open: found out before a run, not in the middle of it."""

import resource
from typing import Final

from permutive_worker.config import Settings
from permutive_worker.errors import ConfigurationError
from permutive_worker.sources.remembered import MAX_OPEN

# The loop and its threads' pipes, stdio, outputs, the check of the wire: 40 are seen.
LEAST: Final = 64


def ensure_descriptors(settings: Settings, workspaces: int) -> None:
    """Raise the soft limit as far as the run may need it.

    Raises:
        ConfigurationError: the hard limit is lower; the run could end in the middle, with jobs that failed for it.
    """
    beside = LEAST + 2 * MAX_OPEN  # an input under way has its file and its checkpoint
    wanted = beside + settings.delivery.max_in_flight * workspaces
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return
    fits = (hard - beside) // workspaces
    lower = f", or say --max-in-flight {fits}" if fits > 0 else ""
    raise ConfigurationError(
        f"this process may have only {hard} files and connections open at once, and this run may need {wanted}: "
        f"raise the limit (ulimit -n){lower}"
    )
