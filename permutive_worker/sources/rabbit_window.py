"""Messages that RabbitMQ pushes, asked for in windows.

AMQP bounds how many messages a consumer has in hand and not how many are on their way, and not their
bytes. So a consumer has a small window, on a channel of its own. When all of it is in hand (jobs that
wait for the API) the next one is opened; the old channel is closed once all of its messages are
answered. Only that is safe: a quorum queue forgets what is on its way to a consumer that is cancelled,
until its channel is closed.

Answers are transactions, a group each. Sent one by one, some that a quorum queue was sent just before the close
of their channel did not count (seen with 3.10: hundreds of acknowledged messages were given again).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.channel import Channel

from permutive_worker.errors import LinkError
from permutive_worker.sources.rabbit_link import ANSWER_SECONDS, RabbitLink

FIRST_COUNT: Final = 1  # until we know how large messages are
MAX_COUNT: Final = 1024
MAX_BYTES: Final = 2 * 1024 * 1024
# A consumer that came while a quorum queue was being deleted hears nothing of that (3.10), and gets nothing from one
# that is made again by that name.
RENEW_SECONDS: Final = 60.0  # nothing came for so long: a new consumer

Place = tuple[int, int]  # number of the window, delivery tag
Answer = Callable[[AbstractChannel, int], Awaitable[None]]  # says what became of the message with that tag


class Window:
    """One channel with one consumer. `in_hand` are the tags of what came and is not answered."""

    def __init__(self, channel: AbstractChannel, number: int, size: int) -> None:
        self.channel = channel
        self.number = number
        self.size = size
        self.in_hand: set[int] = set()
        self.is_over = False  # its consumer is no more, it only waits for answers
        self.name = f"permutive-worker-{number}"

    @property
    def is_used_up(self) -> bool:
        return self.is_over or len(self.in_hand) >= self.size or self._is_cut_off

    @property
    def _is_cut_off(self) -> bool:
        """The broker has cancelled the consumer: its node went down, or the queue."""
        return isinstance(self.channel, Channel) and self.name not in self.channel.consumers

    async def open(self) -> None:
        await self.channel.basic_qos(prefetch_count=self.size, timeout=ANSWER_SECONDS)
        await self.channel.tx_select(timeout=ANSWER_SECONDS)

    async def commit(self) -> None:
        """Make what was answered on the channel count, and return when the broker has read it."""
        await self.channel.tx_commit(timeout=ANSWER_SECONDS)


class Windows:
    """What a queue gives over one link.

    Attributes:
        came: messages nobody has taken yet, with their places.
        last: the number of the newest window; the next link's begin after it, so that places stay unique.
    """

    def __init__(self, link: RabbitLink, queue: str, last: int) -> None:
        self.came: deque[tuple[Place, DeliveredMessage]] = deque()
        self.last = last
        self._link = link
        self._queue = queue
        self._windows: dict[int, Window] = {}
        self._mean_bytes = 0.0  # decaying; 0 before the first message
        self._renew_at = 0.0
        self._turning = asyncio.Lock()  # held while a consumer comes or goes: fetch and keep overlap

    async def take(self, max_count: int, seconds: float) -> list[tuple[Place, DeliveredMessage]]:
        """Return messages as soon as some are there, none after `seconds`.

        Raises:
            LinkError: the link broke. The other errors are aiormq's.
        """
        if not self.came:
            self._link.news.clear()
            await self._turn()
            if not self._link.is_closed:
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._link.news.wait()
        if not self.came and self._link.is_closed:
            raise LinkError("the connection was closed")
        taken = list(islice(self.came, max_count))
        for _ in taken:
            self.came.popleft()
        if taken:
            self._renew_at = _now() + RENEW_SECONDS
        return taken

    async def _turn(self) -> None:
        """See that there is a window that messages can come to."""
        async with self._turning:
            newest = self._windows.get(self.last)
            if newest is None or newest.is_used_up or _now() >= self._renew_at:
                await self._end(newest)
                await self._open_next()

    async def stop(self) -> None:
        """Take nothing more until the next `take`."""
        async with self._turning:
            await self._end(self._windows.get(self.last))

    async def _end(self, window: Window | None) -> None:
        if window is not None and not window.is_over:
            await window.channel.basic_cancel(window.name, timeout=ANSWER_SECONDS)
            window.is_over = True  # not before: an answer in the meantime would close the channel under us
            await self._leave(window)

    async def answer(self, places: Sequence[Place], answer: Answer) -> int:
        """Answer messages, and return for how many it was too late: they came over another link."""
        touched: dict[Window, list[int]] = {}
        for number, tag in places:
            if window := self._windows.get(number):
                await answer(window.channel, tag)
                touched.setdefault(window, []).append(tag)
        for window, tags in touched.items():
            await window.commit()
            window.in_hand.difference_update(tags)
            await self._leave(window)
        return len(places) - sum(map(len, touched.values()))

    async def _leave(self, window: Window) -> None:
        """Close its channel if nothing more is to be said on it."""
        if window.is_over and not window.in_hand and window.number in self._windows:
            del self._windows[window.number]
            await self._link.close_channel(window.channel)

    async def _open_next(self) -> None:
        size = max(1, min(MAX_COUNT, int(MAX_BYTES / self._mean_bytes))) if self._mean_bytes else FIRST_COUNT
        channel = await self._link.open_channel()
        self._renew_at = _now() + RENEW_SECONDS
        self.last += 1
        window = self._windows[self.last] = Window(channel, self.last, size)
        await window.open()

        async def on_message(message: DeliveredMessage) -> None:
            self._on_message(window, message)

        await channel.basic_consume(self._queue, on_message, consumer_tag=window.name, timeout=ANSWER_SECONDS)

    def _on_message(self, window: Window, message: DeliveredMessage) -> None:
        size_bytes = len(message.body)
        self._mean_bytes += (size_bytes - self._mean_bytes) / 16 if self._mean_bytes else max(1, size_bytes)
        tag = message.delivery_tag or 0
        window.in_hand.add(tag)
        self.came.append(((window.number, tag), message))
        self._link.news.set()


def _now() -> float:
    return asyncio.get_running_loop().time()
