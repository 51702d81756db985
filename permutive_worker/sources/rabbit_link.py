"""A connection to RabbitMQ, and what its errors mean to us."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import aiormq
from aiormq import exceptions
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from pamqp.common import FieldValue
from yarl import URL

from permutive_worker.errors import ConfigurationError, LinkError, UnreachableError
from permutive_worker.sources.address import Address
from permutive_worker.sources.tls import is_distrust, trusting

ANSWER_SECONDS: Final = 10.0  # no call waits longer; quorum queues have to agree on some
HEARTBEAT_SECONDS: Final = 5  # aiormq gives up after three and some
CLOSE_SECONDS: Final = 2.0


def queue_of(address: Address) -> tuple[str, str]:
    """Return vhost and queue of `amqp://host/vhost/queue`, or of `amqp://host/queue` in the vhost `/`.

    Raises:
        ConfigurationError: the path is something else.
    """
    match address.segments():
        case [queue]:
            return "/", queue
        case [vhost, queue]:
            return vhost, queue
    raise ConfigurationError(
        f"{address.where}: the URL must be {address.scheme}://HOST:5672/VHOST/QUEUE (/ is %2F)"
    )


class RabbitLink:
    """One connection. It never connects again by itself.

    Attributes:
        news: set when the connection or one of its channels closed; who waits for messages sets it too.
    """

    def __init__(self, address: Address, ca: str) -> None:
        """`ca` is the path of the certificates to trust instead of the system's; address is `amqp://` or `amqps://`.

        Raises:
            ConfigurationError: `ca` cannot be used.
        """
        self.news = asyncio.Event()
        self._address = address
        self._context = trusting(address.where, ca) if address.scheme == "amqps" else None
        self._vhost, self._queue = queue_of(address)
        self._connection: AbstractConnection | None = None
        self._channels: list[AbstractChannel] = []  # open, unless the broker closed one
        self._asking: AbstractChannel | None = None  # a question that is refused closes its channel

    @property
    def is_closed(self) -> bool:
        """The connection, or a channel that we did not close ourselves."""
        if self._connection is None or self._connection.is_closed:
            return True
        return any(channel.is_closed for channel in self._channels)

    async def open(self) -> None:
        """Connect. Raises what aiormq raises: see `connecting`."""
        async with asyncio.timeout(ANSWER_SECONDS):  # the library would wait for the first word for ever
            self._connection = await aiormq.connect(self._url(), context=self._context)

    async def open_channel(self, *, confirms: bool = False) -> AbstractChannel:
        channel = await self._new_channel(confirms=confirms)
        channel.closing.add_done_callback(lambda _: self.news.set())
        self._channels.append(channel)
        return channel

    async def close_channel(self, channel: AbstractChannel) -> None:
        """Close it; the broker gives to others what was not answered on it."""
        self._channels.remove(channel)
        await channel.close()

    async def _new_channel(self, *, confirms: bool) -> AbstractChannel:
        if self._connection is None:
            raise LinkError("there is no connection")
        return await self._connection.channel(publisher_confirms=confirms, timeout=ANSWER_SECONDS)

    def _url(self) -> URL:
        address = self._address
        return URL.build(
            scheme=address.scheme,
            user=address.user or "guest",
            password=address.password or "guest",
            host=address.host or "localhost",
            port=address.port,
            path="/" + self._vhost.replace("/", "%2F"),
            query={"heartbeat": str(HEARTBEAT_SECONDS), "name": "permutive-worker"},
        )

    async def count_waiting(self) -> int:
        """Ask how many messages nobody was given. Raises ChannelNotFoundEntity: the queue is not there."""
        channel = await self._asking_channel()
        told = await channel.queue_declare(self._queue, passive=True, timeout=ANSWER_SECONDS)
        return told.message_count or 0

    async def make_queue(self) -> None:
        """Make the queue, durable and replicated, unless it is there already, of whatever type."""
        with suppress(exceptions.ChannelNotFoundEntity):
            await self.count_waiting()
            return
        channel = await self._asking_channel()
        arguments: dict[str, FieldValue] = {"x-queue-type": "quorum"}
        await channel.queue_declare(self._queue, durable=True, arguments=arguments, timeout=ANSWER_SECONDS)

    async def try_to_read(self) -> None:
        """Raise ChannelAccessRefused if the user may not: that is told only to who reads."""
        channel = await self._new_channel(confirms=False)
        await channel.basic_qos(prefetch_count=1, timeout=ANSWER_SECONDS)
        await channel.basic_consume(self._queue, _drop, timeout=ANSWER_SECONDS)
        await channel.close()  # gives back what came

    async def _asking_channel(self) -> AbstractChannel:
        if self._asking is None or self._asking.is_closed:
            self._asking = await self._new_channel(confirms=False)
        return self._asking

    async def close(self) -> None:
        """Close; the broker then gives to others what was not acknowledged. Never raises."""
        if self._connection is not None and not self._connection.is_closed:
            with suppress(Exception):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._connection.close()


async def _drop(message: DeliveredMessage) -> None:
    """It is given back with its channel."""


@contextmanager
def connecting(where: str) -> Iterator[None]:
    """Turn what aiormq raises while connecting into our errors."""
    try:
        yield
    except (exceptions.ProbableAuthenticationError, exceptions.AuthenticationError):
        raise ConfigurationError(
            f"{where} refuses user or password: check PERMUTIVE_WORKER_SOURCE__PASSWORD"
        ) from None
    except (exceptions.InvalidFrameError, exceptions.ConnectionNotAllowed):
        raise ConfigurationError(f"{where}: the vhost is not there, or the user may not use it") from None
    except exceptions.ChannelNotFoundEntity:
        raise ConfigurationError(
            f"{where}: the queue is not there: check the URL, or make it with --create"
        ) from None
    except exceptions.ChannelAccessRefused:
        raise ConfigurationError(f"{where}: the user has no permission for this queue") from None
    except exceptions.AMQPChannelError as error:
        raise ConfigurationError(f"{where} refuses: {_kind(error)}") from None
    except (exceptions.AMQPError, OSError, TimeoutError, RuntimeError, EOFError) as error:
        if is_distrust(error):
            raise ConfigurationError(f"{where}: its certificate is not trusted: add ?ca=FILE") from None
        reason = "it speaks no TLS there" if "SSL" in str(error) else _kind(error)
        raise UnreachableError(f"{where} cannot be reached: {reason}") from None
    except asyncio.CancelledError:
        if _is_cancelled():
            raise
        raise UnreachableError(f"{where} closed the connection") from None


@contextmanager
def running(where: str, link: RabbitLink) -> Iterator[None]:
    """Turn what aiormq raises on a link that was there into LinkError.

    When a connection ends aiormq raises what ended it in all who wait, a bare Exception or
    CancelledError too, although nobody cancelled us.
    """
    try:
        yield
    except (exceptions.AMQPError, exceptions.ChannelInvalidStateError, OSError, TimeoutError) as error:
        raise LinkError(f"{where}: {_kind(error)}") from None
    except asyncio.CancelledError:
        if _is_cancelled() or not link.is_closed:
            raise
        raise LinkError(f"{where}: the connection was closed") from None
    except LinkError:
        raise
    except Exception as error:
        if not link.is_closed:
            raise
        raise LinkError(f"{where}: {_kind(error)}") from None


def _is_cancelled() -> bool:
    """Whether somebody cancelled us, and aiormq did not make it up."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _kind(error: BaseException) -> str:
    """Never the text, which may hold the URL."""
    code = error.args[0] if error.args else None
    return os.strerror(code) if isinstance(code, int) and code else type(error).__name__
