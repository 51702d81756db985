"""Which files a run may write."""

from pathlib import Path

from permutive_worker.outcomes.ndjson import replaying_path
from permutive_worker.outcomes.returned import ReturnedWriter


def output_paths(dead_letters: str, *others: str | None) -> list[Path]:
    """The dead-letter file, what stands beside it, and the other outputs; `-` and None are no files."""
    path = Path(dead_letters)
    beside = [path.with_name(path.name + ".torn"), replaying_path(path), ReturnedWriter(path).path]
    return [path, *beside, *(Path(other) for other in others if other is not None and other != "-")]
