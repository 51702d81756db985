"""How jobs are sent: the wire, the lane and the sender of each set of credentials."""

import math
import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final

from permutive_worker.config import Settings, proxy_from_environment
from permutive_worker.control.backoff import Backoff
from permutive_worker.control.budget import Budget
from permutive_worker.control.pace import Pace
from permutive_worker.credentials import Credentials
from permutive_worker.delivery.lane import Lane
from permutive_worker.delivery.ruling import Policy
from permutive_worker.http.gate import Gate
from permutive_worker.http.plain import PlainWire, open_session
from permutive_worker.http.reach import wait_until_reachable
from permutive_worker.ports import Limiter, Wire
from permutive_worker.telemetry.counts import Counts
from permutive_worker.worker.limiters import hear_of_pauses

USER_SHARE: Final = 1 / 16  # of the byte budget one user's waiting jobs may take


async def open_wires(
    stack: AsyncExitStack,
    settings: Settings,
    credentials: Sequence[Credentials],
    *,
    finite: bool,
    give_up: Callable[[], bool],
) -> dict[str, Wire]:
    """Return a wire for each workspace, on one session that `stack` closes, once the host was reached.

    Raises:
        UnreachableError: nobody answered within `http.timeout_seconds` (finite runs only).
    """
    http = settings.http
    places = settings.delivery.max_in_flight * len(credentials)
    session = await stack.enter_async_context(open_session(places, http.timeout_seconds))
    proxy = proxy_from_environment(http.base_url, os.environ)
    wires = {
        key.name: PlainWire(session, http.base_url, key, timeout_seconds=http.timeout_seconds, proxy=proxy)
        for key in credentials
    }
    patience = http.timeout_seconds if finite else None
    await wait_until_reachable(next(iter(wires.values())), patience, give_up)
    return dict(wires)


def new_lane(
    settings: Settings,
    workspace: str,
    lanes: int,
    budget: Budget,
    counts: Counts,
    now: Callable[[], float],
    limiter: Limiter | None,
) -> Lane:
    """Make the lane of one of `lanes` workspaces; where there are several, it may take half the budget."""
    rate = settings.rate_limit.rate_per_second
    limit_bytes = settings.delivery.max_pending_bytes
    gate = Gate(settings.delivery.max_in_flight, limiter, Pace(rate or math.inf))
    hear_of_pauses(gate, limiter)
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
