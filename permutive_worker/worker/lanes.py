"""How jobs are sent: the wire, the lane and the sender of each set of credentials."""

import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final, NamedTuple

from permutive_worker.config import Settings, proxy_from_environment
from permutive_worker.control.backoff import Backoff
from permutive_worker.control.budget import Budget
from permutive_worker.credentials import Credentials
from permutive_worker.delivery.lane import Lane
from permutive_worker.delivery.ruling import Policy
from permutive_worker.errors import ConfigurationError
from permutive_worker.http.gate import Gate
from permutive_worker.http.lean import LeanWire, misfit
from permutive_worker.http.plain import PlainWire, open_session
from permutive_worker.http.reach import wait_until_reachable
from permutive_worker.http.self_check import find_fault
from permutive_worker.http.tls import trusting
from permutive_worker.ports import Wire
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.logs import logger

USER_SHARE: Final = 1 / 16  # of the byte budget one user's waiting jobs may take


class WireChoice(NamedTuple):
    """Which wire is used, and why it is not the lean one although that was not ruled out."""

    kind: str
    fallback: str | None = None


async def choose_wire(wanted: str) -> WireChoice:
    """Return the wire for `http.wire`; falling back from lean to plain is told once, in the log.

    Raises:
        ConfigurationError: lean was insisted on, and does not work here.
    """
    if wanted == "plain":
        return WireChoice("plain")
    fault = misfit() or await find_fault()
    if fault is None:
        return WireChoice("lean")
    if wanted == "lean":
        raise ConfigurationError(f"http.wire = lean does not work here ({fault}): set it to auto or plain")
    logger().warning("wire.fallback", wire="plain", reason=fault)
    return WireChoice("plain", fault)


async def open_wires(
    stack: AsyncExitStack,
    kind: str,
    settings: Settings,
    credentials: Sequence[Credentials],
    *,
    finite: bool,
    needed: bool,
    until_stopped: Callable[[], Awaitable[None]],
) -> dict[str, Wire]:
    """Return a wire of this kind for each workspace, once the host was reached; `stack` closes them.

    It is not tried if nothing is `needed` of it: all was delivered by earlier runs.

    Raises:
        UnreachableError: nobody answered within `http.timeout_seconds` (finite runs only).
    """
    http = settings.http
    # As many connections as the gates let requests pass: their bound may be raised while they last.
    session = await stack.enter_async_context(open_session(0, http.timeout_seconds, trusting(http.ca_file)))
    proxy = proxy_from_environment(http.base_url, os.environ)
    plain = {
        key.name: PlainWire(session, http.base_url, key, timeout_seconds=http.timeout_seconds, proxy=proxy)
        for key in credentials
    }
    if needed:
        patience = http.timeout_seconds if finite else None
        await wait_until_reachable(next(iter(plain.values())), patience, until_stopped)
    if kind == "plain":
        return dict(plain)
    lean = {
        key.name: LeanWire(session, http.base_url, key, timeout_seconds=http.timeout_seconds, proxy=proxy)
        for key in credentials
    }
    for wire in lean.values():
        stack.callback(wire.close)
    return dict(lean)


def new_lane(
    settings: Settings,
    workspace: str,
    lanes: int,
    budget: Budget,
    counts: Counts,
    now: Callable[[], float],
    gate: Gate,
) -> Lane:
    """Make the lane of one of `lanes` workspaces; where there are several, it may take half the budget."""
    limit_bytes = settings.delivery.max_pending_bytes
    return Lane(
        workspace,
        gate,
        budget if lanes == 1 else Budget(limit_bytes // 2, budget),
        int(limit_bytes * USER_SHARE),
        counts,
        now,
    )


def policy(settings: Settings) -> Policy:
    """How often, how long and whether a job is tried again."""
    delivery = settings.delivery
    return Policy(
        Backoff(delivery.backoff_initial_seconds, delivery.backoff_factor, delivery.backoff_max_seconds),
        delivery.max_attempts,
        delivery.max_age_seconds,
        delivery.ambiguous == "retry",
    )
