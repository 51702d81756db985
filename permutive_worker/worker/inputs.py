"""Which source the inputs on the command line mean."""

import os
from collections.abc import Sequence
from pathlib import Path

from permutive_worker.config import Settings
from permutive_worker.control.shard import INDEX_VARIABLE, Shard, parse_shard
from permutive_worker.errors import ConfigurationError, UsageError
from permutive_worker.outcomes.paths import output_paths
from permutive_worker.ports import Source
from permutive_worker.sources.address import is_url
from permutive_worker.sources.files import FileSource, expand_inputs
from permutive_worker.sources.stdin import StdinSource
from permutive_worker.telemetry.logs import logger
from permutive_worker.worker.queues import open_queue


def open_source(settings: Settings, inputs: Sequence[str]) -> Source:
    """Return the source of `-` (stdin), of a queue's URL, or of files, globs and directories; nothing is opened yet.

    Raises:
        UsageError: an input is missing or means no file, or a queue stands beside other inputs.
        ConfigurationError: the URL of a queue is not sound.
    """
    shard = _shard(settings)
    if shard is not None and any(text == "-" or is_url(text) for text in inputs):
        raise UsageError("--shard is for files; workers at one queue share it by themselves")
    if list(inputs) == ["-"]:
        return StdinSource(settings.input.max_line_bytes)
    if any(map(is_url, inputs)):
        if len(inputs) > 1:
            raise UsageError("a queue cannot be mixed with other inputs: start a worker for each")
        return open_queue(settings, inputs[0])
    output = settings.output  # the run's own outputs are never inputs
    paths = expand_inputs(inputs, output_paths(output.dead_letters, output.results, output.summary))
    return FileSource(_share(paths, shard), settings.input.max_line_bytes)


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
