"""The event stream: each second's document, to the few who look at the page.

    publish ──▶ the latest event ──▶ each client's handler writes it when it has written the one before

Nothing is kept for a client: who is slow misses events, and who takes none for ten seconds is cut off. So a
client costs at most what aiohttp and the socket buffer for one connection.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import web

MOST_CLIENTS: Final = 16  # a team on call and a screen on the wall
WRITE_SECONDS: Final = 10.0  # a phone that took nothing for so long is gone
# Of `retry`: a browser comes back so soon, and a thousand of them would not hurt a worker that starts.
_HELLO: Final = b"retry: 2000\n: one event a second\n\n"


class EventStream:
    """Server-sent events; `tell` makes the document of this moment, and is asked only while somebody looks."""

    def __init__(self, tell: Callable[[], bytes]) -> None:
        self._tell = tell
        self._clients = 0
        self._event = b""
        self._news = asyncio.Event()
        self._closed = False

    @property
    def clients(self) -> int:
        return self._clients

    def publish(self) -> None:
        """Send the document of this moment to all who look, if anybody does."""
        if self._clients:
            self._event = b"data: " + self._tell() + b"\n\n"
            news, self._news = self._news, asyncio.Event()
            news.set()

    def close(self) -> None:
        """Send a last document, and let every client go once it has it."""
        self._closed = True
        self.publish()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one client until it goes, or the stream is closed. Cancellation: safe."""
        if self._clients >= MOST_CLIENTS:
            headers = {"Retry-After": "5"}
            return web.Response(status=503, text="too many look at this page\n", headers=headers)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        self._clients += 1
        try:
            await response.prepare(request)
            self.publish()  # for the one who has just come
            await self._serve(response)
        except (ConnectionError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._clients -= 1
        return response

    async def _serve(self, response: web.StreamResponse) -> None:
        await _write(response, _HELLO)
        sent = b""
        while True:
            event, news = self._event, self._news
            if event is not sent:
                await _write(response, event)
                sent = event
            elif self._closed:
                return
            else:
                await news.wait()


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_SECONDS):
        await response.write(data)
