"""`permutive-worker enqueue`: the lines of files into a queue."""

import sys
import time
from collections.abc import Sequence
from typing import Final

import click

from permutive_worker.cli.loops import run_in_loop
from permutive_worker.cli.options import files_for
from permutive_worker.errors import InputError, UnreachableError, UsageError, WorkerError
from permutive_worker.model import Delivery
from permutive_worker.ports import Publisher, Source
from permutive_worker.sources.address import is_url
from permutive_worker.sources.files import FileSource, expand_inputs
from permutive_worker.sources.stdin import StdinSource
from permutive_worker.worker.queues import open_publisher

BLOCK_BYTES: Final = 256 * 1024  # published in one call
MAX_LINE_BYTES: Final = 64 * 1024 * 1024  # the broker has its own limit, and says so

_EPILOG: Final = """\b
Examples:
  permutive-worker enqueue jobs.ndjson.gz 'redis://localhost:6379/0?stream=jobs'
  permutive-worker enqueue --create 'exports/*.ndjson' 'redis://localhost:6379/0?stream=jobs'
  zcat jobs.gz | permutive-worker enqueue - nats://localhost:4222/JOBS
  permutive-worker enqueue jobs.ndjson kafka://localhost:9092/jobs
  permutive-worker enqueue jobs.ndjson amqp://localhost:5672/%2F/jobs
  permutive-worker enqueue jobs.ndjson 'sqs://jobs?region=eu-west-1'

A line is one message; blank lines are left out. The password comes from
PERMUTIVE_WORKER_SOURCE__PASSWORD or PERMUTIVE_WORKER_SOURCE__PASSWORD_FILE.
"""


@click.command("enqueue", epilog=_EPILOG, short_help="Put the lines of files into a queue.")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE … URL", shell_complete=files_for)
@click.option("--create", is_flag=True, help="Make the stream or queue if it is not there.")
def enqueue(inputs: tuple[str, ...], create: bool) -> None:
    """Put the lines of FILE … into the queue at URL, and see that the broker has them."""
    *files, url = inputs
    if not is_url(url) or not files:
        raise UsageError("name at least one FILE (or - for stdin), and the URL of the queue last")
    source: Source = (
        StdinSource(MAX_LINE_BYTES)
        if files == ["-"]
        else FileSource(expand_inputs(files, ()), MAX_LINE_BYTES)
    )
    run_in_loop(_enqueue(source, open_publisher(url, create=create)))


async def _enqueue(source: Source, publisher: Publisher) -> None:
    shown = Shown()
    await source.open()
    try:
        await publisher.open()
        while deliveries := await source.receive(BLOCK_BYTES):
            await _publish(publisher, deliveries, shown)
    finally:
        shown.end()
        await publisher.close()
        await source.close()


async def _publish(publisher: Publisher, deliveries: Sequence[Delivery], shown: "Shown") -> None:
    lines = [delivery for delivery in deliveries if delivery.raw.strip()]
    if not lines:
        return
    for delivery in lines:
        if delivery.oversize_bytes:
            raise InputError(
                f"{delivery.position} has {delivery.oversize_bytes:,} bytes, too many for a message"
            )
    fault: WorkerError | None = None
    try:
        confirmed = await publisher.publish([delivery.raw for delivery in lines])
    except UnreachableError as error:
        confirmed, fault = 0, error
    shown.add(confirmed)
    if confirmed < len(lines):
        why = fault or "the broker did not confirm every line: is one too large, or the queue full?"
        raise UnreachableError(
            f"{why}\n{shown.confirmed:,} lines are confirmed; of the lines from {lines[0].position} on "
            "some may be in the queue too"
        )


class Shown:
    """How many lines are in the queue and how fast, on stderr: in place at a terminal, else now and then."""

    def __init__(self) -> None:
        self.confirmed = 0
        self._began = time.monotonic()
        self._is_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._every_seconds = 0.25 if self._is_terminal else 10.0
        self._next_at = self._began + self._every_seconds

    def add(self, lines: int) -> None:
        self.confirmed += lines
        if time.monotonic() >= self._next_at:
            self._next_at += self._every_seconds
            self._tell(last=not self._is_terminal)

    def end(self) -> None:
        self._tell(last=True)

    def _tell(self, *, last: bool) -> None:
        seconds = time.monotonic() - self._began
        text = f"{self.confirmed:,} lines confirmed in {seconds:.1f} s, {self.confirmed / max(seconds, 1e-3):,.0f}/s"
        click.echo(("\r" if self._is_terminal else "") + text, err=True, nl=last)
