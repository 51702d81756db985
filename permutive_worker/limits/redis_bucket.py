"""A token bucket in Redis, for workers on many machines: one script, the server's clock.

What is given is a reservation: permits and the moment from which they may be used, in the order of asking,
so that everybody gets as much as the others. (A bucket that says "ask again" favours who asks most often.)
A rate that is not the last one begins without credit: what was saved up under the other is not spent.

In any sliding second the server gives rate + capacity at most, and what workers have in hand when the second
begins is one slice each. So capacity = burst - workers * slice, with half of the burst for each of the two.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from redis import exceptions

from permutive_worker.errors import LinkError

# KEYS: bucket, workers. ARGV: worker, permits wanted (0 or 1: a slice), rate, burst, seconds to pause all for,
# whether the worker comes back from being on its own. Times in seconds, in answers in microseconds.
#
# `opens`: from when on permits are given. While a worker that was on its own comes back, all are on their own,
# and all begin to share at one moment: else some would take all of the rate, and the others their share too.
TAKE: Final = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local rate, burst, pause = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local SILENT, FIRST, TOGETHER, FAR = 5, 1.5, 2.5, 5

local was = redis.call('HMGET', KEYS[1], 'due', 'paused', 'opens', 'seen', 'rate')
local paused, opens, seen = tonumber(was[2] or 0), tonumber(was[3] or 0), tonumber(was[4] or 0)
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - SILENT)
local workers = redis.call('ZCARD', KEYS[2])

local slice = math.max(1, math.floor(burst / (2 * workers)))
local capacity = math.max(1, burst - workers * slice)
rate = math.max(0.8 * rate, rate + math.min(0, burst - capacity - workers * slice))

if now - seen > SILENT then opens = math.max(opens, now + FIRST) end
if ARGV[6] == '1' and opens <= now then opens = now + TOGETHER end
if pause > 0 then paused = math.max(paused, now + pause) end

local due = tonumber(was[1] or 0)
if was[5] and was[5] ~= ARGV[3] then due = math.max(due, now + capacity / rate) end
local closed = math.max(opens, paused)
if closed > now then due = math.max(due, closed + capacity / rate) end

local given, wait = 0, 0
if ARGV[2] == '1' and closed <= now then
  local next_due = math.max(due, now) + slice / rate
  wait = math.max(0, next_due - capacity / rate - now)
  if wait <= FAR then
    due, given = next_due, slice
  else
    wait = FAR
  end
end
local keep = string.format
redis.call('HSET', KEYS[1], 'due', keep('%.6f', due), 'paused', keep('%.6f', paused),
  'opens', keep('%.6f', opens), 'seen', keep('%.6f', now), 'rate', ARGV[3])
local lifetime = math.ceil(math.max(0, paused - now) + 60)
redis.call('EXPIRE', KEYS[1], lifetime)
redis.call('EXPIRE', KEYS[2], lifetime)
return {given, math.ceil(wait * 1000000), workers,
  math.ceil(math.max(0, paused - now) * 1000000), math.ceil(math.max(0, opens - now) * 1000000)}
"""


class Answer(NamedTuple):
    """What the bucket says."""

    permits: int
    wait_seconds: float  # until they may be used; without permits: until it is worth asking again
    workers: int
    paused_seconds: float  # all of them
    opens_seconds: float  # until sharing begins, 0 if it has


class RedisBucket:
    """One bucket of one worker."""

    def __init__(self, client: Any, name: str, worker: str, rate_per_second: float, burst: float) -> None:
        """`client`: of redis.asyncio. Buckets with one `name` are one."""
        self._client = client
        self._take: Callable[..., Any] = client.register_script(TAKE)
        self._keys = (f"{{{name}}}:bucket", f"{{{name}}}:workers")  # braces: one slot of a cluster
        self._worker = worker
        self.change(rate_per_second, burst)

    def change(self, rate_per_second: float, burst: float) -> None:
        """Ask under other limits from now on."""
        self._limits = (float(rate_per_second), burst)  # 50 and 50.0 are one rate in the script, too

    async def ask(self, *, wanted: bool, pause_seconds: float = 0.0, rejoin: bool = False) -> Answer:
        """Ask for a slice of permits, or only say that we are here.

        Raises:
            LinkError: Redis cannot be reached, or does not do it.
        """
        arguments = (self._worker, int(wanted), *self._limits, pause_seconds, int(rejoin))
        try:
            permits, wait, workers, paused, opens = await self._take(keys=self._keys, args=arguments)
        except (exceptions.RedisError, OSError) as error:
            raise LinkError(type(error).__name__) from None
        return Answer(permits, wait / 1e6, workers, paused / 1e6, opens / 1e6)

    async def leave(self) -> None:
        """Count us no longer. Raises LinkError."""
        try:
            await self._client.zrem(self._keys[1], self._worker)
        except (exceptions.RedisError, OSError) as error:
            raise LinkError(type(error).__name__) from None
