"""Which source the inputs on the command line mean."""

from collections.abc import Sequence

from permutive_worker.config import Settings
from permutive_worker.errors import UsageError
from permutive_worker.outcomes.paths import output_paths
from permutive_worker.ports import Source
from permutive_worker.sources.address import is_url
from permutive_worker.sources.files import FileSource, expand_inputs
from permutive_worker.sources.stdin import StdinSource
from permutive_worker.worker.queues import open_queue


def open_source(settings: Settings, inputs: Sequence[str]) -> Source:
    """Return the source of `-` (stdin), of a queue's URL, or of files, globs and directories; nothing is opened yet.

    Raises:
        UsageError: an input is missing or means no file, or a queue stands beside other inputs.
        ConfigurationError: the URL of a queue is not sound.
    """
    if list(inputs) == ["-"]:
        return StdinSource(settings.input.max_line_bytes)
    if any(map(is_url, inputs)):
        if len(inputs) > 1:
            raise UsageError("a queue cannot be mixed with other inputs: start a worker for each")
        return open_queue(settings, inputs[0])
    output = settings.output  # the run's own outputs are never inputs
    return FileSource(
        expand_inputs(inputs, output_paths(output.dead_letters, output.results, output.summary)),
        settings.input.max_line_bytes,
    )
