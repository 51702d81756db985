"""What the rate of each set of credentials is counted by: nothing, this process, or a Redis that many share."""

import asyncio
import math
import os
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from permutive_worker.config import Settings
from permutive_worker.control.pace import Pace
from permutive_worker.credentials import Credentials
from permutive_worker.errors import ConfigurationError, LinkError, UnreachableError
from permutive_worker.http.gate import Gate
from permutive_worker.limits.local import LocalLimiter
from permutive_worker.limits.shared import SharedLimiter
from permutive_worker.ports import Limiter
from permutive_worker.sources.address import parse_address
from permutive_worker.telemetry.logs import logger
from permutive_worker.worker.queues import needs

VARIABLE: Final = "PERMUTIVE_WORKER_RATE_LIMIT__SHARED_PASSWORD"  # the name of a variable
SOCKET_SECONDS: Final = 1.0  # slower than this, permits are long void: the share is better
PARAMETERS: Final = {"name": "permutive-worker", "share": "0", "ca": ""}


async def open_gates(
    stack: AsyncExitStack,
    settings: Settings,
    credentials: Sequence[Credentials],
    given: Mapping[str, Gate],
    now: Callable[[], float],
) -> dict[str, Gate]:
    """Return a gate for each workspace, those that are given among them. Raises as `open_limiters`."""
    needed = [key for key in credentials if key.name not in given]
    limiters = await open_limiters(stack, settings, needed, now) if needed else {}
    made = {name: _new_gate(settings, limiter) for name, limiter in limiters.items()}
    return {**given, **made}


def _new_gate(settings: Settings, limiter: Limiter | None) -> Gate:
    pace = Pace(settings.rate_limit.rate_per_second or math.inf)
    gate = Gate(settings.delivery.max_in_flight, limiter, pace)
    if isinstance(limiter, SharedLimiter):  # a pause of one worker is a pause of all
        gate.on_pause = limiter.tell_pause
        limiter.on_pause = gate.pause
    return gate


async def open_limiters(
    stack: AsyncExitStack, settings: Settings, credentials: Sequence[Credentials], now: Callable[[], float]
) -> dict[str, Limiter | None]:
    """Return a limiter for each workspace; what a shared one needs ends with `stack`.

    Raises:
        UnreachableError, ConfigurationError: the Redis of `rate_limit.shared` cannot be used.
    """
    limit = settings.rate_limit
    if not limit.rate_per_second:
        return dict.fromkeys((key.name for key in credentials), None)
    if limit.shared is None:
        return {key.name: LocalLimiter(limit.rate_per_second, limit.burst) for key in credentials}
    shared = _Shared(limit.shared, settings)
    client = await _connect(stack, shared)
    limiters: dict[str, Limiter | None] = {}
    for key in credentials:
        limiters[key.name] = await _open(stack, shared, client, key.name, now)
    return limiters


async def prove_shared(settings: Settings) -> str:
    """Try whether the Redis of `rate_limit.shared` answers, without taking part; return where it is.

    Raises:
        UnreachableError, ConfigurationError: it cannot be used.
    """
    async with AsyncExitStack() as stack:
        await _connect(stack, _Shared(settings.rate_limit.shared or "", settings))
    return shared_where(settings)


def shared_where(settings: Settings) -> str:
    """`rate_limit.shared` without user, password and query. Raises ConfigurationError: it is not sound."""
    return _Shared(settings.rate_limit.shared or "", settings).address.where


class _Shared:
    """What `rate_limit.shared` and the keys beside it say."""

    def __init__(self, url: str, settings: Settings) -> None:
        """Raises ConfigurationError: the URL is not sound."""
        self.address = parse_address(url, os.environ, VARIABLE)
        if self.address.scheme not in ("redis", "rediss"):
            raise ConfigurationError("rate_limit.shared must be a URL such as redis://localhost:6379/0")
        taken = self.address.take(PARAMETERS)
        self.share = min(self.address.number("share", taken["share"], least=0), 1.0) or None
        self.ca = taken["ca"]
        self.rate_per_second = settings.rate_limit.rate_per_second
        self.burst = settings.rate_limit.burst or max(1.0, self.rate_per_second / 20)
        self.name = f"{taken['name']}:{urlsplit(settings.http.base_url).netloc}"


async def _connect(stack: AsyncExitStack, shared: _Shared) -> Any:
    with needs("redis"):
        from permutive_worker.sources.redis_link import client_of, connecting
    address = shared.address
    if address.password_in_url:
        logger().warning("rate_limit.password_in_url", broker=address.where, hint=f"set {VARIABLE}_FILE")
    client = client_of(address, shared.ca, SOCKET_SECONDS)
    stack.push_async_callback(client.aclose)
    with connecting(address.where, VARIABLE):
        await client.ping()
    return client


async def _open(
    stack: AsyncExitStack, shared: _Shared, client: Any, workspace: str, now: Callable[[], float]
) -> SharedLimiter:
    from permutive_worker.limits.redis_bucket import RedisBucket

    worker = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    name = f"{shared.name}:{workspace}"
    bucket = RedisBucket(client, name, worker, shared.rate_per_second, shared.burst)
    limiter = SharedLimiter(bucket, shared.rate_per_second, shared.burst, shared.share, now)
    limiter.on_change = partial(_tell_change, limiter, shared.address.where)
    try:
        await limiter.open()
    except LinkError as error:
        where = shared.address.where
        raise UnreachableError(f"{where} cannot be used for rate_limit.shared: {error}") from None
    stack.push_async_callback(limiter.close)
    running = asyncio.get_running_loop().create_task(limiter.run())
    stack.callback(running.cancel)
    return limiter


def _tell_change(limiter: SharedLimiter, where: str, alone_because: str | None) -> None:
    rate = round(limiter.rate_per_second, 3)
    if alone_because is None:
        logger().info("rate_limit.shared", broker=where, rate_per_second=rate)
    else:
        logger().warning("rate_limit.alone", broker=where, reason=alone_because, rate_per_second=rate)
