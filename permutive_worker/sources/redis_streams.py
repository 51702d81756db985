"""Jobs from a Redis stream, as one of the consumers of a group; and jobs into one.

What a dead worker left is found by its idle time, without a lock: live workers refresh what they hold
three times within it, so that a long pause moves nothing. A message that is given back gets an idle
time of a day: everybody takes it at once.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from redis import exceptions

from permutive_worker.errors import ConfigurationError, LinkError, UnreachableError
from permutive_worker.model import Delivery
from permutive_worker.sources.address import Address
from permutive_worker.sources.broker import FETCH_SECONDS, QueueOrigin
from permutive_worker.sources.redis_link import client_of, connecting, running
from permutive_worker.sources.redis_scripts import DELETE_CONSUMER, REFRESH
from permutive_worker.telemetry.logs import logger

RETURNED_MS: Final = 86_400_000  # the idle time of what was given back
RECLAIM_SECONDS: Final = 1.0  # how often we look for what others left
SCANS: Final = 10  # calls in one look: 100 times as many entries are looked at as are asked for
CLAIM_COUNT: Final = 500  # ids in one script: about a millisecond of Redis
TIDY_SECONDS: Final = 60.0
FORGOTTEN_MS: Final = 3_600_000  # a consumer that holds nothing and was silent for this long is no more
FIRST_TIME_MS: Final = 10**12  # an id below this (2001) is no time
PARAMETERS: Final[Mapping[str, str | None]] = {
    "stream": None,
    "group": "permutive",
    "consumer": "",
    "field": "job",
    "idle": "30",
    "trim": "no",
    "ca": "",
}


class RedisBroker:
    """A `Broker`. A place is the id of an entry, as bytes."""

    kind = "redis"

    def __init__(self, address: Address, create: bool) -> None:
        """Raises ConfigurationError: the URL is not sound."""
        taken = address.take(PARAMETERS)
        self._stream, self._group, self._field = taken["stream"], taken["group"], taken["field"].encode()
        self._idle_seconds = address.number("idle", taken["idle"], least=1)
        self._trim = address.switch("trim", taken["trim"])
        # Two workers must never have one name: they would take each other's entries for their own.
        self._consumer = taken["consumer"] or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._create = create
        self._address, self._ca = address, taken["ca"]
        self._client = client_of(address, self._ca)
        self._origin = QueueOrigin(f"redis:{self._stream}")
        self.where = f"{address.where} stream {self._stream}"
        self.keep_seconds = self._idle_seconds / 3
        self.redeliveries = 0
        self._own = (
            b"0" if taken["consumer"] else None
        )  # where to read on in what we hold from an earlier life
        self._claim_from = b"0-0"
        self._claim_at = 0.0
        self._calm_at = 0.0  # until then a live worker may have had no chance to refresh what it holds
        self._tidy_at = 0.0

    async def connect(self) -> None:
        await self.close_client()
        self._client = client_of(self._address, self._ca)
        with connecting(self.where):
            await self._client.ping()
            if self._create:
                with suppress(exceptions.ResponseError):  # BUSYGROUP: it is there; all else is told below
                    await self._client.xgroup_create(self._stream, self._group, id="0", mkstream=True)
            await self._join()
            await self._wait_for_others()

    async def _join(self) -> None:
        """A write, so that a replica that cannot be written is told here and not at every fetch."""
        try:
            await self._client.xgroup_createconsumer(self._stream, self._group, self._consumer)
        except exceptions.NoPermissionError:
            raise
        except exceptions.ResponseError as error:
            text = str(error)
            if "requires the key to exist" in text or text.startswith("NOGROUP"):
                raise ConfigurationError(
                    f"{self.where} or its group {self._group} is not there: check the URL, or make it with --create"
                ) from None
            if text.startswith("WRONGTYPE"):
                raise ConfigurationError(f"{self.where}: the key is there and is no stream") from None
            raise

    async def _wait_for_others(self) -> None:
        """After a restart of Redis, or a break, everything looks idle until its worker has come back."""
        now = self._now()
        self._claim_at = now
        uptime_seconds = self._idle_seconds
        if self._calm_at:
            uptime_seconds = 0.0
        with suppress(exceptions.ResponseError):  # not allowed to ask
            info: dict[str, Any] = await self._client.info("server")
            uptime_seconds = min(uptime_seconds, float(info.get("uptime_in_seconds", uptime_seconds)))
        self._calm_at = now + max(0.0, self._idle_seconds - uptime_seconds)

    async def fetch(self, max_count: int) -> Sequence[Delivery]:
        with running(self.where):
            if self._own is not None and (held := await self._read_own(max_count)):
                return held
            if self._now() >= self._claim_at and (claimed := await self._claim(max_count)):
                return claimed
            entries = await self._read(b">", max_count, int(FETCH_SECONDS * 1000))
            return self._deliveries(entries)

    async def _read(self, begin: bytes, max_count: int, block_ms: int | None) -> list[Any]:
        streams: dict[Any, Any] = {self._stream: begin}
        answer = await self._client.xreadgroup(
            self._group, self._consumer, streams, count=max_count, block=block_ms
        )
        return list(answer[0][1]) if answer else []

    async def _read_own(self, max_count: int) -> list[Delivery]:
        """What we held in an earlier life under this name."""
        entries = await self._read(self._own or b"0", max_count, None)
        self._own = entries[-1][0] if entries else None
        return await self._again(entries)

    async def _claim(self, max_count: int) -> list[Delivery]:
        """What dead workers left, and what live ones gave back."""
        calm = self._now() >= self._calm_at
        least_ms = int(self._idle_seconds * 1000) if calm else RETURNED_MS
        for _ in range(SCANS):
            answer = await self._client.xautoclaim(
                self._stream, self._group, self._consumer, least_ms, self._claim_from, count=max_count
            )
            self._claim_from, entries = answer[0], answer[1]
            if entries:
                return await self._again(entries)
            if self._claim_from == b"0-0":
                break
        self._claim_at = self._now() + RECLAIM_SECONDS
        return []

    async def _again(self, entries: Sequence[Any]) -> list[Delivery]:
        gone = [place for place, fields in entries if place is not None and not fields]
        if gone:  # somebody trimmed them before they were delivered
            logger().warning("source.trimmed_before_delivery", broker=self.where, messages=len(gone))
            await self._client.xack(self._stream, self._group, *gone)
        deliveries = self._deliveries([entry for entry in entries if entry[1]])
        self.redeliveries += len(deliveries)
        return deliveries

    def _deliveries(self, entries: Sequence[Any]) -> list[Delivery]:
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        return [
            Delivery(self._line(fields), self._origin, place, age_seconds=_age_seconds(place, now_ms))
            for place, fields in entries
        ]

    def _line(self, fields: Mapping[bytes, bytes]) -> bytes:
        """The only field, whatever its name, else the one that is agreed on; else what a dead letter can show."""
        if len(fields) == 1:
            return next(iter(fields.values()))
        line = fields.get(self._field)
        if line is not None:
            return line
        shown = {
            name.decode(errors="replace"): text.decode(errors="replace") for name, text in fields.items()
        }
        return msgspec.json.encode(shown)

    async def acknowledge(self, places: Sequence[Hashable]) -> int:
        with running(self.where):
            ids: Sequence[Any] = places
            await self._client.xack(self._stream, self._group, *ids)
        return 0

    async def give_back(self, places: Sequence[Hashable]) -> None:
        await self._refresh(places, RETURNED_MS)
        self._claim_at = 0.0

    async def keep(self, places: Sequence[Hashable]) -> None:
        await self._refresh(places, 0)
        if self._now() >= self._tidy_at:
            self._tidy_at = self._now() + TIDY_SECONDS
            with running(self.where):
                await self._tidy()

    async def _refresh(self, places: Sequence[Hashable], idle_ms: int) -> None:
        with running(self.where):
            for begin in range(0, len(places), CLAIM_COUNT):
                ids: Sequence[Any] = places[begin : begin + CLAIM_COUNT]
                arguments = (self._stream, self._group, self._consumer, idle_ms, *ids)
                await self._client.eval(REFRESH, 1, *arguments)

    async def _tidy(self) -> None:
        """Forget consumers of long ago, and, if asked for, entries that every group has acknowledged."""
        for consumer in await self._client.xinfo_consumers(self._stream, self._group):
            if consumer["pending"] == 0 and consumer["idle"] > FORGOTTEN_MS:
                await self._delete(consumer["name"])
        if self._trim:
            await self._trim_acknowledged()

    async def _trim_acknowledged(self) -> None:
        """The oldest entry that any group has not acknowledged only moves up, so no lock is needed."""
        needed = []
        for group in await self._client.xinfo_groups(self._stream):
            pending = await self._client.xpending(self._stream, group["name"])
            needed.append(pending["min"] or _after(group["last-delivered-id"]))
        if needed:
            await self._client.xtrim(self._stream, minid=min(needed, key=_order), approximate=True)

    async def lag(self) -> int | None:
        with running(self.where):
            for group in await self._client.xinfo_groups(self._stream):
                if group["name"] == self._group.encode():
                    lag = group.get("lag")  # Redis before 7 has none, and after an XDEL it is not known
                    return None if lag is None else int(lag)
        return None

    async def close(self) -> None:
        with suppress(LinkError), running(self.where):
            await self._delete(self._consumer)
        await self.close_client()

    async def _delete(self, consumer: str | bytes) -> None:
        await self._client.eval(DELETE_CONSUMER, 1, self._stream, self._group, consumer)

    async def close_client(self) -> None:
        with suppress(exceptions.RedisError, OSError):
            await self._client.aclose()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


class RedisPublisher:
    """A `ports.Publisher`: an entry with one field for each line."""

    def __init__(self, address: Address, create: bool) -> None:
        """Raises ConfigurationError: the URL is not sound."""
        taken = address.take(PARAMETERS)
        self._stream, self._field = taken["stream"], taken["field"]
        self._create = create
        self._client = client_of(address, taken["ca"])
        self._where = f"{address.where} stream {self._stream}"

    async def open(self) -> None:
        with connecting(self._where):
            if not await self._client.exists(self._stream) and not self._create:
                raise ConfigurationError(
                    f"{self._where} is not there: check the URL, or make it with --create"
                )

    async def publish(self, lines: Sequence[bytes]) -> int:
        pipeline = self._client.pipeline(transaction=False)
        for line in lines:
            pipeline.xadd(self._stream, {self._field: line}, nomkstream=not self._create)
        try:
            with running(self._where):
                answers = await pipeline.execute(raise_on_error=False)
        except LinkError as error:
            raise UnreachableError(str(error)) from None
        return sum(isinstance(answer, bytes) for answer in answers)

    async def close(self) -> None:
        with suppress(exceptions.RedisError, OSError):
            await self._client.aclose()


def _age_seconds(place: bytes, now_ms: int) -> float:
    since_ms = int(place.partition(b"-")[0])
    return max(0, now_ms - since_ms) / 1000 if since_ms > FIRST_TIME_MS else 0.0


def _order(place: bytes) -> tuple[int, int]:
    time, _, number = place.partition(b"-")
    return int(time), int(number or 0)


def _after(place: bytes) -> bytes:
    time, number = _order(place)
    return b"%d-%d" % (time, number + 1)
