"""Which source the inputs on the command line mean."""

from collections.abc import Sequence

from permutive_worker.config import Settings
from permutive_worker.outcomes.paths import own_files
from permutive_worker.ports import Source
from permutive_worker.sources.files import FileSource, expand_inputs
from permutive_worker.sources.stdin import StdinSource


def open_source(settings: Settings, inputs: Sequence[str]) -> Source:
    """Return the source of `-` (stdin), or of files, globs and directories; nothing is opened yet.

    Raises:
        UsageError: an input is missing or means no file.
        ConfigurationError: an input is also an output.
    """
    output = settings.output
    own = own_files(inputs, output.dead_letters, output.results, output.summary)
    if list(inputs) == ["-"]:
        return StdinSource(settings.input.max_line_bytes)
    return FileSource(expand_inputs(inputs, own), settings.input.max_line_bytes)
