"""Runs the worker for as long as you like against an API that fails, and says whether anything leaks.

    python tests/bench/soak.py [--minutes 10] [--rate 500] [--faults lossy,storm]

A line every ten seconds: what became of the jobs, whether every job is accounted for, resident memory,
open files, tasks. At the end: conservation against what the API itself counted, the slope of memory, and what
is still open. The exit code is 1 if a job is unaccounted for, if files or tasks grew, or if memory
grew by more than 2 MB an hour and 2 MB in all.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from jobs import KEY, lines

from permutive_worker.config import Delivery, Guard, Http, Output, RateLimit, Settings
from permutive_worker.credentials import Keyring
from permutive_worker.sources.memory import MemorySource
from permutive_worker.worker import Worker

LOOK_SECONDS: Final = 10.0
WARM_UP_SHARE: Final = 1 / 3  # of the time: caches, connections and the allocator settle
LEAK_MB_PER_HOUR: Final = 2.0
LEAST_LEAK_MB: Final = 2.0  # less than this in all is noise of the allocator
BATCH_SECONDS: Final = 0.05


class Sample(NamedTuple):
    """The process at one moment."""

    at_seconds: float
    resident_mb: float
    files: int
    tasks: int


@contextmanager
def running_sandbox(faults: str) -> Iterator[str]:
    """The imitation API as a process of its own; yields its URL."""
    command = [sys.executable, "-m", "permutive_worker", "sandbox", "--port=0", f"--faults={faults}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        first_line = process.stderr.readline()
        threading.Thread(target=process.stderr.read, daemon=True).start()  # or its pipe fills up
        yield re.findall(r"http://[0-9.:]+", first_line)[0]
    finally:
        process.terminate()
        process.wait()


async def endless_jobs(rate: float, until: float) -> AsyncIterator[str]:
    """`rate` jobs a second, every one of another user."""
    many = lines(sys.maxsize)
    given, began = 0, time.monotonic()
    while (now := time.monotonic()) < until:
        due = int((now - began) * rate)
        for _ in range(due - given):
            yield next(many).rstrip("\n")
        given = due
        await asyncio.sleep(BATCH_SECONDS)


def look_at_process(began: float) -> Sample:
    """Resident memory and open files from /proc (Linux only)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    resident_mb = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    files = len(os.listdir("/proc/self/fd"))
    return Sample(time.monotonic() - began, resident_mb, files, len(asyncio.all_tasks()))


async def watch(worker: Worker, samples: list[Sample], began: float) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        sample = look_at_process(began)
        samples.append(sample)
        print(_line(worker, sample), flush=True)


def _line(worker: Worker, sample: Sample) -> str:
    counts, pending = worker.counts, worker.look().pending
    kept = "conserved" if counts.read == counts.ended + sum(pending.values()) else "LOST COUNT"
    return (
        f"{sample.at_seconds:7.0f} s  read {counts.read:,}  delivered {counts.delivered:,}  "
        f"dead {counts.dead:,}  pending {sum(pending.values()):,}  {kept}  "
        f"{sample.resident_mb:.1f} MB  {sample.files} files  {sample.tasks} tasks"
    )


def slope_mb_per_hour(samples: list[Sample]) -> float:
    """Least squares over resident memory."""
    mean_at = sum(sample.at_seconds for sample in samples) / len(samples)
    mean_mb = sum(sample.resident_mb for sample in samples) / len(samples)
    spread = sum((sample.at_seconds - mean_at) ** 2 for sample in samples)
    together = sum((sample.at_seconds - mean_at) * (sample.resident_mb - mean_mb) for sample in samples)
    return together / spread * 3600 if spread else 0.0


def leaks(samples: list[Sample]) -> list[str]:
    """What grew after the warm-up, as sentences."""
    warm = samples[int(len(samples) * WARM_UP_SHARE) :]
    if len(warm) < 3:
        return ["too short to say: give it two minutes at least"]
    first, last = warm[0], warm[-1]
    slope = slope_mb_per_hour(warm)
    print(
        f"memory: {slope:+.2f} MB an hour, {last.resident_mb - first.resident_mb:+.2f} MB after the warm-up"
    )
    print(f"files: {first.files} to {last.files}; tasks: {first.tasks} to {last.tasks}")
    found = []
    if slope > LEAK_MB_PER_HOUR and last.resident_mb - first.resident_mb > LEAST_LEAK_MB:
        found.append("memory grows")
    if last.files > 2 * first.files + 10:
        found.append("open files grow")
    if last.tasks > first.tasks + 10:
        found.append("tasks grow")
    return found


def read_ledger(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/_sandbox/ledger") as told:
        ledger: dict[str, Any] = json.load(told)
    return ledger


async def soak(url: str, minutes: float, rate: float, directory: Path) -> list[str]:
    """Run it; return what is wrong, as sentences."""
    settings = Settings(
        http=Http(base_url=url, timeout_seconds=1),
        rate_limit=RateLimit(rate_per_second=2 * rate),
        delivery=Delivery(max_attempts=1000),  # nothing is exhausted: every dead letter is a fault of ours
        output=Output(results=str(directory / "results"), dead_letters=str(directory / "dead-letters")),
        guard=Guard(max_failure_ratio=1),
    )
    began = time.monotonic()
    source = MemorySource(endless_jobs(rate, began + minutes * 60))
    worker = Worker(settings, source=source, keyring=Keyring.of_key(KEY))
    samples: list[Sample] = []
    watching = asyncio.create_task(watch(worker, samples, began))
    summary = await worker.run()
    watching.cancel()
    print(f"read {summary.read:,}, delivered {summary.delivered:,}, requests {summary.requests:,}")
    wrong = leaks(samples)
    if not summary.read == summary.delivered > 0:
        wrong.append("not every job was delivered")
    ledger = await asyncio.to_thread(read_ledger, url)
    taken, twice = ledger["unique"], ledger["duplicates"]
    print(f"the API took {taken:,} jobs, {twice:,} of them twice or more")
    if taken != summary.read:
        wrong.append("the API has not what the worker says")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the worker for long against an API that fails.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=500.0, help="jobs a second")
    parser.add_argument("--faults", default="lossy,storm", help="as for `permutive-worker sandbox`")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, running_sandbox(asked.faults) as url:
        wrong = asyncio.run(soak(url, asked.minutes, asked.rate, Path(directory)))
    print("; ".join(wrong) if wrong else "nothing lost, nothing leaked")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
