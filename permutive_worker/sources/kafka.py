"""Jobs from a Kafka topic, as one member of a consumer group.

Kafka remembers one offset for each partition, so only what is settled from the left without a gap is
committed; what is settled above the gap is told in the text beside the offset, for the next owner. A
partition with too much above the gap is paused. When a partition is to go to another member, we first
let end what is in hand of it, for a while: the others go on meanwhile.
"""

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message

from permutive_worker.errors import LinkError
from permutive_worker.model import Delivery
from permutive_worker.sources.address import Address
from permutive_worker.sources.blocking import BlockingCalls
from permutive_worker.sources.broker import FETCH_SECONDS, QueueOrigin
from permutive_worker.sources.kafka_group import KafkaGroup, fault_of
from permutive_worker.sources.kafka_link import (
    PARAMETERS,
    Trouble,
    code_of,
    configuration,
    connecting,
    is_for_later,
    making,
    name_of,
    running,
    topic_of,
)
from permutive_worker.sources.kafka_partition import Partition
from permutive_worker.telemetry.logs import logger

DRAIN_SECONDS: Final = 10.0  # how long a partition that goes elsewhere waits for what is in hand of it
SLICE_SECONDS: Final = 0.05  # one wait for messages; commits come between two
COMMIT_SECONDS: Final = 0.05  # a commit is a write for the broker
SERVE_SECONDS: Final = 1.0  # how late we answer a rebalance while nobody fetches
CLOSE_SECONDS: Final = 2.0  # a broker that is gone is not waited for


