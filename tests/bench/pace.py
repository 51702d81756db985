"""What the pace makes of an API whose limit it is not told, simulated: no network, no waiting.

    PYTHONPATH=.:tests python tests/bench/pace.py [--seeds 3] [--only noise]

A row is an API; its figures are the means over the seeds, the worst in brackets.

    used        of what the API would have taken after the first ten seconds, or after a change
    429         share of the requests of that time
    90 % after  seconds until each whole second had nine tenths of it, to the end of the time looked at
"""

import argparse
import math
from collections.abc import Callable
from statistics import fmean
from typing import NamedTuple

from support.simulation import Bucket, Ceiling, Unlimited, seconds_until, simulate, throttled, used

from permutive_worker.control.pace import Pace
from permutive_worker.http.gate import Gate


class Case(NamedTuple):
    name: str
    api: Callable[[], Bucket | Unlimited]
    seconds: float
    spans: tuple[tuple[float, float, float], ...]  # from, to, requests a second the API takes then
    hint: float | None = None
    ceiling: float = 0.0


def steady(name: str, rate: float, burst: float, *, seconds: float = 120.0, **more: float) -> Case:
    hint, ceiling = more.pop("hint", None), more.pop("ceiling", 0.0)
    share = (1 - more.get("stolen", 0.0)) * (1 - more.get("noise", 0.0))
    limit = min(rate, ceiling or math.inf) * share
    return Case(name, lambda: Bucket(rate, burst, **more), seconds, ((10, seconds, limit),), hint, ceiling)


def steps(name: str, *, hint: float | None = None, stolen: float = 0.0) -> Case:
    taken = 1 - stolen
    return Case(
        name,
        lambda: Bucket(500, 50, stolen=stolen, steps=[(25, 200), (50, 500)]),
        75,
        ((15, 25, 500 * taken), (40, 50, 200 * taken), (65, 75, 500 * taken)),
        hint,
    )


CASES = [
    steady("400, burst 40", 400, 40),
    steady("400, burst 40, 200 ms", 400, 40, latency=0.2),
    steady("400, burst 400", 400, 400),
    steady("500, burst 50", 500, 50),
    steady("50, burst 40", 50, 40),
    steady("50, burst 5", 50, 5),
    steady("5, burst 5", 5, 5, seconds=300),
    steady("4,000, burst 400", 4000, 400, seconds=60),
    steady("another client takes a third", 400, 40, stolen=1 / 3),
    steady("400, Retry-After 1", 400, 40, hint=1),
    steady("500, Retry-After 1", 500, 50, hint=1),
    steady("50, Retry-After 1", 50, 5, hint=1),
    steady("4,000, Retry-After 1", 4000, 400, hint=1, seconds=60),
    steady("a third taken, Retry-After 1", 400, 40, stolen=1 / 3, hint=1),
    steps("500 > 200 > 500"),
    steps("500 > 200 > 500, Retry-After 1", hint=1),
    steps("500 > 200 > 500, a third taken", stolen=1 / 3),
    steps("500 > 200 > 500, third, Retry-After 1", stolen=1 / 3, hint=1),
    steady("400, noise 0.1 %", 400, 40, noise=0.001),
    steady("400, noise 1 %", 400, 40, noise=0.01),
    steady("400, noise 3 %", 400, 40, noise=0.03),
    steady("400, noise 10 %", 400, 40, noise=0.1),
    steady("400, noise 30 %", 400, 40, noise=0.3),
    steady("4,000, noise 1 %", 4000, 400, noise=0.01, seconds=60),
    steady("--rate 500, noise 1 %", 1e9, 1e9, noise=0.01, ceiling=500),
    steady("--rate 50, noise 1 %", 1e9, 1e9, noise=0.01, ceiling=50),
    steady("--rate 500, limit 400", 400, 40, ceiling=500),
    Case("no limit, 20,000/s", lambda: Unlimited(20_000), 8, ((4, 8, 20_000),)),
    Case("no limit, 10,000/s, noise 1 %", lambda: Unlimited(10_000, noise=0.01), 20, ((10, 20, 9_900),)),
]


def gate_for(case: Case) -> Gate:
    if case.ceiling:
        return Gate(256, Ceiling(case.ceiling), Pace(case.ceiling))
    return Gate(256)


def figures(case: Case, seed: int) -> list[tuple[float, float, float]]:
    log = simulate(gate_for(case), case.api(), case.seconds, hint=case.hint, seed=seed)
    changes = [0.0, *(begin - 15 for begin, _, _ in case.spans[1:])]
    changes = [change if len(case.spans) > 1 else 0.0 for change in changes]
    return [
        (used(log, limit, begin, end), throttled(log, begin, end), seconds_until(log, limit, change, end))
        for (begin, end, limit), change in zip(case.spans, [0.0, 25.0, 50.0], strict=False)
    ]


def line(case: Case, seeds: int) -> str:
    rows = [figures(case, seed) for seed in range(seeds)]
    cells = []
    for span in zip(*rows, strict=True):
        use, share, after = zip(*span, strict=True)
        cells.append(
            f"{fmean(use):7.1%} [{min(use):6.1%}] {fmean(share):7.2%} [{max(share):6.2%}] {fmean(after):5.0f} s"
        )
    return f"{case.name:38}" + " |".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate the pace against hidden limits.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    asked = parser.parse_args()
    print(f"{'':38}{'used [worst]':>16} {'429 [worst]':>16} {'90 % after':>8}")
    for case in CASES:
        if asked.only in case.name:
            print(line(case, asked.seeds), flush=True)


if __name__ == "__main__":
    main()
