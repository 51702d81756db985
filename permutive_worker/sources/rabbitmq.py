"""Jobs from a RabbitMQ queue.

RabbitMQ gives everything that was not acknowledged to others when the connection ends, so there is no
lease to keep; and an ack of a message from before a reconnect means nothing: it will come again.
"""

import asyncio
import math
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from aiormq.abc import AbstractChannel, DeliveredMessage

from permutive_worker.errors import LinkError
from permutive_worker.model import Delivery
from permutive_worker.sources.address import Address
from permutive_worker.sources.broker import FETCH_SECONDS, QueueOrigin
from permutive_worker.sources.rabbit_link import RabbitLink, connecting, queue_of, running
from permutive_worker.sources.rabbit_window import Place, Windows

IDLE_SECONDS: Final = 1.5  # longer without a fetch: what came goes back, and nothing more comes
PARAMETERS: Final[Mapping[str, str | None]] = {"ca": ""}


class RabbitBroker:
    """A `Broker`. A place is (number of the channel, delivery tag): it dies with its channel."""

    kind = "rabbitmq"
    keep_seconds = 2.0

    def __init__(self, address: Address, create: bool) -> None:
        """Raises ConfigurationError: the URL is not sound."""
        self._ca = address.take(PARAMETERS)["ca"]
        _, self._queue = queue_of(address)
        self._address, self._create = address, create
        self._origin = QueueOrigin(f"rabbitmq:{self._queue}")
        self._link = RabbitLink(address, self._ca)
        self._windows = Windows(self._link, self._queue, last=0)
        self._fetched_at = -math.inf
        self.where = address.where
        self.redeliveries = 0

    async def connect(self) -> None:
        await self._link.close()
        self._link = link = RabbitLink(self._address, self._ca)
        self._windows = Windows(link, self._queue, self._windows.last)
        with connecting(self.where):
            await link.open()
            if self._create:
                await link.make_queue()
            await link.count_waiting()
            await link.try_to_read()

    async def fetch(self, max_count: int) -> Sequence[Delivery]:
        self._fetched_at = self._now()
        with running(self.where, self._link):
            messages = await self._windows.take(max_count, FETCH_SECONDS)
        utc_now = datetime.now(UTC)
        return [self._delivery(place, message, utc_now) for place, message in messages]

    def _delivery(self, place: Place, message: DeliveredMessage, utc_now: datetime) -> Delivery:
        self.redeliveries += bool(message.redelivered)
        return Delivery(message.body, self._origin, place, age_seconds=_age_seconds(message, utc_now))

    async def acknowledge(self, places: Sequence[Any]) -> int:
        with running(self.where, self._link):
            return await self._windows.answer(places, _acknowledge)

    async def give_back(self, places: Sequence[Any]) -> None:
        """What came over an old connection was given to others when that ended."""
        with running(self.where, self._link):
            await self._windows.answer(places, _requeue)

    async def keep(self, places: Sequence[Hashable]) -> None:  # noqa: ARG002  (what is in hand needs no word)
        """Heartbeats are the library's; here what nobody fetches goes back, so that others can take it."""
        if self._now() > self._fetched_at + IDLE_SECONDS:
            with running(self.where, self._link):
                await self._windows.stop()
                await self._return_unfetched()

    async def _return_unfetched(self) -> None:
        unfetched = [place for place, _ in self._windows.came]
        self._windows.came.clear()
        await self._windows.answer(unfetched, _requeue)

    async def lag(self) -> int | None:
        with running(self.where, self._link):
            return await self._link.count_waiting()

    async def close(self) -> None:
        with suppress(LinkError), running(self.where, self._link):
            if not self._link.is_closed:
                await self._windows.stop()
                await self._return_unfetched()
        await self._link.close()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def _acknowledge(channel: AbstractChannel, tag: int) -> None:
    await channel.basic_ack(tag, wait=False)


async def _requeue(channel: AbstractChannel, tag: int) -> None:
    await channel.basic_nack(tag, requeue=True, wait=False)


def _age_seconds(message: DeliveredMessage, utc_now: datetime) -> float:
    """By the publisher's timestamp; 0 if there is none."""
    sent = message.header.properties.timestamp
    if not isinstance(sent, datetime):
        return 0.0
    return max(0.0, (utc_now - sent.replace(tzinfo=sent.tzinfo or UTC)).total_seconds())
