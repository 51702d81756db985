"""The library's consumer, as one member of a group: blocking calls only, and the callbacks they serve.

All of it is called in one thread, in which the library calls back too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import (
    OFFSET_INVALID,
    OFFSET_STORED,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from permutive_worker.sources.kafka_link import ANSWER_SECONDS, Trouble, make_topic, partitions_of

FETCH_BYTES: Final = 4 * 1024 * 1024  # the library's own prefetch; it would hold 64 MiB by itself
MAX_POLL_MS: Final = 300_000  # a loop that hangs for so long loses its partitions to others

Assigned = Callable[[Mapping[int, tuple[int | None, str | None]]], object]
Revoked = Callable[[Sequence[int], bool], None]


class KafkaGroup:
    """A membership.

    Args:
        settings: of the library; see `kafka_link.configuration`.
        topic: the only one.
        session_seconds: after that a dead member's partitions go to others.
        assigned: told of partitions that became ours, with offset and text of their last commit.
        revoked: told of partitions that will be ours no more, and whether they are lost already. Both are
            called in the thread of the call that serves them, which waits for them.

    Raises:
        KafkaException: the settings are not sound.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        topic: str,
        session_seconds: float,
        trouble: Trouble,
        assigned: Assigned,
        revoked: Revoked,
    ) -> None:
        self._settings, self._topic = settings, topic
        self._assigned, self._revoked = assigned, revoked
        self._left: set[int] = set()  # partitions that went away inside the call under way
        self._again: set[int] = set()  # partitions of which a message was dropped
        self._paused: set[int] = set()
        self._sleeps = False
        self._asked = False
        self._consumer = Consumer(
            {
                **settings,
                "error_cb": trouble.hear,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                # A member that comes or goes moves only the partitions that must move.
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": int(session_seconds * 1000),
                "heartbeat.interval.ms": min(3000, int(session_seconds * 100)),
                "max.poll.interval.ms": max(MAX_POLL_MS, int(session_seconds * 1000)),
                "fetch.max.bytes": FETCH_BYTES,
                "queued.max.messages.kbytes": FETCH_BYTES // 1024,
                "queued.min.messages": 1000,
                "fetch.queue.backoff.ms": 20,  # unless set, a full queue is looked at again after a second
            }
        )

    def join(self) -> None:
        """Become a member, if we did not ask for it yet; the next calls see to it."""
        if not self._asked:
            self._asked = True
            self._consumer.subscribe(
                [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )

    def partitions(self) -> list[int]:
        """Ask for the partitions of the topic; none: it is not there."""
        return partitions_of(self._consumer, self._topic)

    def find(self, create: bool) -> None:
        """See that the topic is there, and that we may be a member of the group.

        Raises:
            KafkaException: UNKNOWN_TOPIC_OR_PART, or why not.
        """
        partitions = self.partitions()
        if not partitions:
            if not create:
                raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
            partitions = make_topic(self._settings, self._consumer, self._topic)
        for found in self._consumer.committed(self._places(partitions), timeout=ANSWER_SECONDS):
            if found.error:
                raise KafkaException(found.error)

    def serve(self) -> list[Message]:
        """Do what keeps us a member while nobody fetches: take part in rebalances, and read nothing.

        Returns errors.
        """
        self._sleeps = True
        self._left.clear()
        self._consumer.pause(self._consumer.assignment())
        given = self._consumer.consume(1, timeout=0)
        self._again.update(number for message in given if (number := message.partition()) is not None)
        return [message for message in given if message.error()]

    def fetch(
        self, max_count: int, seconds: float, seeks: Mapping[int, int], full: set[int]
    ) -> tuple[list[Message], set[int]]:
        """Return messages, and the partitions that must be read again where they were: some are left out.

        Args:
            max_count: of messages.
            seconds: how long to wait for the first.
            seeks: where to read on first.
            full: partitions to read nothing from.
        """
        self._left.clear()
        self._flow(full)
        for partition, offset in seeks.items():
            self._seek(partition, offset)
        messages = self._consumer.consume(1, timeout=seconds)
        if messages and max_count > 1:
            messages += self._consumer.consume(max_count - 1, timeout=0)
        again, self._again = self._again, set()
        return [message for message in messages if message.partition() not in again or message.error()], again

    def _seek(self, partition: int, offset: int) -> None:
        try:
            self._consumer.seek(TopicPartition(self._topic, partition, offset))
        except KafkaException:  # it has just come, or is going
            self._again.add(partition)

    def _flow(self, full: set[int]) -> None:
        """Pause and resume; what pauses loses what the library had fetched ahead, so only on a change."""
        ours = {one.partition for one in self._consumer.assignment()}
        paused = ours if self._sleeps else self._paused & ours
        self._sleeps = False
        if stop := (full & ours) - paused:
            self._consumer.pause(self._places(stop))
        if go := paused - full:
            self._consumer.resume(self._places(go))
        self._paused = full & ours

    def _places(self, partitions: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, partition) for partition in partitions]

    def commit(self, offsets: Mapping[int, tuple[int, str]]) -> None:
        """Return when the broker has them. Waits for the coordinator, if need be for a session.

        Raises:
            KafkaException: it has not got all of them.
        """
        ours = {one.partition for one in self._consumer.assignment()}  # another may own it meanwhile
        wanted = [
            TopicPartition(self._topic, partition, *place)
            for partition, place in offsets.items()
            if partition in ours
        ]
        for done in self._consumer.commit(offsets=wanted, asynchronous=False) if wanted else ():
            if done.error:
                raise KafkaException(done.error)

    def high(self, partition: int) -> tuple[int, int]:
        """The first offset of the log, and one above the last."""
        low, high = self._consumer.get_watermark_offsets(
            TopicPartition(self._topic, partition), timeout=ANSWER_SECONDS
        )
        return low, high

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """The offsets are asked for here, because the library does not tell the text beside them."""
        # What was gathered of it before it went cannot be told from what comes now.
        self._again |= self._left & {one.partition for one in partitions}
        try:
            found = consumer.committed(partitions, timeout=ANSWER_SECONDS) if partitions else []
            known = {one.partition: _place(one) for one in found if not one.error}
        except KafkaException:
            known = {}  # the library asks again by itself; the text only saves duplicates
        for one in partitions:
            offset, _ = known.get(one.partition, (None, None))
            one.offset = OFFSET_STORED if offset is None else offset
        consumer.incremental_assign(partitions)
        consumer.resume(partitions)  # the library remembers that it was paused when we had it before
        self._paused -= {one.partition for one in partitions}
        self._assigned({one.partition: known.get(one.partition, (None, None)) for one in partitions})

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._leave(partitions, lost=False)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._leave(partitions, lost=True)

    def _leave(self, partitions: list[TopicPartition], *, lost: bool) -> None:
        gone = [one.partition for one in partitions]
        self._left.update(gone)
        self._revoked(gone, lost)


def _place(found: TopicPartition) -> tuple[int | None, str | None]:
    return (None, None) if found.offset in (OFFSET_INVALID, OFFSET_STORED) else (found.offset, found.metadata)


def fault_of(messages: Sequence[Message]) -> KafkaError | None:
    """What the library tells instead of a message, if anything of it matters."""
    for message in messages:
        error = message.error()
        # It was left out of the group and joins again by itself.
        if error is not None and error.code() not in (
            KafkaError._PARTITION_EOF,
            KafkaError._MAX_POLL_EXCEEDED,
        ):
            return error
    return None
