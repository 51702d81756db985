"""One rate for many workers: slices of permits from a bucket they share, or a share of it on our own.

shared     permits come from the bucket, and are void 100 ms after they were given
alone      the bucket cannot be reached: a local limiter with our share of the rate
waiting    we just came, and the others may be alone: nothing, until all begin together

Alone or not, together the workers stay within rate + burst in every sliding second; around the changes there
are gaps of 100 ms, so that what was in hand is void before somebody else counts on it. (A single worker that
loses the bucket while the others keep it adds its share.)
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

from permutive_worker.errors import LinkError
from permutive_worker.limits.local import LocalLimiter

T = TypeVar("T")

VOID_SECONDS: Final = 0.1  # a permit in hand for longer would be counted on in a later second
BEAT_SECONDS: Final = 1.0  # says that we are here, hears of pauses, finds a bucket that is back
LATE_SECONDS: Final = 3.0  # a bucket whose answers were all void for this long is as good as away
SAME_PAUSE_SECONDS: Final = 0.05  # two ends of a pause that differ by less are one pause


class Answer(Protocol):
    """What a bucket says: see `redis_bucket.Answer`."""

    @property
    def permits(self) -> int: ...
    @property
    def wait_seconds(self) -> float: ...
    @property
    def workers(self) -> int: ...
    @property
    def paused_seconds(self) -> float: ...
    @property
    def opens_seconds(self) -> float: ...


class Bucket(Protocol):
    """What workers share."""

    async def ask(self, *, wanted: bool, pause_seconds: float = 0.0, rejoin: bool = False) -> Answer: ...

    async def leave(self) -> None: ...

    def change(self, rate_per_second: float, burst: float) -> None: ...


class SharedLimiter:
    """A `ports.Limiter`. Its `run` must run from `open` to `close`."""

    def __init__(
        self,
        bucket: Bucket,
        rate_per_second: float,
        burst: float,
        share: float | None,
        now: Callable[[], float],
    ) -> None:
        """`share` is what of the rate is ours when we are alone; None: one part for each worker seen last."""
        self._bucket = bucket
        self._rate_per_second = rate_per_second
        self._burst = burst
        self._share = share
        self._now = now
        self.on_pause: Callable[[float], None] = _nobody
        self.on_change: Callable[[str | None], None] = _nobody  # why we are alone; None: we share again
        self._closed = False
        self._permits = 0
        self._void_at = 0.0
        self._changes = 0  # of the rate
        self._workers = 1
        self._has_shared = False
        self._local: LocalLimiter | None = None  # while we are alone
        self._local_from = 0.0
        self._rejoined_at: float | None = None  # while we are alone and know when all begin together
        self._pause_known_until = 0.0
        self._useful_at: float | None = None
        self._calls: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"<SharedLimiter {self._rate_per_second}/s workers={self._workers} alone={self.is_alone}>"

    @property
    def is_alone(self) -> bool:
        return self._local is not None

    @property
    def rate_per_second(self) -> float:
        """What we may use: the whole rate while it is shared."""
        return self._local.rate_per_second if self._local is not None else self._rate_per_second

    def try_take(self, now: float) -> bool:
        """Spend one permit."""
        if self._local is not None:
            if self._rejoined_at is None or now < self._rejoined_at:
                return self._local.try_take(now)
            self._join()
            return False
        if self._permits and now < self._void_at:
            self._permits -= 1
            return True
        return False

    async def lease(self) -> None:
        """Return when `try_take` is worth asking again. Cancellation: safe, the permits are void soon."""
        if self._local is None:
            await self._lease_shared()
        elif (seconds := self._local_from - self._now()) > 0:
            await asyncio.sleep(seconds)
        else:
            await self._local.lease()

    async def _lease_shared(self) -> None:
        asked_at, changes = self._now(), self._changes
        # In a task of its own: a library that uses asyncio.wait_for swallows a cancellation (Python before
        # 3.12), and a sender that missed its own would never end.
        asking = self._start(self._ask(wanted=True))
        await asyncio.wait((asking,))
        answer = asking.result()
        if answer is None:
            return
        if not answer.permits:
            closed_seconds = max(answer.wait_seconds, answer.opens_seconds, answer.paused_seconds)
            if not self.is_alone:
                await asyncio.sleep(min(closed_seconds, BEAT_SECONDS))
            return
        self._has_shared = True
        await asyncio.sleep(answer.wait_seconds)
        if changes != self._changes:
            return  # what was given under another rate is void
        self._permits = answer.permits
        self._void_at = asked_at + answer.wait_seconds + VOID_SECONDS
        self._judge_delay()

    def _judge_delay(self) -> None:
        now = self._now()
        if now < self._void_at:
            self._useful_at = None
        elif self._useful_at is None:
            self._useful_at = now
        elif now - self._useful_at > LATE_SECONDS:
            self._useful_at = None
            self._be_alone("its answers come too late")

    def drop(self) -> None:
        """Forget unspent permits."""
        self._permits = 0
        if self._local is not None:
            self._local.drop()

    def change(self, rate_per_second: float, burst: float) -> None:
        """Use another rate from now on; permits in hand are void."""
        self.drop()
        self._changes += 1
        self._rate_per_second, self._burst = rate_per_second, burst
        self._bucket.change(rate_per_second, burst)
        if self._local is not None:
            self._local.change(*self._own_part())

    def tell_pause(self, until: float) -> None:
        """Our lane pauses: let all of them pause."""
        seconds = until - self._now()
        if seconds > 0 and until > self._pause_known_until + SAME_PAUSE_SECONDS:
            self._pause_known_until = until
            self._start(self._ask(wanted=False, pause_seconds=seconds))

    def _start(self, call: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.get_running_loop().create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return task

    async def open(self) -> None:
        """Say that we are here. Raises LinkError."""
        self._workers = (await self._bucket.ask(wanted=False)).workers

    async def run(self) -> None:
        """Keep in touch until closed."""
        while not self._closed:
            await asyncio.sleep(BEAT_SECONDS)
            await self._beat()

    async def close(self) -> None:
        """Leave our part to the others."""
        self._closed = True
        if self._calls:
            await asyncio.wait(self._calls)
        with suppress(LinkError):
            await self._bucket.leave()

    async def _beat(self) -> None:
        rejoin = self.is_alone and self._rejoined_at is None
        asked_at = self._now()
        answer = await self._ask(wanted=False, rejoin=rejoin)
        now = self._now()
        if answer is not None and rejoin and now - asked_at < VOID_SECONDS:
            self._rejoined_at = now + answer.opens_seconds
        if self._rejoined_at is not None and now >= self._rejoined_at:
            self._join()

    async def _ask(self, *, wanted: bool, pause_seconds: float = 0.0, rejoin: bool = False) -> Answer | None:
        try:
            answer = await self._bucket.ask(wanted=wanted, pause_seconds=pause_seconds, rejoin=rejoin)
        except LinkError as error:
            self._be_alone(str(error))
            self._rejoined_at = None
            return None
        self._workers = answer.workers
        self._hear_pause(answer.paused_seconds)
        if answer.opens_seconds and self._has_shared and not self.is_alone:
            self._be_alone("another worker comes back")
            self._rejoined_at = self._now() + answer.opens_seconds
        return answer

    def _hear_pause(self, seconds: float) -> None:
        until = self._now() + seconds
        if seconds and until > self._pause_known_until + SAME_PAUSE_SECONDS:
            self._pause_known_until = until
            self.on_pause(until)

    def _be_alone(self, why: str) -> None:
        if self._local is not None:
            return
        self._permits = 0
        self._local = LocalLimiter(*self._own_part())
        self._local_from = self._now() + VOID_SECONDS
        self.on_change(why)

    def _own_part(self) -> tuple[float, float]:
        """Rate and burst while we are alone."""
        share = self._share or 1 / max(1, self._workers)
        return self._rate_per_second * share, max(1.0, self._burst * share / 2)

    def _join(self) -> None:
        self._local = None
        self._rejoined_at = None
        self._has_shared = True
        self.on_change(None)


def _nobody(_what: object) -> None:
    """Before anybody has said that he wants to be told."""
