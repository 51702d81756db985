"""Jobs from an SQS queue.

A message is ours for a while, which is made longer for what is still in hand. Of a FIFO queue only the
first message of a group leaves; the next when it is deleted.
"""

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from typing import Any, Final

from botocore import exceptions

from permutive_worker.control.in_turn import InTurn
from permutive_worker.errors import LinkError
from permutive_worker.model import Delivery
from permutive_worker.sources.address import Address
from permutive_worker.sources.broker import FETCH_SECONDS, QueueOrigin
from permutive_worker.sources.sqs_link import (
    BATCH_COUNT,
    OVER_LIMIT,
    PARALLEL,
    PARAMETERS,
    QueueName,
    client_of,
    code_of,
    connecting,
    in_batches,
    queue_url,
    running,
)

POLL_SECONDS: Final = 1  # SQS waits in whole seconds; a stop waits for it, and must not wait long
CLOSE_SECONDS: Final = 3.0
ATTRIBUTES: Final = ("ApproximateReceiveCount", "SentTimestamp", "MessageGroupId")


class Handle:
    """What SQS wants to hear of a message, and until when it is ours."""

    __slots__ = ("receipt", "until")

    def __init__(self, receipt: str, until: float) -> None:
        self.receipt = receipt
        self.until = until


class SqsBroker:
    """A `Broker`. A place is the id of a message."""

    kind = "sqs"

    def __init__(self, address: Address, create: bool) -> None:
        """Raises ConfigurationError: the URL is not sound."""
        taken = address.take(PARAMETERS)
        self._queue, self._create = QueueName(address, taken["region"]), create
        self._endpoint = taken["endpoint"]
        self._visible_seconds = int(address.number("visibility", taken["visibility"], least=1))
        self._origin = QueueOrigin(f"sqs:{self._queue.name}")
        self.where = self._queue.where
        self.keep_seconds = self._visible_seconds / 3
        self.redeliveries = 0
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._url = ""
        self._handles: dict[Hashable, Handle] = {}
        self._turns = InTurn() if self._queue.is_fifo else None
        self._behind: dict[Hashable, Delivery] = {}  # they wait for others of their group
        self._ready: list[Delivery] = []
        self._polling: asyncio.Task[list[Any]] | None = None
        self._polls = 1  # at the same time: more while all of them come back full
        self._came = asyncio.Event()

    async def connect(self) -> None:
        await self._disconnect()
        with connecting(self.where):
            self._client = await self._stack.enter_async_context(client_of(self._queue, self._endpoint))
            self._url = await queue_url(self._client, self._queue, create=self._create)
            await self._waiting()

    async def _disconnect(self) -> None:
        stack, self._stack = self._stack, AsyncExitStack()
        self._client = None
        await stack.aclose()

    @property
    def _there(self) -> Any:
        if self._client is None:
            raise LinkError(f"{self.where} was closed")
        return self._client

    async def fetch(self, max_count: int) -> Sequence[Delivery]:
        """A poll goes on beyond this call, so that one that ends early loses nothing."""
        self._came.clear()
        if not self._ready:
            if self._polling is None:
                self._polling = asyncio.get_running_loop().create_task(self._poll(max_count))
                self._polling.add_done_callback(lambda _: self._came.set())
            if not self._polling.done():
                with suppress(TimeoutError):
                    async with asyncio.timeout(FETCH_SECONDS):
                        await self._came.wait()
            await self._take_polled()
        given, self._ready = self._ready[:max_count], self._ready[max_count:]
        return given

    async def _take_polled(self) -> None:
        polling = self._polling
        if polling is None or not polling.done():
            return
        self._polling = None
        for message in await polling:
            self._register(message)

    async def _poll(self, max_count: int) -> list[Any]:
        """Several at once find more: each asks a few of the queue's servers and brings ten at most."""
        polls = min(self._polls, max(1, max_count // BATCH_COUNT))
        answers = await asyncio.gather(
            *(self._receive(min(max_count, BATCH_COUNT)) for _ in range(polls)), return_exceptions=True
        )
        brought = [answer for answer in answers if not isinstance(answer, BaseException)]
        full = len(brought) == polls and all(len(answer) == BATCH_COUNT for answer in brought)
        self._polls = min(2 * polls, PARALLEL) if full else 1
        messages = [message for answer in brought for message in answer]
        if not messages:
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
        return messages

    async def _receive(self, count: int) -> Sequence[Any]:
        with running(self.where):
            try:
                answer = await self._there.receive_message(
                    QueueUrl=self._url,
                    MaxNumberOfMessages=count,
                    WaitTimeSeconds=POLL_SECONDS,
                    VisibilityTimeout=self._visible_seconds,
                    AttributeNames=list(ATTRIBUTES),
                )
            except exceptions.ClientError as error:
                if code_of(error) not in OVER_LIMIT:
                    raise
                await asyncio.sleep(POLL_SECONDS)  # all workers together hold what the queue allows
                return ()
        messages: Sequence[Any] = answer.get("Messages", ())
        return messages

    def _register(self, message: Mapping[str, Any]) -> None:
        place, attributes = message["MessageId"], message.get("Attributes", {})
        self.redeliveries += int(attributes.get("ApproximateReceiveCount", 1)) > 1
        self._handles[place] = Handle(message["ReceiptHandle"], self._now() + self._visible_seconds)
        body = message.get("Body", "").encode(errors="surrogatepass")
        delivery = Delivery(body, self._origin, place, age_seconds=_age_seconds(attributes))
        if self._turns is None or self._turns.offer(place, attributes.get("MessageGroupId")):
            self._ready.append(delivery)
        elif self._turns.is_waiting(place):
            self._behind[place] = delivery

    async def acknowledge(self, places: Sequence[Hashable]) -> int:
        known = [place for place in places if place in self._handles]
        return sum(await in_batches(known, self._delete))

    async def _delete(self, places: Sequence[Hashable]) -> int:
        left = await self._delete_once(places)
        if left and any(not sender for _, sender in left):
            left = await self._delete_once([place for place, _ in left])
        for place in places:
            self._handles.pop(place, None)
            self._release_next(place)
        return len(left)

    async def _delete_once(self, places: Sequence[Hashable]) -> list[tuple[Hashable, bool]]:
        """Return what was not deleted, and whether it never will be: SQS answers 200 all the same."""
        entries = [
            {"Id": str(number), "ReceiptHandle": self._handles[place].receipt}
            for number, place in enumerate(places)
        ]
        with running(self.where):
            answer = await self._there.delete_message_batch(QueueUrl=self._url, Entries=entries)
        return [(places[int(one["Id"])], bool(one.get("SenderFault"))) for one in answer.get("Failed", ())]

    def _release_next(self, place: Hashable) -> None:
        if self._turns is None:
            return
        following = self._turns.done(place)
        if following is not None and (delivery := self._behind.pop(following, None)) is not None:
            self._ready.append(delivery)
            self._came.set()

    async def give_back(self, places: Sequence[Hashable]) -> None:
        """With a message of a FIFO queue go those of its group that wait behind it."""
        going = list(places)
        if self._turns is not None:
            for place in places:
                going += self._turns.drop(place)
        await in_batches([place for place in going if place in self._handles], self._show)
        for place in going:
            self._handles.pop(place, None)
            self._behind.pop(place, None)

    async def _show(self, places: Sequence[Hashable]) -> None:
        await self._change(places, 0)

    async def _hide(self, places: Sequence[Hashable]) -> None:
        until = self._now() + self._visible_seconds
        await self._change(places, self._visible_seconds)
        for place in places:
            if (handle := self._handles.get(place)) is not None:
                handle.until = until

    async def _change(self, places: Sequence[Hashable], seconds: int) -> None:
        """What SQS refuses to change it gives again by itself (after twelve hours, for one)."""
        entries = [
            {"Id": str(number), "ReceiptHandle": handle.receipt, "VisibilityTimeout": seconds}
            for number, place in enumerate(places)
            if (handle := self._handles.get(place)) is not None
        ]
        if entries:
            with running(self.where):
                await self._there.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)

    async def keep(self, places: Sequence[Hashable]) -> None:  # noqa: ARG002  (also what waits behind them)
        """Only what was hidden before the last time: most of what is in hand is done long before."""
        near = self._now() + self._visible_seconds * 0.67
        await in_batches(
            [place for place, handle in self._handles.items() if handle.until < near], self._hide
        )

    async def lag(self) -> int | None:
        with running(self.where):
            return await self._waiting()

    async def _waiting(self) -> int:
        answer = await self._there.get_queue_attributes(
            QueueUrl=self._url, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    async def close(self) -> None:
        with suppress(LinkError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._polling is not None:
                    await asyncio.wait((self._polling,))
                    await self._take_polled()
                await self.give_back([delivery.place for delivery in self._ready])
                self._ready.clear()
        if self._polling is not None:
            self._polling.cancel()
        await self._disconnect()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _age_seconds(attributes: Mapping[str, str]) -> float:
    since_ms = int(attributes.get("SentTimestamp", 0))
    return max(0.0, datetime.now(UTC).timestamp() - since_ms / 1000) if since_ms else 0.0
