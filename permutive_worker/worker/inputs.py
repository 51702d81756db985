"""Which source the inputs on the command line mean."""

import os
from collections.abc import Sequence
from pathlib import Path

from permutive_worker.config import Settings
from permutive_worker.control.shard import INDEX_VARIABLE, Shard, parse_shard
from permutive_worker.errors import ConfigurationError, UsageError
from permutive_worker.outcomes.paths import own_files
from permutive_worker.ports import Source
from permutive_worker.sources.address import is_url
from permutive_worker.sources.files import FileSource, expand_inputs
from permutive_worker.sources.follow import FollowSource
from permutive_worker.sources.remembered import Remembered
from permutive_worker.sources.replay import ReplaySource
from permutive_worker.sources.stdin import StdinSource
from permutive_worker.sources.tracked import CheckpointStore, is_checkpoint
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.logs import logger
from permutive_worker.telemetry.progress import estimate_total
from permutive_worker.worker.queues import open_queue


def open_source(settings: Settings, inputs: Sequence[str], store: CheckpointStore) -> Source:
    """Return the source of `-` (stdin), of a queue's URL, or of files, globs and directories; nothing is opened yet.

    Raises:
        UsageError: an input is missing, means no file, cannot be followed, or stands beside a queue.
        ConfigurationError: an input is also an output, or the URL of a queue is not sound.
    """
    if any(map(is_url, inputs)):
        return _queue(settings, inputs)
    if list(inputs) == ["-"]:
        _own(settings, inputs)
        if settings.input.follow:
            raise UsageError("--follow is for files; a pipe is read to its end anyway: name a file")
        if settings.input.shard is not None:
            raise UsageError("--shard is for files; a pipe has no shares: name files")
        return StdinSource(settings.input.max_line_bytes)
    paths = input_files(settings, inputs)
    if settings.input.follow:
        return FollowSource(paths, settings.input.max_line_bytes, store)
    return FileSource(paths, settings.input.max_line_bytes, store)


def input_files(settings: Settings, inputs: Sequence[str]) -> list[Path]:
    """Return the files that paths, globs and directories mean, in the order they are read; that may be none of a shard.

    Raises:
        UsageError, ConfigurationError: as `open_source`.
    """
    paths = expand_inputs(inputs, _own(settings, inputs))
    paths = [path for path in paths if not is_checkpoint(path)]
    if not paths:
        raise UsageError(f"{' '.join(inputs)}: only checkpoints are there, name an input")
    return _share(paths, _shard(settings))


def _own(settings: Settings, inputs: Sequence[str]) -> list[Path]:
    output = settings.output
    return own_files(inputs, output.dead_letters, output.results, output.summary, output.metrics)


def remembered_by(source: Source) -> Remembered | None:
    """What the source remembers from run to run, if it does."""
    return source.remembered if isinstance(source, FileSource | FollowSource | ReplaySource) else None


def total_lines(source: Source, counts: Counts, *, ended: bool) -> int | None:
    """How many lines there are; estimated until the source `ended`, None if nothing can be said."""
    read, total = source.bytes_read(), source.bytes_total()
    remembered = remembered_by(source)
    if remembered is None:
        return estimate_total(counts, read, total, ended=ended)
    before = remembered.before_bytes  # lines of earlier runs are in no count
    left = total - before if total is not None else None
    return estimate_total(counts, read - before, left, ended=ended, again=remembered.again)


def _queue(settings: Settings, inputs: Sequence[str]) -> Source:
    if len(inputs) > 1:
        raise UsageError("a queue cannot be mixed with other inputs: start a worker for each")
    if settings.input.shard is not None:
        raise UsageError("--shard is for files; workers at one queue share it by themselves")
    if settings.input.follow:
        raise UsageError("--follow is for files; a queue is followed anyway")
    return open_queue(settings, inputs[0])


def _shard(settings: Settings) -> Shard | None:
    """Raises ConfigurationError if the environment should say which share is ours, and does not."""
    text = settings.input.shard
    if text is None:
        return None
    shard = parse_shard(text, os.environ)
    if shard is None:
        raise ConfigurationError(
            f"input.shard = {text} needs {INDEX_VARIABLE} from 0 to one less than N, as Kubernetes sets it in an "
            "Indexed Job; or write K/N"
        )
    return shard


def _share(paths: list[Path], shard: Shard | None) -> list[Path]:
    """Which of the files are ours; that may be none."""
    if shard is None:
        return paths
    ours = [path for path in paths if shard.takes(str(path))]
    logger().info("input.shard", shard=f"{shard.number}/{shard.of}", files=len(ours), of_files=len(paths))
    return ours
