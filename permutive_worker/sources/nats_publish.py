"""Jobs into a JetStream stream."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec
from nats.aio.msg import Msg
from nats.js.api import RetentionPolicy, StorageType, StreamConfig
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from permutive_worker.errors import ConfigurationError, LinkError, UnreachableError
from permutive_worker.sources.address import Address
from permutive_worker.sources.nats_link import ANSWER_SECONDS, NatsLink, connecting, running
from permutive_worker.sources.nats_names import PARAMETERS, read_names

STREAM_HEADER: Final = "Nats-Expected-Stream"  # a subject may belong to another stream: then it is refused


async def make_stream(stream: JetStreamContext, name: str, subject: str) -> None:
    """Make a stream on disk that forgets what was acknowledged; one that is there is left as it is."""
    with suppress(NotFoundError):
        await stream.stream_info(name)
        return
    config = StreamConfig(
        name=name,
        subjects=[subject or name],
        retention=RetentionPolicy.WORK_QUEUE,
        storage=StorageType.FILE,
    )
    await stream.add_stream(config)


class NatsPublisher:
    """A `ports.Publisher`: a message for each line."""

    def __init__(self, address: Address, create: bool) -> None:
        """Raises ConfigurationError: the URL is not sound."""
        self._subject = address.take(PARAMETERS)["subject"]
        self._stream, _ = read_names(address, consumer_needed=False)
        self._create = create
        self._where = address.where
        self._link = NatsLink(address, address.take(PARAMETERS)["ca"])
        self._inbox = self._link.client.new_inbox()
        self._awaited: set[str] = set()  # the inboxes of lines that were not answered
        self._confirmed = 0
        self._answered = asyncio.Event()

    async def open(self) -> None:
        with connecting(self._where, self._link):
            await self._link.open()
            stream = self._link.client.jetstream(timeout=ANSWER_SECONDS)
            if self._create:
                await make_stream(stream, self._stream, self._subject)
            self._subject = self._subject or await self._only_subject(stream)
            await self._link.client.subscribe(f"{self._inbox}.*", cb=self._on_answer)

    async def _only_subject(self, stream: JetStreamContext) -> str:
        try:
            info = await stream.stream_info(self._stream)
        except NotFoundError:
            raise ConfigurationError(
                f"{self._where}: the stream is not there: check the URL, or make it with --create"
            ) from None
        subjects = info.config.subjects or []
        if len(subjects) != 1 or "*" in subjects[0] or ">" in subjects[0]:
            raise ConfigurationError(
                f"{self._where}: the stream has several subjects: add ?subject=… to the URL"
            )
        return subjects[0]

    async def publish(self, lines: Sequence[bytes]) -> int:
        self._confirmed = 0
        self._awaited = {f"{self._inbox}.{number}" for number in range(len(lines))}
        try:
            with running(self._where):
                for number, line in enumerate(lines):
                    await self._link.client.publish(
                        self._subject,
                        line,
                        reply=f"{self._inbox}.{number}",
                        headers={STREAM_HEADER: self._stream},
                    )
                await self._answers()
        except LinkError as error:
            raise UnreachableError(str(error)) from None
        return self._confirmed

    async def _answers(self) -> None:
        """Wait while answers come."""
        while self._awaited:
            self._answered.clear()
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._answered.wait()

    async def _on_answer(self, message: Msg) -> None:
        if message.subject in self._awaited:
            self._awaited.remove(message.subject)
            self._confirmed += _is_taken(message.data)
            self._answered.set()

    async def close(self) -> None:
        await self._link.close()


def _is_taken(answer: bytes) -> bool:
    """Whether the stream's answer has a sequence number and no error; without a stream it is empty."""
    try:
        told = msgspec.json.decode(answer, type=dict[str, object])
    except msgspec.DecodeError:
        return False
    return "seq" in told and "error" not in told
