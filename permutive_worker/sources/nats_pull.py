"""Messages of a JetStream consumer, asked for: at most one request is open at a time.

The pull subscription of nats-py is not used: it waits for a full batch, so that a trickle is half a
second late, and asks twice for each batch.
"""

import asyncio
from collections import deque
from contextlib import suppress
from itertools import count, islice
from typing import Final

import msgspec
from nats.aio.msg import Msg

from permutive_worker.errors import LinkError
from permutive_worker.sources.nats_link import NatsLink

GRACE_SECONDS: Final = 1.0  # the server tells the end of a request; one that it forgot ends after that
ENDED: Final = ("404", "408")  # nothing (more) came in time
MAX_BYTES: Final = 2 * 1024 * 1024  # of one request


class Pull:
    """What a consumer gives over one link.

    Attributes:
        came: messages nobody has taken yet; what comes after `take` has returned is for the next one.
    """

    def __init__(self, link: NatsLink, stream: str, consumer: str) -> None:
        self.came: deque[Msg] = deque()
        self._link = link
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._inbox = link.client.new_inbox()
        self._numbers = count()
        self._request = ""  # the inbox of the one that is open
        self._awaited = self._asked = 0
        self._is_next_large = False  # larger than MAX_BYTES: it is asked for alone
        self._until = 0.0
        self._refusal = ""

    async def open(self) -> None:
        await self._link.client.subscribe(f"{self._inbox}.*", cb=self._on_message)

    async def take(self, max_count: int, seconds: float) -> list[Msg]:
        """Return messages as soon as some are there, none after about `seconds`.

        Raises:
            LinkError: the link broke, or the server refuses. The other errors are nats-py's.
        """
        if not self.came:
            self._link.news.clear()
            if not self._is_open():
                await self._ask(max_count, seconds)
            await self._news(seconds)
        if not self.came and (self._refusal or self._link.is_closed):
            raise LinkError(self._refusal or "the connection was closed")
        taken = list(islice(self.came, max_count))
        for _ in taken:
            self.came.popleft()
        return taken

    async def end(self) -> None:
        """Wait for the end of the open request: what comes after that would be nobody's."""
        while self._is_open() and not self._link.is_closed:
            self._link.news.clear()
            await self._news(GRACE_SECONDS)

    def _is_open(self) -> bool:
        return self._awaited > 0 and self._now() < self._until

    async def _ask(self, max_count: int, seconds: float) -> None:
        self._request = f"{self._inbox}.{next(self._numbers)}"
        self._awaited = self._asked = 1 if self._is_next_large else max_count
        self._until = self._now() + seconds + GRACE_SECONDS
        # A little less than we wait, so that the end of the request is heard within the wait.
        wish = {"batch": self._asked, "expires": int(seconds * 0.9 * 1e9)}
        if not self._is_next_large:
            wish["max_bytes"] = MAX_BYTES
        self._is_next_large = False
        await self._link.client.publish(self._subject, msgspec.json.encode(wish), reply=self._request)

    async def _news(self, seconds: float) -> None:
        if self._link.is_closed:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._link.news.wait()

    async def _on_message(self, message: Msg) -> None:
        if message.reply:
            self._awaited -= 1
            self.came.append(message)
        elif message.subject == self._request and message.headers:
            self._on_end(message.headers.get("Status", ""), message.headers.get("Description", ""))
        self._link.news.set()

    def _on_end(self, status: str, words: str) -> None:
        if "maxbytes" in words.lower():
            self._is_next_large = self._awaited == self._asked
        elif status not in ENDED:
            self._refusal = words or f"status {status}"
        self._awaited = 0

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
