"""Jobs from a NATS JetStream stream, by a durable pull consumer.

JetStream gives a message again when nobody has said a word about it for `ack_wait`; a live worker says
"in progress" three times within it, so that a long pause moves nothing.
"""

import asyncio
import math
from collections.abc import Hashable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from permutive_worker.errors import ConfigurationError, LinkError
from permutive_worker.model import Delivery
from permutive_worker.sources.address import Address
from permutive_worker.sources.broker import FETCH_SECONDS, QueueOrigin
from permutive_worker.sources.nats_link import ANSWER_SECONDS, NatsLink, connecting, running
from permutive_worker.sources.nats_names import PARAMETERS, read_names
from permutive_worker.sources.nats_publish import make_stream
from permutive_worker.sources.nats_pull import Pull
from permutive_worker.sources.nats_reply import Reply, read_reply
from permutive_worker.telemetry.logs import logger

ACK, IN_PROGRESS, BACK, BACK_LATER = b"+ACK", b"+WPI", b"-NAK", b'-NAK {"delay": 1000000000}'
LATER_FROM: Final = 5  # a message given so often goes round in circles: it rests a second each time
IDLE_SECONDS: Final = 1.0  # longer without a fetch: what came late goes back
# In hand of all the workers together. The server's own 1,000 would let few jobs that wait stop all others.
MAX_ACK_PENDING: Final = 100_000
NO_STREAM: Final = 10059  # JetStream's number for it; else the consumer is missing


class NatsBroker:
    """A `Broker`. A place is the sequence number in the stream, so an ack is good on any connection."""

    kind = "nats"

    def __init__(self, address: Address, create: bool) -> None:
        """Raises ConfigurationError: the URL is not sound."""
        taken = address.take(PARAMETERS)
        self._stream, self._consumer = read_names(address, consumer_needed=True)
        self._subject, self._ca = taken["subject"], taken["ca"]
        self._ack_wait_seconds = address.number("ack_wait", taken["ack_wait"], least=1)
        self._address, self._create = address, create
        self._origin = QueueOrigin(f"nats:{self._stream}")
        self._link = NatsLink(address, self._ca)
        self._pull = Pull(self._link, self._stream, self._consumer)
        self._replies: dict[Hashable, Reply] = {}  # of what is in hand: its newest delivery
        self._fetched_at = -math.inf
        self._told_of_limit = False
        self.where = address.where
        self.keep_seconds = self._ack_wait_seconds / 3
        self.redeliveries = 0

    async def connect(self) -> None:
        await self._link.close()
        self._link = link = NatsLink(self._address, self._ca)
        self._pull = Pull(link, self._stream, self._consumer)
        with connecting(self.where, link):
            await link.open()
            self._check(await self._find_consumer(link.client.jetstream(timeout=ANSWER_SECONDS)))
            await self._pull.open()

    async def _find_consumer(self, stream: JetStreamContext) -> ConsumerInfo:
        try:
            found: ConsumerInfo = await stream.consumer_info(self._stream, self._consumer)
            return found
        except NotFoundError as error:
            if not self._create:
                missing = "stream" if error.err_code == NO_STREAM else "consumer"
                raise ConfigurationError(
                    f"{self.where}: the {missing} is not there: check the URL, or make it with --create"
                ) from None
        await make_stream(stream, self._stream, self._subject)
        config = ConsumerConfig(
            durable_name=self._consumer,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._ack_wait_seconds,
            max_ack_pending=MAX_ACK_PENDING,
            max_deliver=-1,
            filter_subject=self._subject or None,
        )
        made: ConsumerInfo = await stream.add_consumer(self._stream, config)
        return made

    def _check(self, info: ConsumerInfo) -> None:
        """See that the consumer can keep our promises, and how long it waits for a word."""
        config = info.config or ConsumerConfig()
        if config.deliver_subject:
            raise ConfigurationError(f"{self.where}: this consumer pushes; it must be a pull consumer")
        if config.ack_policy != AckPolicy.EXPLICIT:
            raise ConfigurationError(f"{self.where}: the consumer's ack policy must be explicit")
        if (limit := config.max_deliver or 0) > 0 and not self._told_of_limit:
            self._told_of_limit = True
            hint = "JetStream gives a message up after that, without a dead letter: set it to -1"
            logger().warning("source.delivery_limit", broker=self.where, max_deliver=limit, hint=hint)
        waits = config.backoff or [config.ack_wait or self._ack_wait_seconds]
        self.keep_seconds = min(waits) / 3

    async def fetch(self, max_count: int) -> Sequence[Delivery]:
        with running(self.where):
            messages = await self._pull.take(max_count, FETCH_SECONDS)
        self._fetched_at = self._now()
        posix_seconds = datetime.now(UTC).timestamp()
        return [self._delivery(message, posix_seconds) for message in messages]

    def _delivery(self, message: Msg, posix_seconds: float) -> Delivery:
        reply = read_reply(message.reply)
        self._replies[reply.sequence] = reply
        self.redeliveries += reply.deliveries > 1
        age_seconds = max(0.0, posix_seconds - reply.stored_seconds)
        return Delivery(message.data, self._origin, reply.sequence, age_seconds=age_seconds)

    async def acknowledge(self, places: Sequence[Hashable]) -> int:
        """The consumer hears acks in order, so its word that it has the last one is for all of them."""
        replies = [self._replies[place] for place in places if place in self._replies]
        with running(self.where):
            for reply in replies[:-1]:
                await self._link.client.publish(reply.subject, ACK)
            if replies:
                await self._link.client.request(replies[-1].subject, ACK, timeout=ANSWER_SECONDS)
        self._forget(replies)
        return 0

    async def give_back(self, places: Sequence[Hashable]) -> None:
        replies = [self._replies[place] for place in places if place in self._replies]
        with running(self.where):
            await self._refuse(replies)
        self._forget(replies)

    async def _refuse(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            word = BACK_LATER if reply.deliveries >= LATER_FROM else BACK
            await self._link.client.publish(reply.subject, word)
        await self._link.client.flush(timeout=int(ANSWER_SECONDS))

    def _forget(self, replies: Sequence[Reply]) -> None:
        """It may have come again meanwhile: then the newer one stays."""
        for reply in replies:
            if self._replies.get(reply.sequence) is reply:
                del self._replies[reply.sequence]

    async def keep(self, places: Sequence[Hashable]) -> None:
        with running(self.where):
            if self._pull.came and self._now() > self._fetched_at + IDLE_SECONDS:
                await self._refuse(self._take_unfetched())
            for place in places:
                if reply := self._replies.get(place):
                    await self._link.client.publish(reply.subject, IN_PROGRESS)
            await self._link.client.flush(timeout=int(ANSWER_SECONDS))

    def _take_unfetched(self) -> list[Reply]:
        unfetched = [read_reply(message.reply) for message in self._pull.came]
        self._pull.came.clear()
        return unfetched

    async def lag(self) -> int | None:
        with running(self.where):
            stream = self._link.client.jetstream(timeout=ANSWER_SECONDS)
            info = await stream.consumer_info(self._stream, self._consumer)
        waiting: int | None = info.num_pending
        return waiting

    async def close(self) -> None:
        with suppress(LinkError), running(self.where):
            if self._link.client.is_connected:
                await self._pull.end()
                await self._refuse(self._take_unfetched())
        await self._link.close()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
