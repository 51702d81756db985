"""How fast the worker is, beside other ways to send the same requests, all in one run.

    python tests/bench/throughput.py [--lines 200000] [--rounds 3] [--seconds 300] [--only bare,worker]

Prints a table. Every row is a process of its own on one CPU, against the same sink (`sink.py`) on
another one. Rows take turns in rounds, so that a noisy neighbour hits all of them; medians are
printed. From the time and CPU of each run those of a run with one line are taken away, so start-up,
which matters to nobody with many lines, does not count; the peak of memory does include it.

    requests/s   of the client on its CPU
    CPU µs       user and system of the client's process, for each request
    peak MB      resident memory
    x bare       requests/s over those of the bare aiohttp loop in the same round
    CPU x bare   the same of CPU µs; steadier where others use the machine
    sink busy    of its CPU; above 90 % the row is slower than its client

The row with two processes has all CPUs, and shares them with the sink, so on two CPUs its requests/s say little.
Its CPU µs, those of all its processes together, do not have the sink's in them. From them follows what two do where
each has a core and the sink another: a core does 1,000,000 / CPU µs requests a second, two twice that, so

    factor = 2 x CPU µs of one process / CPU µs of two in all

which the last line tells, as the median over the rounds. Its peak is that of the larger process.
"""

import argparse
import importlib.metadata
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from child import ChildFailed, Cost, Sink, client_command, run_child, running_sink, worker_command
from jobs import write_jobs

INSTALL: Final = 'pip install "permutive-worker[bench]"'
INSTALL_SYSLOG_NG: Final = "apt-get install syslog-ng-core syslog-ng-mod-http"


class Row(NamedTuple):
    """One way to send `lines` requests.

    Attributes:
        name: for `--only`.
        label: what stands in the table.
        command: the client for so many requests to this URL.
        most_lines: slow clients need not send as many for a steady figure.
        package, program: what must be installed.
        cpus: of the client; 0 is all there are.
    """

    name: str
    label: str
    command: Callable[[str, int], list[str]]
    most_lines: int = sys.maxsize
    package: str = "permutive-worker"
    program: str = sys.executable
    cpus: int = 1


class Measurement(NamedTuple):
    """One row in one round."""

    per_second: float
    cpu_micros: float
    peak_mb: float
    sink_busy: float


