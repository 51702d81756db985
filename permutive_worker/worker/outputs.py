"""Which file each outcome goes to."""

import socket
from collections.abc import Callable
from pathlib import Path

from permutive_worker.config import Settings
from permutive_worker.model import End
from permutive_worker.outcomes.dead_letters import DeadLetterWriter
from permutive_worker.outcomes.paths import refuse_shared_files
from permutive_worker.outcomes.results import ResultWriter
from permutive_worker.outcomes.returned import ReturnedWriter
from permutive_worker.ports import Clock, OutcomeWriter, Source


def file_writers(
    settings: Settings,
    source: Source,
    *,
    run_id: str,
    scrub: Callable[[bytes], bytes],
    clock: Clock,
    on_dead_letter_error: Callable[[], None],
    on_lost: Callable[[int], None],
    given_up: Callable[[], bool],
) -> dict[End, OutcomeWriter]:
    """Return a writer for each end that is written down; nothing is opened yet.

    Raises:
        ConfigurationError: two outputs are one file.
    """
    output = settings.output
    refuse_shared_files(output.dead_letters, output.results, output.summary, output.metrics)
    dead_letters = Path(output.dead_letters)
    writers: dict[End, OutcomeWriter] = {
        End.DEAD_LETTERED: DeadLetterWriter(
            dead_letters,
            run_id=run_id,
            worker=socket.gethostname(),
            source=source.kind,
            scrub=scrub,
            clock=clock,
            on_error=on_dead_letter_error,
            given_up=given_up,
        )
    }
    if output.results is not None:
        writers[End.DELIVERED] = ResultWriter(output.results, scrub, clock, given_up)
    if not source.rereadable:
        writers[End.RETURNED] = ReturnedWriter(dead_letters, on_lost)
    return writers
