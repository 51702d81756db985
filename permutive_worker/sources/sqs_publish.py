"""Lines into an SQS queue; into a FIFO queue with a group for each user."""

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from botocore import exceptions

from permutive_worker.errors import LinkError, UnreachableError
from permutive_worker.sources.address import Address
from permutive_worker.sources.order_key import OrderKeys
from permutive_worker.sources.sqs_link import (
    BATCH_COUNT,
    PARAMETERS,
    QueueName,
    client_of,
    connecting,
    in_batches,
    queue_url,
    running,
)

OPEN_SECONDS: Final = 25.0  # two attempts and their pauses; the library waits for a name without a bound
BATCH_BYTES: Final = 256 * 1024  # of one call; AWS allows four times that since August 2025, others do not


class SqsPublisher:
    """A `ports.Publisher`. Lines that are empty or no UTF-8 cannot be messages: they are not confirmed."""

    def __init__(self, address: Address, create: bool) -> None:
        """Raises ConfigurationError: the URL is not sound."""
        taken = address.take(PARAMETERS)
        self._queue, self._create = QueueName(address, taken["region"]), create
        self._endpoint = taken["endpoint"]
        self._keys = OrderKeys()
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._url = ""

    async def open(self) -> None:
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await self._connect()
        except TimeoutError:
            raise UnreachableError(f"{self._queue.where} does not answer within {OPEN_SECONDS:g} s") from None

    async def _connect(self) -> None:
        with connecting(self._queue.where):
            self._client = await self._stack.enter_async_context(client_of(self._queue, self._endpoint))
            self._url = await queue_url(self._client, self._queue, create=self._create)

    async def publish(self, lines: Sequence[bytes]) -> int:
        bodies = [body for line in lines if (body := _body(line))]
        batches = list(_batches(bodies))
        try:
            with running(self._queue.where):
                if self._queue.is_fifo:  # one after another: they are to keep their order
                    return sum([await self._send(batch) for batch in batches])
                return sum(await in_batches(batches, self._send_each))
        except LinkError as error:
            raise UnreachableError(str(error)) from None

    async def _send_each(self, batches: Sequence[Sequence[str]]) -> int:
        return sum([await self._send(batch) for batch in batches])

    async def _send(self, bodies: Sequence[str]) -> int:
        entries = [self._entry(str(number), body) for number, body in enumerate(bodies)]
        try:
            answer = await self._client.send_message_batch(QueueUrl=self._url, Entries=entries)
        except exceptions.ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500) != 400:
                raise
            return 0  # it refuses what we sent: not confirmed
        return len(answer.get("Successful", ()))

    def _entry(self, number: str, body: str) -> dict[str, str]:
        entry = {"Id": number, "MessageBody": body}
        if self._queue.is_fifo:
            # Equal lines are two jobs; lines of nobody go in a group of their own.
            entry["MessageDeduplicationId"] = secrets.token_hex(16)
            entry["MessageGroupId"] = self._keys.of(body.encode()) or entry["MessageDeduplicationId"]
        return entry

    async def close(self) -> None:
        await self._stack.aclose()


def _body(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return ""


def _batches(bodies: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size_bytes = 0
    for body in bodies:
        body_bytes = len(body.encode())
        if batch and (len(batch) == BATCH_COUNT or size_bytes + body_bytes > BATCH_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch.append(body)
        size_bytes += body_bytes
    if batch:
        yield batch