def rows(directory: Path) -> list[Row]:
    def jobs(count: int) -> Path:
        path = directory / f"{count}.ndjson"
        return path if path.exists() else write_jobs(path, count)

    def half_jobs(count: int) -> str:
        for number in range(2):
            path = directory / f"half-{count}-{number}.ndjson"
            if not path.exists():
                write_jobs(path, (count + 1 - number) // 2, count * number)
        return str(directory / f"half-{count}-*.ndjson")

    def worker(*more: str) -> Callable[[str, int], list[str]]:
        return lambda url, count: worker_command(jobs(count), url, *more)

    def client(name: str) -> Callable[[str, int], list[str]]:
        return lambda url, count: client_command(name, url, count)

    return [
        Row("bare", "bare session.post loop", client("bare")),
        Row("plain", "plain wire alone", client("plain")),
        Row("lean", "lean wire alone", client("lean")),
        Row("worker_plain", "permutive-worker run, plain wire", worker("--set=http.wire=plain")),
        Row("worker", "permutive-worker run", worker("--set=http.wire=lean")),
        Row(
            "results",
            "permutive-worker run --results",
            worker("--set=http.wire=lean", "--results=results.ndjson"),
        ),
        Row(
            "processes",
            "permutive-worker run --processes 2",
            lambda url, count: worker_command(half_jobs(count), url, "--set=http.wire=lean", "--processes=2"),
            cpus=0,
        ),
        Row(
            "syslog_ng",
            "syslog-ng, http() with 16 workers",
            lambda url, count: [*client_command("syslog_ng", url, count), str(jobs(count))],
            program="syslog-ng",
        ),
        Row("batch_identify", "batch_identify, 4 threads", client("batch_identify"), 3_000, "PermutiveAPI"),
        Row("httpx", "httpx.AsyncClient", client("httpx"), 10_000, "httpx"),
    ]


def measure(row: Row, lines: int, sink: Sink, limit_seconds: float) -> Measurement:
    """Run a row with one line, then with all of them. Raises ChildFailed."""
    lines = min(lines, row.most_lines)
    start_up = run_child(row.command(sink.url, 1), limit_seconds, cpus=row.cpus)
    before = sink.work()
    whole = run_child(row.command(sink.url, lines), limit_seconds, cpus=row.cpus)
    after = sink.work()
    if (sent := after.requests - before.requests) != lines:
        raise ChildFailed(f"it sent {sent} requests for {lines} lines")
    return figures(whole.without(start_up), lines - 1, after.cpu_seconds - before.cpu_seconds)


def figures(cost: Cost, requests: int, sink_cpu_seconds: float) -> Measurement:
    return Measurement(
        per_second=requests / cost.wall_seconds,
        cpu_micros=cost.cpu_seconds / requests * 1e6,
        peak_mb=cost.peak_bytes / 1e6,
        sink_busy=sink_cpu_seconds / cost.wall_seconds,
    )


class Table:
    """What was measured, by row and round; a row that failed says why instead."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._rounds: list[dict[str, Measurement]] = []
        self._problems: dict[str, str] = {}

    def play_round(self, sink: Sink, lines: int, limit_seconds: float) -> None:
        measured: dict[str, Measurement] = {}
        self._rounds.append(measured)
        for row in self._rows:
            if row.name in self._problems:
                continue
            if missing := what_is_missing(row):
                self._problems[row.name] = f"not installed: {missing}"
                continue
            try:
                measured[row.name] = measure(row, lines, sink, limit_seconds)
            except ChildFailed as failure:
                self._problems[row.name] = str(failure)
                continue
            self._tell(row, measured[row.name])

    def _tell(self, row: Row, one: Measurement) -> None:
        told = f"{one.per_second:,.0f}/s, {one.cpu_micros:.1f} µs"
        print(f"round {len(self._rounds)}: {row.label}: {told}", file=sys.stderr, flush=True)

    def text(self) -> str:
        heads = ("requests/s", "CPU µs", "peak MB", "x bare", "CPU x bare", "sink busy")
        lines = [f"{'':36}" + "".join(f"{head:>12}" for head in heads), *map(self._line, self._rows)]
        return "\n".join([*lines, *self._bound()])

    def _bound(self) -> list[str]:
        """What two processes do with a core for each, if both rows were measured."""
        pairs = [
            (one["worker"], one["processes"]) for one in self._rounds if {"worker", "processes"} <= {*one}
        ]
        if not pairs:
            return []
        factor = median(2 * one.cpu_micros / two.cpu_micros for one, two in pairs)
        a_core = median(1e6 / two.cpu_micros for _, two in pairs)
        told = f"{a_core:,.0f} requests/s and core, {factor:.2f} times one process"
        return [f"\nTwo processes with a core for each, by their CPU µs: {told}"]

    def _line(self, row: Row) -> str:
        if row.name in self._problems:
            return f"{row.label:36}  {self._problems[row.name]}"
        found = [one[row.name] for one in self._rounds]
        pairs = [(one[row.name], one["bare"]) for one in self._rounds if "bare" in one]
        cells = (
            f"{median(one.per_second for one in found):,.0f}",
            f"{median(one.cpu_micros for one in found):.1f}",
            f"{median(one.peak_mb for one in found):.0f}",
            f"{median(one.per_second / bare.per_second for one, bare in pairs):.2f}" if pairs else "-",
            f"{median(one.cpu_micros / bare.cpu_micros for one, bare in pairs):.2f}" if pairs else "-",
            f"{median(one.sink_busy for one in found):.0%}",
        )
        return f"{row.label:36}" + "".join(f"{cell:>12}" for cell in cells)


def what_is_missing(row: Row) -> str:
    """How to install what a row needs and is not there; empty if all is."""
    if not is_installed(row.package):
        return INSTALL
    return "" if shutil.which(row.program) else INSTALL_SYSLOG_NG


def is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def versions() -> str:
    packages = ("permutive-worker", "aiohttp", "uvloop", "PermutiveAPI", "httpx")
    found = [f"{name} {importlib.metadata.version(name)}" for name in packages if is_installed(name)]
    return ", ".join([f"CPython {platform.python_version()}", *found])


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the worker with other ways to send requests.")
    parser.add_argument("--lines", type=int, default=200_000, help="of a fast row (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=300.0, help="limit of one process (default: 300)")
    parser.add_argument("--only", help="names of rows, with commas: bare, worker, results, …")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, running_sink() as sink:
        known = rows(Path(directory))
        names = asked.only.split(",") if asked.only else [row.name for row in known]
        if unknown := set(names) - {row.name for row in known}:
            parser.error(f"no row is called {', '.join(unknown)}: {', '.join(row.name for row in known)}")
        if asked.lines < 2:
            parser.error("--lines must be 2 or more: one is the start-up")
        table = Table([row for row in known if row.name in names])
        for _ in range(asked.rounds):
            table.play_round(sink, asked.lines, asked.seconds)
    print(f"{versions()}; {asked.lines:,} lines, median of {asked.rounds} rounds\n")
    print(table.text())


if __name__ == "__main__":
    main()
