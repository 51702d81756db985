"""What a person at a terminal may want to do next, after a run that did not deliver everything."""

from collections.abc import Mapping
from typing import Protocol

from permutive_worker.control.exit_code import STOPPED_EARLY
from permutive_worker.model import End, Summary
from permutive_worker.outcomes.returned import ReturnedWriter
from permutive_worker.ports import OutcomeWriter
from permutive_worker.telemetry.counts import Counts


class Finished(Protocol):
    """What is asked of a run that has ended."""

    counts: Counts

    @property
    def writers(self) -> Mapping[End, OutcomeWriter]: ...


def hints(worker: Finished, summary: Summary, dead_letters: str) -> list[str]:
    """Return a sentence for each place where lines are that were not delivered.

    `dead_letters` is the path of theirs.
    """
    told = []
    if summary.dead_lettered:
        told.append(
            f"failed for good: {summary.dead_lettered:,}, see permutive-worker dead-letters summarize {dead_letters}"
        )
    writer = worker.writers.get(End.RETURNED)
    if isinstance(writer, ReturnedWriter):
        if kept := summary.returned - summary.lost:
            told.append(f"read and not delivered: {kept:,}, in {writer.path}; rename it, and it is an input")
    elif summary.exit_code == STOPPED_EARLY and writer is None and worker.counts.source == "file":
        told.append("the same command again goes on from here")
    return told
