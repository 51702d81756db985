"""Whether the loop ever stands still, and memory stays flat, at full speed with everything on.

    python tests/bench/stall.py [--lines 1000000] [--rate 1000000]

The whole worker on one CPU against a sink on another one: checkpoints, results, dead letters (a line in a
thousand), progress, and `/metrics` scraped twice a second, from which all figures come. Prints how late the
loop woke (`event_loop_lag_seconds`, twenty samples a second), the rate, and resident memory in the first and
the last third of the run.

On a machine that has other work, the loop is late because it had no CPU. How long it waited for one is told too,
and how many of the late samples fell between two scrapes in which it waited for as long as the goal allows.

The goals, on a machine that does nothing else: no sample above 20 ms, 100 MB, and the last third within 5 % of
the first. The exit code is 1 if one is missed.
"""

import argparse
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Final, NamedTuple

from child import CLIENT_CPU, SINK_CPU, environment, pinned_to, running_sink, worker_command
from jobs import lines

SCRAPE_SECONDS: Final = 0.5
GOAL_SECONDS: Final = 0.02
GOAL_MB: Final = 100
SAME: Final = 1.05
BAD_EVERY: Final = 1000
PREFIX: Final = "permutive_worker_"


class Scrape(NamedTuple):
    """One look at `/metrics`; `lags` are counts by upper bound, cumulated as Prometheus has them.

    `waited_seconds`: how long the process had been ready and had no CPU.
    """

    at_seconds: float
    resident_mb: float
    delivered: float
    lags: dict[float, float]
    waited_seconds: float

    @property
    def late(self) -> float:
        return max(self.lags.values()) - self.lags[GOAL_SECONDS]


def write_lines(path: Path, count: int) -> Path:
    with path.open("w", encoding="ascii") as file:
        for number, line in enumerate(lines(count)):
            file.write(line if number % BAD_EVERY else "{}\n")
    return path


def scrape(url: str, pid: int) -> Scrape | None:
    """None before the worker listens, and after it has ended."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return None
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    bucket = PREFIX + 'event_loop_lag_seconds_bucket{le="'
    return Scrape(
        time.monotonic(),
        float(values["process_resident_memory_bytes"]) / 1e6,
        sum(float(value) for name, value in values.items() if name.startswith(PREFIX + "jobs_delivered")),
        {
            float(name.removeprefix(bucket).removesuffix('"}')): float(value)
            for name, value in values.items()
            if name.startswith(bucket)
        },
        waited_seconds(pid),
    )


def waited_seconds(pid: int) -> float:
    """How long its main thread was ready and had no CPU; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def watch(jobs: Path, rate: int) -> list[Scrape]:
    """Run the worker to its end; return what was seen on the way."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    more = (f"--rate={rate}", f"--admin={port}", "--results=results.ndjson", "--max-failure-ratio=1")
    seen: list[Scrape] = []
    with running_sink() as sink, tempfile.TemporaryDirectory() as directory:
        command = worker_command(jobs, sink.url, *more)
        with pinned_to(CLIENT_CPU):
            process = subprocess.Popen(command, cwd=directory, env=environment(), stderr=subprocess.DEVNULL)
        with pinned_to(SINK_CPU):  # who looks must not be what makes it late
            while process.poll() is None:
                if (one := scrape(f"http://127.0.0.1:{port}/metrics", process.pid)) is not None:
                    seen.append(one)
                time.sleep(SCRAPE_SECONDS)
    if process.returncode != 3 or len(seen) < 3:  # 3: there are dead letters
        sys.exit(f"the worker ended with {process.returncode}, seen {len(seen)} times: give it more lines")
    return seen


def lag_quantile(lags: dict[float, float], share: float) -> float:
    """The upper bound of the bucket in which this share of the samples is reached."""
    total = max(lags.values())
    return min(bound for bound, count in lags.items() if count >= share * total)


def main() -> int:
    parser = argparse.ArgumentParser(description="How late the loop is and how much memory it takes.")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument(
        "--rate", type=int, default=1_000_000, help="requests a second; never binds by default"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        seen = watch(write_lines(Path(directory, "jobs.ndjson"), asked.lines), asked.rate)
    last, third = seen[-1], max(1, len(seen) // 3)
    first_mb, last_mb = (fmean(one.resident_mb for one in part) for part in (seen[:third], seen[-third:]))
    peak_mb = max(one.resident_mb for one in seen)
    total = max(last.lags.values())
    rates = [(b.delivered - a.delivered) / (b.at_seconds - a.at_seconds) for a, b in pairwise(seen)]
    unserved = sum(
        b.late - a.late for a, b in pairwise(seen) if b.waited_seconds - a.waited_seconds >= GOAL_SECONDS
    )
    quantiles = ", ".join(
        f"{share:.1%} <= {lag_quantile(last.lags, share) * 1e3:g} ms" for share in (0.5, 0.99, 0.999, 1)
    )
    print(
        f"{asked.lines:,} lines, {fmean(rates):,.0f} delivered a second on average, {max(rates):,.0f} at most"
    )
    print(f"loop lag of {total:,.0f} samples: {quantiles}; above {GOAL_SECONDS * 1e3:g} ms: {last.late:.0f}")
    print(
        f"it waited for a CPU for {last.waited_seconds:.2f} s of {last.at_seconds - seen[0].at_seconds:.1f}; "
        f"{unserved:.0f} of the late samples fell between scrapes where it waited for {GOAL_SECONDS * 1e3:g} ms or more"
    )
    print(f"resident: {first_mb:.1f} MB in the first third, {last_mb:.1f} in the last, {peak_mb:.1f} at most")
    met = not last.late and peak_mb <= GOAL_MB and last_mb <= first_mb * SAME
    print(
        f"goal, nothing above {GOAL_SECONDS * 1e3:g} ms and {GOAL_MB} MB, flat: {'met' if met else 'missed'}"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
