"""Which source the inputs on the command line mean."""

from collections.abc import Sequence

from permutive_worker.config import Settings
from permutive_worker.errors import UsageError
from permutive_worker.outcomes.paths import own_files
from permutive_worker.ports import Source
from permutive_worker.sources.files import FileSource, expand_inputs
from permutive_worker.sources.follow import FollowSource
from permutive_worker.sources.remembered import Remembered
from permutive_worker.sources.replay import ReplaySource
from permutive_worker.sources.stdin import StdinSource
from permutive_worker.sources.tracked import CheckpointStore, is_checkpoint


def open_source(settings: Settings, inputs: Sequence[str], store: CheckpointStore) -> Source:
    """Return the source of `-` (stdin), or of files, globs and directories; nothing is opened yet.

    Raises:
        UsageError: an input is missing, means no file, or cannot be followed.
        ConfigurationError: an input is also an output.
    """
    max_line_bytes, output = settings.input.max_line_bytes, settings.output
    own = own_files(inputs, output.dead_letters, output.results, output.summary)
    if list(inputs) == ["-"]:
        if settings.input.follow:
            raise UsageError("--follow is for files; a pipe is read to its end anyway: name a file")
        return StdinSource(max_line_bytes)
    paths = expand_inputs(inputs, own)
    paths = [path for path in paths if not is_checkpoint(path)]
    if not paths:
        raise UsageError(f"{' '.join(inputs)}: only checkpoints are there, name an input")
    if settings.input.follow:
        return FollowSource(paths, max_line_bytes, store)
    return FileSource(paths, max_line_bytes, store)


def remembered_by(source: Source) -> Remembered | None:
    """What the source remembers from run to run, if it does."""
    return source.remembered if isinstance(source, FileSource | FollowSource | ReplaySource) else None
