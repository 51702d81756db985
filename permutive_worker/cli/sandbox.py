"""`permutive-worker sandbox`: the imitation API on a port, until it is stopped."""

import asyncio
import gc
import signal
from functools import partial
from typing import Any

import click
import orjson

from permutive_worker.sandbox import faults
from permutive_worker.sandbox.app import Sandbox
from permutive_worker.sandbox.options import SandboxOptions

_EPILOG = """\b
Example: an API that takes 500 requests a second and breaks in every way
  permutive-worker sandbox --rate-limit 500 --faults lossy --seed 7
  permutive-worker run --base-url http://127.0.0.1:8080 jobs.ndjson
  curl http://127.0.0.1:8080/_sandbox/ledger

\b
While it runs (see also /_sandbox/ledger/entries and /_sandbox/ledger/arrivals):
  curl -d '{"faults": "storm"}' http://127.0.0.1:8080/_sandbox/faults
  curl -d '{"rate_limit": 50}' http://127.0.0.1:8080/_sandbox/limit
  curl -d '{"api_keys": []}' http://127.0.0.1:8080/_sandbox/keys
  curl -X POST http://127.0.0.1:8080/_sandbox/reset
"""


class _AddressError(click.ClickException):
    """The address cannot be listened on."""

    exit_code = 69


def _parse_seconds(_ctx: click.Context, _param: click.Parameter, text: str) -> float:
    """Read `0.05`, `0.05s` or `50ms`."""
    number, scale = (text[:-2], 1000) if text.endswith("ms") else (text.removesuffix("s"), 1)
    try:
        return float(number) / scale
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time; 0.05 and 50ms are.") from None


def check_profile(_ctx: click.Context, _param: click.Parameter, text: str) -> str:
    """Raises click.BadParameter if it is no fault profile."""
    try:
        return faults.parse_profile(text).text
    except faults.ProfileError as error:
        raise click.BadParameter(str(error)) from None


def _collect_keys(_ctx: click.Context, _param: click.Parameter, keys: tuple[str, ...]) -> frozenset[str]:
    return frozenset(keys)


@click.command("sandbox", epilog=_EPILOG)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option(
    "--rate-limit",
    "rate_limit_per_second",
    default=0.0,
    metavar="N",
    help="Requests a second; the others get 429. 0 is no limit.",
)
@click.option(
    "--burst", type=float, metavar="N", help="Most that pass at once.  [default: a tenth of the rate]"
)
@click.option(
    "--retry-after",
    "retry_after_seconds",
    type=float,
    metavar="SECONDS",
    help="Send Retry-After with 429.  [default: none]",
)
@click.option(
    "--latency",
    "latency_seconds",
    callback=_parse_seconds,
    default="0",
    metavar="SECONDS",
    help="Answer after 0.05 or 50ms.",
)
@click.option(
    "--faults",
    callback=check_profile,
    default="none",
    show_default=True,
    metavar="PROFILE",
    help=f"A comma list of {', '.join(faults.NAMED)}, and of kind=share such as 500=0.1 or reset=0.02.",
)
@click.option("--seed", default=0, show_default=True, help="The same seed breaks the same requests.")
@click.option(
    "--api-key",
    "api_keys",
    multiple=True,
    callback=_collect_keys,
    metavar="KEY",
    help="Valid key, repeatable.  [default: any]",
)
@click.option(
    "--public-key",
    "public_keys",
    multiple=True,
    callback=_collect_keys,
    metavar="KEY",
    help="Gets 403 where a private one is needed.",
)
@click.option("--strict-ids", is_flag=True, help="Refuse user, view and session ids that are no UUIDs.")
@click.option("--keep-bodies", is_flag=True, help="Keep plain ids and bodies in the ledger, not hashes.")
@click.option(
    "--ledger-limit", default=1_000_000, show_default=True, metavar="N", help="Most entries kept one by one."
)
@click.option("--verbose", is_flag=True, help="Log each request, not only each second.")
def sandbox(*, host: str, port: int, verbose: bool, **options: Any) -> None:
    """Imitate the Permutive API on a port of this machine.

    Identify, users, CCS segmentation, events, cohorts, imports, segments and context answer as Permutive
    documents them. Any API key is valid unless --api-key is given. Nothing is stored on disk, and nothing
    leaves this machine.
    """
    try:
        given = SandboxOptions(**options | {"api_keys": options["api_keys"] or None})
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(given, host, port, log_requests=verbose))


async def _serve(options: SandboxOptions, host: str, port: int, *, log_requests: bool) -> None:
    """Run until SIGINT or SIGTERM, then say what was received."""
    stopped = _stopped_by_signal()
    sandbox = Sandbox(options, log=_say, log_requests=log_requests)
    try:
        await sandbox.start(host, port)
    except OSError as error:
        raise _AddressError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. Is it in use? See --port."
        ) from None
    _say(f"The sandbox listens at {sandbox.url}; Ctrl-C stops it. Point the worker at it:")
    _say(f"  permutive-worker run --base-url {sandbox.url} jobs.ndjson")
    gc.freeze()  # what exists now stays: no need to look at it again and again
    try:
        await stopped.wait()
    finally:
        await sandbox.close()
    _say(orjson.dumps(sandbox.summary()).decode())


def _stopped_by_signal() -> asyncio.Event:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    return stopped


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:  # not on this platform; asyncio's own loop does
        return None
    return uvloop.Loop


_say = partial(click.echo, err=True)
