"""Jobs into a RabbitMQ queue."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from aiormq import spec
from aiormq.abc import AbstractChannel

from permutive_worker.errors import LinkError, UnreachableError
from permutive_worker.sources.address import Address
from permutive_worker.sources.rabbit_link import RabbitLink, connecting, queue_of, running
from permutive_worker.sources.rabbitmq import PARAMETERS

CONFIRM_SECONDS: Final = 30.0  # a broker that is short of memory or disk blocks publishers
PERSISTENT: Final = 2  # the delivery mode


class RabbitPublisher:
    """A `ports.Publisher`: a persistent message for each line, by the default exchange."""

    _channel: AbstractChannel

    def __init__(self, address: Address, create: bool) -> None:
        """Raises ConfigurationError: the URL is not sound."""
        _, self._queue = queue_of(address)
        self._create = create
        self._where = address.where
        self._link = RabbitLink(address, address.take(PARAMETERS)["ca"])

    async def open(self) -> None:
        with connecting(self._where):
            await self._link.open()
            if self._create:
                await self._link.make_queue()
            await self._link.count_waiting()
            self._channel = await self._link.open_channel(confirms=True)

    async def publish(self, lines: Sequence[bytes]) -> int:
        try:
            with running(self._where, self._link):
                async with asyncio.timeout(CONFIRM_SECONDS):
                    answers = await asyncio.gather(*map(self._publish, lines), return_exceptions=True)
        except LinkError as error:
            raise UnreachableError(str(error)) from None
        if self._link.is_closed:
            raise UnreachableError(f"{self._where}: the connection was closed")
        return sum(isinstance(answer, spec.Basic.Ack) for answer in answers)

    async def _publish(self, line: bytes) -> object:
        """Mandatory: a queue that is gone is an error and no silent loss."""
        properties = spec.Basic.Properties(delivery_mode=PERSISTENT, timestamp=datetime.now(UTC))
        return await self._channel.basic_publish(
            line, routing_key=self._queue, properties=properties, mandatory=True
        )

    async def close(self) -> None:
        await self._link.close()
