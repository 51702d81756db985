"""Which files a run may write, and that no two of them, nor an input, are one file."""

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from permutive_worker.errors import ConfigurationError
from permutive_worker.outcomes.ndjson import replaying_path
from permutive_worker.outcomes.returned import ReturnedWriter

_STDIN: Final = 0
_STDOUT: Final = 1


def output_paths(dead_letters: str, *others: str | None) -> list[Path]:
    """The dead-letter file, what stands beside it, and the other outputs; `-` and None are no files."""
    path = Path(dead_letters)
    beside = [path.with_name(path.name + ".torn"), replaying_path(path), ReturnedWriter(path).path]
    return [path, *beside, *(Path(other) for other in others if other is not None and other != "-")]


def refuse_shared_files(
    dead_letters: str, results: str | None, summary: str | None, metrics: str | None
) -> None:
    """Look whether two outputs are one file, by whatever names. `-` of the results is stdout.

    Raises:
        ConfigurationError: they are.
    """
    named = _outputs(dead_letters, results, summary, metrics)
    seen: dict[object, str] = {}
    for what, place in named.items():
        file = _file(place)
        if file is not None and (other := seen.setdefault(file, what)) != what:
            raise ConfigurationError(f"{other} and {what} are the same file: name two")


def own_files(
    inputs: Sequence[str],
    dead_letters: str,
    results: str | None,
    summary: str | None,
    metrics: str | None,
) -> list[Path]:
    """The files of this run that are to be left out of folders and globs.

    What an earlier run returned may be named as an input: lines of a file are never returned to it.

    Raises:
        ConfigurationError: an input that is named, or stdin for `-`, would be written too: the run would
            read what it writes, without end.
    """
    named_outputs = _outputs(dead_letters, results, summary, metrics)
    outputs = {_file(place): what for what, place in named_outputs.items()}
    returned = ReturnedWriter(Path(dead_letters)).path
    for name in inputs:
        file = _file(_STDIN if name == "-" else name)
        what = None if file is None else outputs.get(file)
        if what is not None and (name == "-" or file != _file(str(returned))):
            raise ConfigurationError(
                f"the input {'stdin' if name == '-' else name} and {what} are the same file: name another"
            )
    named = {os.path.realpath(name) for name in inputs}
    paths = output_paths(dead_letters, results, summary, metrics)
    return [path for path in paths if path != returned or os.path.realpath(path) not in named]


def _outputs(
    dead_letters: str, results: str | None, summary: str | None, metrics: str | None
) -> Mapping[str, str | int]:
    """What people call each output, and its path or descriptor."""
    returned = str(ReturnedWriter(Path(dead_letters)).path)
    named: dict[str, str | int] = {
        f"the dead letters {dead_letters}": dead_letters,
        f"the returned lines {returned}": returned,
    }
    if results is not None:
        named["stdout" if results == "-" else f"the results {results}"] = (
            _STDOUT if results == "-" else results
        )
    if summary is not None:
        named[f"the summary {summary}"] = summary
    if metrics is not None:
        named[f"the metrics {metrics}"] = metrics
    return named


def _file(place: str | int) -> object | None:
    """What tells a file from all others, whether it is there yet or not; None for a pipe or a device."""
    try:
        status = os.stat(place)
    except OSError:
        return None if isinstance(place, int) else os.path.realpath(place)
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None