class KafkaBroker:
    """A `Broker`. A place is (partition, offset)."""

    kind = "kafka"
    keep_seconds = SERVE_SECONDS

    def __init__(self, address: Address, create: bool) -> None:
        """Raises ConfigurationError: the URL is not sound."""
        taken = address.take(PARAMETERS)
        self._topic, self._create = topic_of(address), create
        self._settings, self._group_id = configuration(address, taken), taken["group"]
        self._session_seconds = address.number("session", taken["session"], least=1)
        self._max_uncommitted = int(address.number("max_uncommitted", taken["max_uncommitted"], least=1))
        self._origin = QueueOrigin(f"kafka:{self._topic}")
        self.where = address.where
        self.redeliveries = 0
        self._trouble = Trouble()
        self._member: KafkaGroup | None = None
        # One thread: the library's other calls wait for a `consume` that waits, and callbacks run inside it.
        self._calls = BlockingCalls("kafka")
        self._partitions: dict[int, Partition] = {}
        self._joined = False  # partitions were given to us, or none
        self._drains = asyncio.Event()  # a rebalance waits for what is in hand
        self._closing = False
        self._with_text = True
        self._untold = 0  # settled, and the group does not know
        self._committing = asyncio.Lock()
        self._moved = asyncio.Event()  # something was settled or returned
        self._commit_at = 0.0
        self._served_at = 0.0

    async def connect(self) -> None:
        """The library connects again by itself and stays a member if it can; here we see whether it did."""
        if self._member is None:
            with making(self.where):
                self._member = self._calls.kept = self._new_member(asyncio.get_running_loop())
        member = self._member
        self._trouble.forget()
        with connecting(self.where, self._trouble):
            try:
                await self._calls.run(partial(member.find, self._create))
            except KafkaException:
                await self._calls.run(member.serve)  # to hear why
                raise
        self._trouble.forget()
        member.join()

    def _new_member(self, loop: asyncio.AbstractEventLoop) -> KafkaGroup:
        return KafkaGroup(
            {**self._settings, "group.id": self._group_id},
            self._topic,
            self._session_seconds,
            self._trouble,
            lambda commits: loop.call_soon_threadsafe(self._assigned, commits),
            partial(self._revoked_in_thread, loop),
        )

    async def fetch(self, max_count: int) -> Sequence[Delivery]:
        room = self._max_uncommitted - self._untold - sum(one.in_hand for one in self._partitions.values())
        if room <= 0:
            return await self._wait_for_room()
        now = self._served_at = self._now()
        for one in self._partitions.values():
            one.plan(now)
        full = {number for number, one in self._partitions.items() if one.is_full}
        seeks = {
            number: target for number, one in self._partitions.items() if (target := one.sought()) is not None
        }
        with running(self.where):
            messages, again = await self._calls.run(
                partial(self._there.fetch, min(max_count, room), SLICE_SECONDS, seeks, full)
            )
        self._served_at = self._now()
        for number in again & self._partitions.keys():
            self._partitions[number].read_again()
        await self._check(messages)
        return [delivery for message in messages if (delivery := self._delivery(message)) is not None]

    async def _wait_for_room(self) -> Sequence[Delivery]:
        """Too much would come again if we died now."""
        self._moved.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(FETCH_SECONDS):
                await self._moved.wait()
        return ()

    @property
    def _there(self) -> KafkaGroup:
        if self._member is None:
            raise LinkError(f"{self.where} was closed")
        return self._member

    async def _check(self, messages: Sequence[Message]) -> None:
        """Raises LinkError if the library told of a fault, or of a broker that is really away."""
        with running(self.where):
            if (fault := fault_of(messages)) is not None:
                for one in self._partitions.values():  # the messages beside it
                    one.read_again()
                raise KafkaException(fault)
            if self._trouble.is_down and not messages:
                await self._calls.run(self._there.partitions)  # it says so of idle connections too
            if self._trouble.refused:
                raise LinkError(f"{self.where} {self._trouble.refused}")
            self._trouble.forget()

    def _delivery(self, message: Message) -> Delivery | None:
        number, offset = message.partition(), message.offset()
        if message.error() is not None or number is None or offset is None:
            return None
        one = self._partitions.get(number)
        if one is None:
            return None  # it went elsewhere
        if one.begins_anew(offset):
            logger().warning("source.offsets_reset", broker=self.where, partition=number, offset=offset)
            one.restart(offset)
        was_read = one.position is not None and offset < max(one.position, one.read_before)
        if not one.accept(offset):
            return None
        self.redeliveries += was_read
        return Delivery(
            message.value() or b"",
            self._origin,
            (number, offset),
            age_seconds=_age_seconds(message.timestamp()[1]),
        )

    async def acknowledge(self, places: Sequence[Hashable]) -> int:
        """Places of partitions that are ours no more come again, at their new owner."""
        gone = 0
        for number, offset in _pairs(places):
            one = self._partitions.get(number)
            if one is None:
                gone += 1
            else:
                self._untold += one.settle(offset)
        self._moved.set()
        await self._heard()
        return gone

    async def _heard(self) -> None:
        """Wait until the group has heard of it, for who stops must not leave before; but not in a drain.

        A drain holds the thread that a commit needs, waits for more to be settled, and tells the group at its end.
        """
        if self._drains.is_set():
            return
        telling = asyncio.get_running_loop().create_task(self._tell())
        draining = asyncio.get_running_loop().create_task(self._drains.wait())
        try:
            await asyncio.wait((telling, draining), return_when=asyncio.FIRST_COMPLETED)
        finally:
            draining.cancel()
        if telling.done():
            telling.result()
        else:
            telling.add_done_callback(_forget)

    async def _tell(self) -> None:
        while not await self._commit() and not self._closing:
            pass  # the group is busy with its members

    async def give_back(self, places: Sequence[Hashable]) -> None:
        """They are read again in a second, by us or by whoever owns the partition then."""
        now = self._now()
        for number, offset in _pairs(places):
            if (one := self._partitions.get(number)) is not None:
                one.give_back((offset,), now)
        self._moved.set()

    async def keep(self, places: Sequence[Hashable]) -> None:  # noqa: ARG002  (the group keeps partitions)
        if self._now() - self._served_at >= SERVE_SECONDS:
            with running(self.where):
                faults = await self._calls.run(self._there.serve)
            self._served_at = self._now()
            await self._check(faults)
        await self._commit()

    async def _commit(self) -> bool:
        """Commit what has moved, and return whether that is done; a drain does it at its end."""
        async with self._committing:
            await asyncio.sleep(max(0.0, self._commit_at - self._now()))
            if self._drains.is_set():
                return True
            self._commit_at = self._now() + COMMIT_SECONDS
            return await self._send_commit()

    async def _send_commit(self) -> bool:
        """Return whether the group took it; what it does not take just now goes with the next. Raises LinkError."""
        ours = list(self._partitions.items())
        due = {number: place for number, one in ours if (place := one.due(with_text=self._with_text))}
        told = self._untold
        if not due:
            self._untold = 0
            return True
        try:
            await self._calls.run(partial(self._there.commit, due))
        except KafkaException as error:
            if code_of(error) == KafkaError.OFFSET_METADATA_TOO_LARGE:
                self._with_text = False  # this broker keeps less than all others
            elif not is_for_later(error):
                with running(self.where):
                    raise
            return False
        for number, one in ours:
            one.committed = due.get(number, one.committed)
        self._untold = max(0, self._untold - told)
        self._moved.set()
        return True

    def _assigned(self, commits: Mapping[int, tuple[int | None, str | None]]) -> None:
        self._joined = True
        for number, (offset, text) in commits.items():
            self._partitions[number] = Partition(offset, text, self._max_uncommitted)

    def _revoked_in_thread(self, loop: asyncio.AbstractEventLoop, numbers: Sequence[int], lost: bool) -> None:
        """The partitions go when this returns. It runs inside the call that serves it: others wait."""
        if self._closing or self._member is None:
            return
        due = asyncio.run_coroutine_threadsafe(self._revoked(numbers, lost), loop).result()
        if due and not lost:
            try:
                self._member.commit(due)
            except KafkaException as error:  # what is not committed comes again, at the new owner
                logger().warning("source.commit_refused", broker=self.where, reason=name_of(error))

    async def _revoked(self, numbers: Sequence[int], lost: bool) -> Mapping[int, tuple[int, str]]:
        """Return what is to be committed of them at last."""
        self._drains.set()
        try:
            if not lost:
                await self._drain(numbers)
        finally:
            self._drains.clear()
        going = {number: one for number in numbers if (one := self._partitions.pop(number, None)) is not None}
        left = sum(one.in_hand for one in going.values())
        logger().info(
            "source.partitions_went", broker=self.where, partitions=list(numbers), in_hand=left, lost=lost
        )
        return {
            number: place for number, one in going.items() if (place := one.due(with_text=self._with_text))
        }

    async def _drain(self, numbers: Sequence[int]) -> None:
        """Let end what is in hand of them."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                going = [one for number, one in self._partitions.items() if number in numbers]
                while not self._closing and any(one.in_hand for one in going):
                    self._moved.clear()
                    await self._moved.wait()

    async def lag(self) -> int | None:
        """Of the partitions that are ours; those of all workers add up."""
        if not self._joined:
            return None
        lag = 0
        for number, one in list(self._partitions.items()):
            with running(self.where):
                low, high = await self._calls.run(partial(self._there.high, number))
            position = low if one.position is None else one.position
            lag += max(0, high - position) + one.returned
        return lag

    async def close(self) -> None:
        """Commit and leave. Cancellation: the thread leaves all the same.

        A member must not be forgotten before it left: the library's destructor, wherever Python happens to call it,
        can wait for ever for a group that is away (2.16: `rd_kafka_destroy` under the garbage collector).
        """
        self._closing = True
        self._moved.set()
        try:
            await self._commit_last()
        finally:
            member, self._member = self._member, None
            leaving = self._calls.start(member.close) if member is not None else None
            self._calls.end()
        if leaving is not None:
            with suppress(TimeoutError, KafkaException, RuntimeError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await leaving

    async def _commit_last(self) -> None:
        if self._member is not None and not self._trouble.is_down:
            with suppress(LinkError, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS), self._committing:
                    await self._send_commit()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _forget(task: asyncio.Task[None]) -> None:
    """What it met, the next commit meets."""
    if not task.cancelled():
        task.exception()


def _pairs(places: Sequence[Any]) -> Sequence[tuple[int, int]]:
    return places


def _age_seconds(timestamp_ms: int) -> float:
    now_ms = datetime.now(UTC).timestamp() * 1000
    return max(0.0, now_ms - timestamp_ms) / 1000 if timestamp_ms > 0 else 0.0
