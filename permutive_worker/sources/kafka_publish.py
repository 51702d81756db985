"""Lines into a Kafka topic, the jobs of one user into one partition."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from permutive_worker.errors import UnreachableError
from permutive_worker.sources.address import Address
from permutive_worker.sources.blocking import BlockingCalls
from permutive_worker.sources.kafka_link import (
    PARAMETERS,
    Trouble,
    configuration,
    connecting,
    make_topic,
    making,
    partitions_of,
    topic_of,
)
from permutive_worker.sources.order_key import OrderKeys

Told = Callable[[KafkaError | None, Message], None]

CONFIRM_SECONDS: Final = 30.0
MAX_BYTES: Final = 64 * 1024 * 1024  # the topic has its own limit, and says so


class KafkaPublisher:
    """A `ports.Publisher`: a message for each line, confirmed by all replicas in sync."""

    def __init__(self, address: Address, create: bool) -> None:
        """Raises ConfigurationError: the URL is not sound."""
        taken = address.take(PARAMETERS)
        self._topic, self._create = topic_of(address), create
        self._settings = configuration(address, taken)
        self._where = address.where
        self._keys = OrderKeys()
        self._calls = BlockingCalls("kafka-publish")
        self._trouble = Trouble()
        self._producer: Producer | None = None

    async def open(self) -> None:
        settings = {
            **self._settings,
            "error_cb": self._trouble.hear,
            "enable.idempotence": True,  # a repeated send is no second message, and order holds
            "partitioner": "murmur2_random",  # as the clients in Java
            "linger.ms": 5,
            "message.max.bytes": MAX_BYTES,
            "message.timeout.ms": int(CONFIRM_SECONDS * 1000),
        }
        with making(self._where):
            self._producer = self._calls.kept = Producer(settings)
        with connecting(self._where, self._trouble):
            await self._calls.run(partial(self._find, self._producer))

    def _find(self, producer: Producer) -> None:
        try:
            found = partitions_of(producer, self._topic)
        except KafkaException:
            producer.poll(0)  # to hear why
            raise
        if not found:
            if not self._create:
                raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
            make_topic(self._settings, producer, self._topic)

    async def publish(self, lines: Sequence[bytes]) -> int:
        if self._producer is None:
            raise UnreachableError(f"{self._where} was not opened")
        return await self._calls.run(partial(self._publish, self._producer, lines))

    def _publish(self, producer: Producer, lines: Sequence[bytes]) -> int:
        confirmed, faults = 0, 0

        def told(error: KafkaError | None, _message: Message) -> None:
            nonlocal confirmed, faults
            confirmed += error is None
            faults += error is not None and error.code() == KafkaError._MSG_TIMED_OUT

        for line in lines:
            self._produce(producer, line, told)
        if producer.flush(CONFIRM_SECONDS + 1) or faults:
            raise UnreachableError(f"{self._where} did not confirm within {CONFIRM_SECONDS:g} s")
        return confirmed

    def _produce(self, producer: Producer, line: bytes, told: Told) -> None:
        while True:
            try:
                producer.produce(self._topic, value=line, key=self._keys.of(line), on_delivery=told)
                return
            except BufferError:  # the library holds 100,000
                producer.poll(0.1)
            except KafkaException:  # larger than MAX_BYTES: not confirmed
                return

    async def close(self) -> None:
        """Its thread forgets the producer last: the library's destructor waits for a look-up that hangs."""
        self._producer = None
        self._calls.end()
