"""What `check --connect` finds: names, connections, and whether the key works. Nothing is sent that changes anything."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from yarl import URL

from permutive_worker.cli.findings import Finding, Mark, found
from permutive_worker.config import Settings, proxy_from_environment
from permutive_worker.credentials import Keyring
from permutive_worker.delivery.stop import Stop
from permutive_worker.errors import (
    ConfigurationError,
    KeyRefusedError,
    ThrottledTooLong,
    TransportError,
    UnreachableError,
)
from permutive_worker.http.names import Names
from permutive_worker.http.plain import PlainWire
from permutive_worker.jobs.cohort import COHORTS_PATH
from permutive_worker.model import Request
from permutive_worker.ports import Wire
from permutive_worker.sources.address import is_url
from permutive_worker.worker.lanes import open_wires
from permutive_worker.worker.limiters import prove_shared
from permutive_worker.worker.queues import open_publisher

# Lists the cohorts of the workspace: of all calls that change nothing the one that needs no identifier.
_HARMLESS: Final = Request("GET", COHORTS_PATH, b"", "cohort.list", key_in_query=True)
_MAY_NOT_LIST: Final = (
    "the API does not let it list cohorts (403); identify and events may be allowed all the same"
)


async def connections(
    settings: Settings, keyring: Keyring | None, inputs: Sequence[str]
) -> AsyncIterator[Finding]:
    """Try everything a run with these inputs connects to; what needs an earlier one that failed is left out.

    Without a `keyring` the host is tried all the same.
    """
    async with AsyncExitStack() as stack:
        async for finding in _api(settings, keyring, stack):
            yield finding
    if settings.rate_limit.shared is not None:
        yield await found("shared rate", lambda: prove_shared(settings))
    if len(inputs) == 1 and is_url(inputs[0]):
        yield await found("queue", lambda: _queue(inputs[0]))


async def _api(settings: Settings, keyring: Keyring | None, stack: AsyncExitStack) -> AsyncIterator[Finding]:
    try:
        straight = proxy_from_environment(settings.http.base_url, os.environ) is None
    except ConfigurationError:  # it was found before
        return
    if straight:  # else the proxy looks the name up
        name = await found("DNS", lambda: _resolve(settings))
        yield name
        if name.mark is Mark.BAD:
            return
    wires = await open_wires(
        stack,
        "plain",
        settings,
        list(keyring or Keyring.of_key("nobody")),
        finite=True,
        needed=False,
        until_stopped=Stop().wait,
    )
    reached = await found("connection", lambda: _reach(next(iter(wires.values()))))
    yield reached
    if keyring is None or reached.mark is Mark.BAD:
        return
    for name_of_key, wire in wires.items():
        what = "key works" if len(wires) == 1 else f"key of {name_of_key}"
        finding = await found(what, partial(_ask, wire))
        yield finding._replace(mark=Mark.WARNING) if finding.told == _MAY_NOT_LIST else finding


async def _resolve(settings: Settings) -> str:
    url = URL(settings.http.base_url)
    try:
        async with asyncio.timeout(settings.http.timeout_seconds):
            addresses = await Names().resolve(url.host or "", url.port or 0, socket.AF_UNSPEC)
    except OSError as error:  # a timeout is one, too
        reason = error.strerror or "no answer"
        raise UnreachableError(
            f"{url.host} has no address: {reason}; check http.base_url and the DNS"
        ) from None
    return f"{url.host} is {', '.join(dict.fromkeys(address['host'] for address in addresses))}"


async def _reach(wire: Wire) -> str:
    assert isinstance(wire, PlainWire)  # noqa: S101  (it was asked for)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await wire.reach()
    return f"taken after {(loop.time() - began) * 1000:.0f} ms"


async def _ask(wire: Wire) -> str:
    try:
        status = (await wire.send(_HARMLESS)).status
    except TransportError as error:
        trust = ", and the certificates that this machine trusts" if error.kind == "tls" else ""
        raise UnreachableError(
            f"the API does not answer ({error.kind}): check http.base_url{trust}"
        ) from None
    if 200 <= status < 300:
        return "the API takes it, and lets it list cohorts"
    if status == 401:
        raise KeyRefusedError("the API refuses it with 401: check where it comes from, or ask for a new one")
    if status == 403:
        return _MAY_NOT_LIST
    if status == 429:
        raise ThrottledTooLong("the API asks to slow down (429), so it is not known: try again later")
    if status >= 500:
        raise UnreachableError(f"the API answers {status}, so it is not known: try again later")
    raise ConfigurationError(f"the API answers {status} on a path that must exist: check http.base_url")


async def _queue(url: str) -> str:
    # Not as a reader: that would join the group, and get messages that others wait for.
    publisher = open_publisher(url, create=False)
    try:
        await publisher.open()
    finally:
        await publisher.close()
    return "it is there"
