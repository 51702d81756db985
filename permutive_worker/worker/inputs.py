"""Which source the inputs on the command line mean."""

from collections.abc import Sequence

from permutive_worker.config import Settings
from permutive_worker.outcomes.paths import output_paths
from permutive_worker.ports import Source
from permutive_worker.sources.files import FileSource, expand_inputs
from permutive_worker.sources.stdin import StdinSource


def open_source(settings: Settings, inputs: Sequence[str]) -> Source:
    """Return the source of `-` (stdin), or of files, globs and directories; nothing is opened yet.

    Raises:
        UsageError: an input is missing or means no file.
    """
    if list(inputs) == ["-"]:
        return StdinSource(settings.input.max_line_bytes)
    output = settings.output  # the run's own outputs are never inputs
    return FileSource(
        expand_inputs(inputs, output_paths(output.dead_letters, output.results, output.summary)),
        settings.input.max_line_bytes,
    )
