"""Whether the worker's memory stays the same however much there is to do.

    python tests/bench/memory.py [--few 200000] [--many 2000000] [--throttle-seconds 300]

Prints the peak of resident memory of the whole worker with few lines, with many, and with an API
that answers nothing but 429 for a while, so that the backlog fills to its bound. The goal is
120 MB for each, and the same for few and many; the exit code is 1 if that is missed. Takes a quarter
of an hour.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

from child import ChildFailed, Cost, run_child, running_sink, worker_command
from jobs import write_jobs

GOAL_MB: Final = 120
SAME: Final = 1.05  # few and many may differ so much: allocators are not exact
LIMIT_SECONDS: Final = 1800


def run_worker(label: str, jobs: Path, throttle_seconds: float = 0.0) -> float:
    """Print what one run took; return its peak in MB. Raises ChildFailed."""
    with running_sink(throttle_seconds) as sink:
        cost = run_child(worker_command(jobs, sink.url, "--results=results.ndjson"), LIMIT_SECONDS)
        requests = sink.work().requests
    print(_line(label, cost, requests), flush=True)
    return cost.peak_bytes / 1e6


def _line(label: str, cost: Cost, requests: int) -> str:
    cpu_micros = cost.cpu_seconds / requests * 1e6
    return (
        f"{label:42} {cost.peak_bytes / 1e6:8.1f} MB {requests:12,} requests "
        f"{cost.wall_seconds:8.1f} s {cpu_micros:8.1f} CPU µs a request"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="The worker's peak of memory with few lines and with many.")
    parser.add_argument("--few", type=int, default=200_000)
    parser.add_argument("--many", type=int, default=2_000_000)
    parser.add_argument("--throttle-seconds", type=float, default=300.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        few_jobs = write_jobs(Path(directory, "few.ndjson"), asked.few)
        few_mb = run_worker(f"{asked.few:,} lines", few_jobs)
        label = f"{asked.few:,} lines, {asked.throttle_seconds:.0f} s of 429"
        throttled_mb = run_worker(label, few_jobs, asked.throttle_seconds)
        many_jobs = write_jobs(Path(directory, "many.ndjson"), asked.many)
        many_mb = run_worker(f"{asked.many:,} lines", many_jobs)
    met = max(few_mb, many_mb, throttled_mb) <= GOAL_MB and many_mb <= few_mb * SAME
    print(f"goal, {GOAL_MB} MB and the same for few and many: {'met' if met else 'missed'}")
    return 0 if met else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ChildFailed as failure:
        sys.exit(f"the worker failed: {failure}")
