"""The token bucket of one process: aiolimiter, asked for leases.

Why leases: aiolimiter for each job costs 9 µs behind a lock and spins a core under uvloop once it
is the bottleneck; asked for 10 ms of permits at a time it costs nothing, and is the same port that
a limiter shared between processes has.

Why units of time: a new AsyncLimiter at each change of rate lets 20 % too much through. So the
bucket holds seconds, leaks one second a second, and a permit costs 1 / rate seconds.

Why it starts empty of burst: `AsyncLimiter(rate, 1)` lets twice the rate through in the first
second. Here the first second obeys like any other. A changed rate starts without any credit at all:
what was saved up under the old one is not spent under the new.
"""

import asyncio
from typing import Final

from aiolimiter import AsyncLimiter  # noqa: TID251  (the one place)

LEASE_SECONDS: Final = 0.01
# With a lease of one permit nothing is held back between a lease and its use, so half a permit of
# slack makes up for late timers and still no second holds more than rate + burst whole requests.
LEAST_CAPACITY: Final = 1.5


class LocalLimiter:
    """A ports.Limiter: in any sliding second at most rate + burst permits.

    Permits in hand were leased before the second began, so the bucket is smaller than the burst
    by one lease.
    """

    def __init__(self, rate_per_second: float, burst: float | None = None) -> None:
        """`burst` defaults to a twentieth of the rate, at least 1."""
        self._set(rate_per_second, burst)
        self._owed_seconds = self._capacity - self._lease_seconds

    def change(self, rate_per_second: float, burst: float | None = None) -> None:
        """Use another rate from now on; permits in hand are void."""
        self._set(rate_per_second, burst)
        self._owed_seconds = self._capacity

    def _set(self, rate_per_second: float, burst: float | None) -> None:
        burst = max(1.0, rate_per_second / 20) if burst is None else burst
        self.rate_per_second = rate_per_second
        self.burst = burst
        self._lease = max(1, int(min(rate_per_second * LEASE_SECONDS, burst / 2)))
        self._lease_seconds = self._lease / rate_per_second
        self._capacity = max(LEAST_CAPACITY, burst - self._lease) / rate_per_second
        self._bucket = AsyncLimiter(self._capacity, self._capacity)
        # uvloop's timers have a resolution of 1 ms: shorter ones spin.
        self._poll_seconds = min(max(0.001, self._lease_seconds / 8), 0.01)
        self._permits = 0

    def __repr__(self) -> str:
        return f"<LocalLimiter {self.rate_per_second}/s burst={self.burst} permits={self._permits}>"

    def try_take(self, now: float) -> bool:  # noqa: ARG002  (leases of other limiters run out)
        """Spend one leased permit."""
        if self._permits:
            self._permits -= 1
            return True
        return False

    async def lease(self) -> None:
        """Return when there are permits again. Cancellation: safe, none is lost."""
        while not await self._has_capacity():  # noqa: ASYNC110  (it tells nobody)
            await asyncio.sleep(self._poll_seconds)
        await self._bucket.acquire(self._lease_seconds)  # there is capacity, so this does not wait
        self._permits = self._lease

    async def _has_capacity(self) -> bool:
        """Asked anew after each sleep, in which the rate may have been changed; never waits itself."""
        owed, self._owed_seconds = self._owed_seconds, 0.0
        if owed:
            await self._bucket.acquire(owed)
        return self._bucket.has_capacity(self._lease_seconds)

    def drop(self) -> None:
        """Forget unspent permits."""
        self._permits = 0
