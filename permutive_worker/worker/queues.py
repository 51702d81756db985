"""Which broker a URL means. Its library is an extra, imported only when it is asked for."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Final

from permutive_worker.config import Settings
from permutive_worker.errors import ConfigurationError
from permutive_worker.ports import Publisher, Source
from permutive_worker.sources.address import VARIABLE, Address, parse_address
from permutive_worker.sources.broker import Broker
from permutive_worker.sources.queue import QueueSource
from permutive_worker.telemetry.logs import logger

SCHEMES: Final = ("redis", "rediss", "nats", "tls", "kafka", "amqp", "amqps", "sqs", "https")

MakeBroker = Callable[[Address, bool], Broker]
MakePublisher = Callable[[Address, bool], Publisher]


def open_queue(settings: Settings, url: str) -> Source:
    """Return the source of a queue; nothing is opened yet.

    Raises:
        ConfigurationError: the URL is not sound, or its extra is not installed.
    """
    address = _address(url)
    make_broker, _ = _adapter(address)
    return QueueSource(make_broker(address, settings.input.create), settings.input.max_line_bytes)


def open_publisher(url: str, *, create: bool) -> Publisher:
    """Return what puts lines into a queue; nothing is opened yet. Raises ConfigurationError."""
    address = _address(url)
    _, make_publisher = _adapter(address)
    return make_publisher(address, create)


def _adapter(address: Address) -> tuple[MakeBroker, MakePublisher]:
    match address.scheme:
        case "redis" | "rediss":
            with needs("redis"):
                from permutive_worker.sources.redis_streams import RedisBroker, RedisPublisher
            return RedisBroker, RedisPublisher
        case "nats" | "tls":
            with needs("nats"):
                from permutive_worker.sources.jetstream import NatsBroker
                from permutive_worker.sources.nats_publish import NatsPublisher
            return NatsBroker, NatsPublisher
        case "kafka":
            with needs("kafka"):
                from permutive_worker.sources.kafka import KafkaBroker
                from permutive_worker.sources.kafka_publish import KafkaPublisher
            return KafkaBroker, KafkaPublisher
        case "amqp" | "amqps":
            with needs("rabbitmq"):
                from permutive_worker.sources.rabbit_publish import RabbitPublisher
                from permutive_worker.sources.rabbitmq import RabbitBroker
            return RabbitBroker, RabbitPublisher
        case "sqs" | "https":  # AWS shows the URL of a queue as https://
            with needs("sqs"):
                from permutive_worker.sources.sqs import SqsBroker
                from permutive_worker.sources.sqs_publish import SqsPublisher
            return SqsBroker, SqsPublisher
        case _:
            near = get_close_matches(address.scheme, SCHEMES, n=1, cutoff=0.6)
            meant = f"did you mean {near[0]}://?" if near else f"there are {', '.join(SCHEMES)} and files"
            raise ConfigurationError(f"{address.scheme[:40]}:// is no kind of queue; {meant}")


def _address(url: str) -> Address:
    address = parse_address(url, os.environ)
    if address.password_in_url:
        logger().warning(
            "source.password_in_url",
            broker=address.where,
            hint=f"others can read it in the process list: set {VARIABLE} or {VARIABLE}_FILE",
        )
    return address


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Say which command installs the library of a broker."""
    try:
        yield
    except ImportError as error:
        if error.name is not None and error.name.startswith("permutive_worker"):
            raise
        raise ConfigurationError(
            f"the library for this queue is not installed: pip install 'permutive-worker[{extra}]'"
        ) from None
