"""How fast the worker is at a queue, beside the same lines from a file, in one run.

    python tests/bench/queues.py [--lines 50000] [--rounds 3] [--only redis]

The worker has one CPU; sink and broker share another. A row is measured from the moment the worker delivers
to the moment the sink has everything, so neither start-up nor stop counts. Rows take turns; medians are printed.

    requests/s   of the worker
    CPU µs       user and system of the worker's process, start-up included, for each request
    x file       requests/s over those of the file in the same round
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from child import CLIENT_CPU, SINK_CPU, Sink, environment, pinned_to, running_sink, worker_command
from jobs import write_jobs

sys.path.append(str(Path(__file__).parents[1]))
from support.brokers import BROKERS

BLOCK_LINES = 1000
STUCK_SECONDS = 20.0
BEGIN_SHARE = 0.1  # of the lines, before the clock starts


class Measurement(NamedTuple):
    per_second: float
    cpu_micros: float


def deliver(input_: str, sink: Sink, lines: int, *more: str) -> Measurement:
    """Run a worker until the sink has got all lines."""
    before = sink.work().requests
    command = worker_command(Path("INPUT"), sink.url, *more)
    command[command.index("INPUT")] = input_  # a Path would make one slash of the two in a URL
    with tempfile.TemporaryDirectory() as directory:
        with pinned_to(CLIENT_CPU):
            process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        per_second = until_delivered(process, sink, before, lines)
        process.send_signal(signal.SIGTERM)
        _, _, usage = os.wait4(process.pid, 0)
    return Measurement(per_second, (usage.ru_utime + usage.ru_stime) / lines * 1e6)


def until_delivered(process: subprocess.Popen[bytes], sink: Sink, before: int, lines: int) -> float:
    """Wait, and return the requests a second after the first BEGIN_SHARE of them."""
    began, began_with, heard = 0.0, 0, time.monotonic()
    got = 0
    while got < lines:
        time.sleep(0.02)
        was, got = got, sink.work().requests - before
        heard = time.monotonic() if got > was else heard
        if time.monotonic() - heard > STUCK_SECONDS:
            process.kill()
            raise SystemExit(f"stuck at {got} of {lines}")
        if not began and got >= lines * BEGIN_SHARE:
            began, began_with = time.monotonic(), got
    return (got - began_with) / (time.monotonic() - began)


async def deliver_from_queue(name: str, texts: list[bytes], sink: Sink, lines: int) -> Measurement:
    with tempfile.TemporaryDirectory() as directory:
        broker = BROKERS[name](Path(directory))
        broker.lease_seconds = 30.0
        lines = min(lines, broker.most_jobs)
        with pinned_to(SINK_CPU):
            await broker.start()
        try:
            for at in range(0, lines, BLOCK_LINES):
                await broker.publish(texts[at : at + BLOCK_LINES])
            return await asyncio.to_thread(deliver, broker.url, sink, lines, "--create")
        finally:
            await broker.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare queues with a file.")
    parser.add_argument("--lines", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help=f"names, with commas: {', '.join(BROKERS)}")
    asked = parser.parse_args()
    # The imitation of SQS is slower than any worker: only for who asks.
    names = asked.only.split(",") if asked.only else [name for name in BROKERS if name != "sqs"]
    rounds: list[dict[str, Measurement]] = []
    with tempfile.TemporaryDirectory() as directory, running_sink() as sink:
        jobs = write_jobs(Path(directory) / "jobs.ndjson", asked.lines)
        texts = jobs.read_bytes().splitlines()
        for _ in range(asked.rounds):
            measured = {"file": deliver(str(jobs), sink, asked.lines)}
            for name in names:
                measured[name] = asyncio.run(deliver_from_queue(name, texts, sink, asked.lines))
            rounds.append(measured)
    print(
        f"{asked.lines:,} lines, median of {asked.rounds} rounds\n{'':12}{'requests/s':>12}{'CPU µs':>12}{'x file':>12}"
    )
    for name in ("file", *names):
        found = [(one[name], one["file"]) for one in rounds]
        print(
            f"{name:12}{median(one.per_second for one, _ in found):>12,.0f}"
            f"{median(one.cpu_micros for one, _ in found):>12.1f}"
            f"{median(one.per_second / file.per_second for one, file in found):>12.2f}"
        )


if __name__ == "__main__":
    main()
