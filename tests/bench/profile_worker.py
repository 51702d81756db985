"""Where the worker spends its time, for each job.

    python tests/bench/profile_worker.py [--lines 50000] [--sample] [-- --results results.ndjson …]

Runs `permutive-worker run` in this process against the sink and prints the 40 functions with the
most time of their own. Two views: by default every call is traced, which tells how often a function is
called, but makes small Python functions look dearer than they are. `--sample` looks at
each tick of the CPU's timer which Python function runs, and counts the C code it calls as its own.
"""

import argparse
import cProfile
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

from child import CLIENT_CPU, pinned_to, running_sink, worker_command
from jobs import KEY, write_jobs

SHOWN: Final = 40
SAMPLE_SECONDS: Final = 0.001  # or each tick of the kernel's timer, often 0.004


def run_worker(command: list[str]) -> None:
    from permutive_worker.cli.main import main

    with suppress(SystemExit):
        main(command)


def trace(run: Callable[[], None], lines: int) -> None:
    profile = cProfile.Profile()
    profile.runcall(run)
    dearest = sorted(profile.getstats(), key=lambda function: -function.inlinetime)
    print(f"{'own µs/job':>10} {'with callees':>12} {'calls/job':>9}")
    for function in dearest[:SHOWN]:
        own_micros, all_micros = (
            seconds / lines * 1e6 for seconds in (function.inlinetime, function.totaltime)
        )
        calls = function.callcount / lines
        print(f"{own_micros:10.2f} {all_micros:12.2f} {calls:9.2f}  {_place(function.code)}")


def sample(run: Callable[[], None], lines: int) -> None:
    seen: Counter[CodeType] = Counter()

    def look(_number: int, frame: FrameType | None) -> None:
        if frame is not None:
            seen[frame.f_code] += 1

    signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, SAMPLE_SECONDS, SAMPLE_SECONDS)
    began = os.times()
    run()
    ended = os.times()
    signal.setitimer(signal.ITIMER_PROF, 0)
    cpu_seconds = ended.user + ended.system - began.user - began.system
    print(f"{seen.total()} samples in {cpu_seconds:.2f} s of CPU: {cpu_seconds / lines * 1e6:.1f} µs/job")
    print(f"{'own µs/job':>10} {'share':>6}")
    for code, count in seen.most_common(SHOWN):
        share = count / seen.total()
        print(f"{share * cpu_seconds / lines * 1e6:10.2f} {share:6.1%}  {_place(code)}")


def _place(code: CodeType | str) -> str:
    if isinstance(code, str):  # written in C
        return code
    short = "/".join(Path(code.co_filename).parts[-2:])
    return f"{short}:{code.co_firstlineno} {code.co_qualname}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Where the worker spends its time.")
    parser.add_argument("--lines", type=int, default=50_000)
    parser.add_argument("--sample", action="store_true", help="look now and then instead of tracing calls")
    parser.add_argument("more", nargs="*", help="flags of `permutive-worker run`, after --")
    asked = parser.parse_args()
    os.environ["PERMUTIVE_API_KEY"] = KEY
    with tempfile.TemporaryDirectory() as directory, running_sink() as sink, pinned_to(CLIENT_CPU):
        os.chdir(directory)
        jobs = write_jobs(Path("jobs.ndjson"), asked.lines)
        command = worker_command(jobs, sink.url, *asked.more)[3:]  # without `python -m permutive_worker`
        (sample if asked.sample else trace)(lambda: run_worker(command), asked.lines)


if __name__ == "__main__":
    main()
