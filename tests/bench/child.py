"""Runs the sink, the worker and other clients as processes of their own, and says what they cost.

Used by the benchmarks beside it; nothing to run here.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final, NamedTuple

from jobs import KEY

HERE: Final = Path(__file__).parent
CLIENT_CPU: Final = 0
SINK_CPU: Final = 1
LAST_WORDS: Final = 300  # characters of what a child that failed said last


class ChildFailed(Exception):  # noqa: N818  (named as what happened)
    """A child ended with another code than 0; what it said last."""


class Cost(NamedTuple):
    """Of one process from its start to its end."""

    wall_seconds: float
    cpu_seconds: float  # user and system, all threads
    peak_bytes: int  # resident

    def without(self, start_up: "Cost") -> "Cost":
        """The time of this run less that of one with next to nothing to do."""
        return Cost(
            self.wall_seconds - start_up.wall_seconds,
            self.cpu_seconds - start_up.cpu_seconds,
            self.peak_bytes,
        )


class SinkWork(NamedTuple):
    """What the sink has done since its start."""

    requests: int
    cpu_seconds: float


class Sink:
    """The sink of a benchmark, in another process."""

    def __init__(self, url: str) -> None:
        self.url = url

    def work(self) -> SinkWork:
        with urllib.request.urlopen(self.url) as told:
            return SinkWork(**json.load(told))


@contextmanager
def running_sink(throttle_seconds: float = 0.0) -> Iterator[Sink]:
    command = [sys.executable, str(HERE / "sink.py"), f"--throttle-seconds={throttle_seconds}"]
    with pinned_to(SINK_CPU):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Sink(process.stdout.readline().strip())
    finally:
        process.terminate()
        process.wait()


def worker_command(jobs: Path | str, url: str, *more: str) -> list[str]:
    """The whole worker, with everything on that people have on, and a rate that never binds."""
    command = [sys.executable, "-m", "permutive_worker", "run", str(jobs), f"--base-url={url}"]
    return [*command, "--rate=1000000", "--admin=127.0.0.1:0", "--progress=json", *more]


def client_command(name: str, url: str, requests: int) -> list[str]:
    return [sys.executable, str(HERE / "clients.py"), name, url, str(requests)]


def run_child(command: Sequence[str], limit_seconds: float, *, cpus: int = 1) -> Cost:
    """Run a client to its end in an empty directory, on one CPU, or on all for `cpus = 0`.

    Units: CPU includes the processes it started and waited for; `peak_bytes` is never below the size of this process, which the kernel counts in.

    Raises:
        ChildFailed: it failed, or took longer than `limit_seconds` and was killed.
    """
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryFile() as stderr:
        began = time.monotonic()
        with pinned_to(CLIENT_CPU) if cpus else nullcontext():
            process = subprocess.Popen(
                command, cwd=directory, env=environment(), stdout=subprocess.DEVNULL, stderr=stderr
            )
        watchdog = threading.Timer(limit_seconds, process.kill)
        watchdog.start()
        _, status, usage = os.wait4(process.pid, 0)
        watchdog.cancel()
        wall_seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            if wall_seconds >= limit_seconds:
                raise ChildFailed(f"killed after {wall_seconds:.0f} s, its limit")
            stderr.seek(0)
            said = _last_words(stderr.read().decode(errors="replace"))
            raise ChildFailed(f"exit code {process.returncode} after {wall_seconds:.0f} s: {said}")
    return Cost(wall_seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _maxrss_unit_bytes())


def _last_words(text: str) -> str:
    """The last line that has words in it: of a traceback the error, of the worker the summary."""
    lines = [line for line in text.splitlines() if any(map(str.isalpha, line))]
    return lines[-1].strip(" |")[:LAST_WORDS] if lines else "it said nothing"


def environment() -> dict[str, str]:
    """Ours without keys, settings and proxies."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PERMUTIVE_") and not name.lower().endswith("_proxy")
    }
    return kept | {"PERMUTIVE_API_KEY": KEY}


@contextmanager
def pinned_to(cpu: int) -> Iterator[None]:
    """Processes that start meanwhile run on this CPU only, where the system can do that and has two."""
    if not hasattr(os, "sched_setaffinity") or len(cpus := os.sched_getaffinity(0)) < 2:
        yield
        return
    os.sched_setaffinity(0, {sorted(cpus)[cpu]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)


def _maxrss_unit_bytes() -> int:
    return 1 if sys.platform == "darwin" else 1024
