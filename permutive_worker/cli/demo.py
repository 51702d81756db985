"""`permutive-worker demo`: the whole thing on one machine, without a key.

Starts the sandbox as a process of its own, makes sample jobs, delivers them through the real `run`
path, and proves the law of conservation from the sandbox's own ledger.
"""

import hashlib
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any, Final

import click
import msgspec

from permutive_worker.cli.process import run_to_exit
from permutive_worker.cli.sandbox import check_profile
from permutive_worker.config import Http, Log, Output, RateLimit, Settings, State
from permutive_worker.credentials import Keyring
from permutive_worker.errors import WorkerError
from permutive_worker.worker import Worker

_EPILOG: Final = """\b
Examples:
  permutive-worker demo
  permutive-worker demo --jobs 5000 --faults 500=0.1,reset=0.02 --rate 2000
"""


@click.command("demo", epilog=_EPILOG, short_help="Try it all on this machine, without a key.")
@click.option("--jobs", default=20_000, show_default=True, type=click.IntRange(1), help="How many jobs.")
@click.option(
    "--rate", default=0.0, type=click.FloatRange(0), help="Requests a second at most. [default: none]"
)
@click.option(
    "--faults",
    callback=check_profile,
    default="none",
    show_default=True,
    help="What the sandbox does wrong: lossy, storm …",
)
def demo(jobs: int, rate: float, faults: str) -> int:
    """Try it: a sandbox API, sample jobs and a real run, in one command. No key needed."""
    with tempfile.TemporaryDirectory(prefix="permutive-worker-demo-") as folder, _sandbox(faults) as url:
        click.echo(f"An imitation of the Permutive API listens at {url}", err=True)
        path = Path(folder, "jobs.ndjson")
        path.write_bytes(b"\n".join(sample_lines(jobs)) + b"\n")
        click.echo(
            f"Delivering {jobs:,} sample jobs, as by:\n  permutive-worker run --base-url {url} jobs.ndjson",
            err=True,
        )
        settings = Settings(
            http=Http(base_url=url),
            rate_limit=RateLimit(rate_per_second=rate),
            state=State(dir=str(Path(folder, "state"))),
            output=Output(dead_letters=str(Path(folder, "dead-letters.ndjson"))),
            log=Log(level="warning"),
        )
        keyring = Keyring.of_key("demo-key-that-opens-nothing")
        workers: list[Worker] = []

        def make() -> Worker:
            workers.append(Worker(settings, [str(path)], keyring=keyring))
            return workers[0]

        code = run_to_exit(settings, keyring, make, hinting=False)  # its folder goes
        return code if _prove(workers[0], _ledger(url)) else 1


@contextmanager
def _sandbox(faults: str) -> Iterator[str]:
    """A sandbox on a free loopback port; gives its URL."""
    command = [sys.executable, "-m", "permutive_worker", "sandbox", "--port", "0", "--faults", faults]
    # A session of its own: Ctrl-C is for the worker, and the ledger is asked after it.
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            url = _url_of(process)
            Thread(target=process.communicate, daemon=True).start()  # or its log fills the pipe
            yield url
        finally:
            process.terminate()


def _url_of(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None  # noqa: S101  (asked for above)
    told = ""
    for line in process.stderr:
        told += line
        for word in line.replace(";", " ").split():
            if word.startswith("http://"):
                return word
    raise WorkerError(f"the sandbox did not start: {told.strip()}")


def sample_lines(count: int, seed: int = 1) -> Iterator[bytes]:
    """Jobs as a publisher has them: mostly identities, some segmentations and events."""
    chance = Random(seed)
    for number in range(count):
        user_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        yield msgspec.json.encode(_sample(number, user_id))


def _sample(number: int, user_id: str) -> dict[str, Any]:
    if number % 10 == 8:
        event = {"name": "Pageview", "time": "2026-01-02T03:04:05.678Z", "properties": {"section": "news"}}
        return {"type": "segmentation", "user_id": user_id, "events": [event]}
    if number % 10 == 9:
        return {"type": "event", "name": "Subscribed", "user_id": user_id, "properties": {"plan": "year"}}
    email = hashlib.sha256(f"reader{number}@example.com".encode()).hexdigest()
    alias = {"id": email, "tag": "email_sha256", "priority": 0}
    return {"type": "identify", "user_id": user_id, "aliases": [alias]}


def _ledger(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"{url}/_sandbox/ledger", timeout=10) as answer:  # noqa: S310  (loopback)
            ledger: dict[str, Any] = msgspec.json.decode(answer.read())
    except (OSError, msgspec.DecodeError):
        raise WorkerError("the sandbox ended before its ledger was read: run the demo again") from None
    return ledger


def _prove(worker: Worker, ledger: dict[str, Any]) -> bool:
    """Say whether nothing was lost, by the worker's count and by the sandbox's."""
    summary = worker.summary()
    ended = summary.delivered + summary.dead_lettered + summary.skipped + summary.returned
    click.echo(
        f"The worker read {summary.read:,} lines = delivered {summary.delivered:,} + dead letters "
        f"{summary.dead_lettered:,}\n  + skipped {summary.skipped:,} + returned {summary.returned:,}",
        err=True,
    )
    click.echo(
        f"The sandbox took {ledger['unique']:,} different jobs, {ledger['duplicates']:,} of them again,\n"
        f"  in {ledger['requests']:,} requests",
        err=True,
    )
    # A job taken whose answer was lost, and then given up, is both taken and a dead letter.
    kept = (
        summary.delivered <= ledger["unique"] <= summary.delivered + summary.dead_lettered + summary.returned
    )
    proven = summary.read == ended and kept
    click.echo("Nothing was lost." if proven else "This does not add up: please report it.", err=True)
    return proven
