"""How Kafka is reached, and what the errors of its library mean to us."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from permutive_worker.errors import ConfigurationError, LinkError, UnreachableError
from permutive_worker.sources.address import Address

PARAMETERS: Final[Mapping[str, str | None]] = {
    "group": "permutive",
    "brokers": "",
    "session": "45",
    "max_uncommitted": "10000",
    "tls": "no",
    "ca": "",
    "mechanism": "PLAIN",
}
ANSWER_SECONDS: Final = 5.0  # no question waits longer for an answer

_REFUSED: Final = {
    KafkaError._AUTHENTICATION: "refuses user or password: check PERMUTIVE_WORKER_SOURCE__PASSWORD",
    KafkaError.SASL_AUTHENTICATION_FAILED: "refuses user or password: check PERMUTIVE_WORKER_SOURCE__PASSWORD",
    KafkaError.UNSUPPORTED_SASL_MECHANISM: "does not know this mechanism: check ?mechanism=",
    KafkaError._SSL: "and we cannot agree on TLS: check ?tls= and ?ca=",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "gives us no permission for this topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "gives us no permission for this group",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "gives us no permission for this",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "is not there, or we may not see it: check the URL, or make it with --create",
    KafkaError._UNKNOWN_TOPIC: "is not there, or we may not see it: check the URL, or make it with --create",
    KafkaError.INVALID_GROUP_ID: "does not take this name of a group",
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: "has members of another kind in this group: choose another ?group=",
}


def configuration(address: Address, taken: Mapping[str, str]) -> dict[str, Any]:
    """Return what producers and consumers have in common.

    Args:
        address: of the URL `kafka://[USER@]HOST:PORT/TOPIC?…`.
        taken: its parameters.

    Raises:
        ConfigurationError: it names no topic.
    """
    tls = address.switch("tls", taken["tls"])
    host = f"[{address.host}]" if ":" in address.host else address.host or "localhost"
    first = f"{host}:{address.port or 9092}"
    settings: dict[str, Any] = {
        "bootstrap.servers": f"{first},{taken['brokers']}" if taken["brokers"] else first,
        "client.id": "permutive-worker",
        "log_level": 0,  # it would write to stderr by itself; what matters comes as an error
        "socket.keepalive.enable": True,
        "allow.auto.create.topics": False,
    }
    if address.user or address.password:
        settings |= {
            "security.protocol": "SASL_SSL" if tls else "SASL_PLAINTEXT",
            "sasl.mechanism": taken["mechanism"],
            "sasl.username": address.user or "",
            "sasl.password": address.password or "",
        }
    elif tls:
        settings["security.protocol"] = "SSL"
    if taken["ca"]:
        settings["ssl.ca.location"] = taken["ca"]
    return settings


def topic_of(address: Address) -> str:
    """The only part of the path. Raises ConfigurationError."""
    segments = address.segments()
    if len(segments) != 1:
        raise ConfigurationError(f"{address.where}: the path must be the name of a topic, such as /jobs")
    return segments[0]


def partitions_of(client: Consumer | Producer, topic: str) -> list[int]:
    """Return the partitions of a topic; none: it is not there, or we may not see it.

    All topics are asked for: to ask for one could make it. Raises KafkaException.
    """
    found = client.list_topics(timeout=ANSWER_SECONDS).topics.get(topic)
    return [] if found is None else sorted(found.partitions)


def make_topic(settings: Mapping[str, Any], client: Consumer | Producer, topic: str) -> list[int]:
    """Make a topic with the broker's own numbers of partitions and replicas, and wait until it is seen.

    Raises:
        KafkaException: we may not, or it is not there after ANSWER_SECONDS.
    """
    admin = AdminClient(dict(settings))  # it takes the request with it when it is forgotten
    made = admin.create_topics([NewTopic(topic, num_partitions=-1)])
    try:
        made[topic].result(ANSWER_SECONDS)
    except KafkaException as error:
        if code_of(error) != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
    until = time.monotonic() + ANSWER_SECONDS
    while not (partitions := partitions_of(client, topic)):
        if time.monotonic() > until:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        time.sleep(0.1)
    return partitions


class Trouble:
    """What the library reports beside its answers, in whichever thread serves it."""

    def __init__(self) -> None:
        self.refused: str | None = None
        self.is_down = False

    def hear(self, error: KafkaError) -> None:
        code = error.code()
        if code == KafkaError._ALL_BROKERS_DOWN:
            self.is_down = True
        elif code in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            self.refused = _REFUSED[code]

    def forget(self) -> None:
        self.refused, self.is_down = None, False


@contextmanager
def making(where: str) -> Iterator[None]:
    """What the library finds wrong in its settings, in its own words, could hold them."""
    try:
        yield
    except KafkaException as error:
        raise ConfigurationError(
            f"{where} cannot be set up ({name_of(error)}): check ?ca=, ?mechanism= and ?session="
        ) from None


@contextmanager
def connecting(where: str, trouble: Trouble) -> Iterator[None]:
    """Turn what the library raises while connecting into our errors."""
    try:
        yield
    except KafkaException as error:
        reason = trouble.refused or _REFUSED.get(code_of(error))
        if reason is not None:
            raise ConfigurationError(f"{where} {reason}") from None
        raise UnreachableError(f"{where} cannot be reached: {name_of(error)}") from None


@contextmanager
def running(where: str) -> Iterator[None]:
    """Turn what the library raises on a link that was there into LinkError."""
    try:
        yield
    except KafkaException as error:
        raise LinkError(f"{where} {_REFUSED.get(code_of(error)) or name_of(error)}") from None


# The group has other things to do; what is not committed now goes with the next commit.
_NOT_NOW: Final = {
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
}


def is_for_later(error: KafkaException) -> bool:
    """Whether a commit was refused only for this moment."""
    return code_of(error) in _NOT_NOW


def code_of(error: KafkaException) -> int:
    code: int = error.args[0].code()
    return code


def name_of(error: KafkaException) -> str:
    """The name of the error: the rest of its text names hosts and settings."""
    return str(error.args[0].name().strip("_"))
