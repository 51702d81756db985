"""The admin server: a page at `/`, `/events` that moves it, `/status`, `/metrics`, `/livez` and `/readyz`.

It only reads: GET, nothing else, no identifiers, no key; positions in the input of dead letters and of the
longest line of jobs behind one user.
"""

import asyncio
import logging
import os
from importlib.resources import files
from typing import Final

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from permutive_worker.admin.door import Door, Unread
from permutive_worker.admin.events import EventStream
from permutive_worker.errors import ConfigurationError
from permutive_worker.ports import Clock, SystemClock
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.document import status_document
from permutive_worker.telemetry.history import History
from permutive_worker.telemetry.logs import logger
from permutive_worker.telemetry.status import Look

try:
    from prometheus_client.aiohttp import make_aiohttp_handler
except ImportError:  # it came after 0.22

    def make_aiohttp_handler(registry: CollectorRegistry) -> Handler:  # type: ignore[misc]  # narrower on purpose
        async def metrics(request: web.Request) -> web.Response:
            encode, content_type = choose_encoder(request.headers.get(hdrs.ACCEPT, ""))
            return web.Response(body=encode(registry), headers={hdrs.CONTENT_TYPE: content_type})

        return metrics


_LOOPBACK: Final = "127.0.0.1"
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_PAGE: Final = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.png": ("icon.png", "image/png"),
}
_LOOK_SECONDS: Final = 1.0


class AdminServer:
    """Serves one worker's page, metrics and probes.

    Args:
        listen: `HOST:PORT`, `:PORT` or `PORT`; without a host only this machine can connect; port 0
            takes a free one.
        registry: of `build_registry`.
        look: asked at each request, and once a second while somebody looks at the page.
        counts: of the run; read once a second.
        clock: for tests.

    Raises:
        ConfigurationError: `listen` cannot be read.
    """

    def __init__(
        self,
        listen: str,
        registry: CollectorRegistry,
        look: Look,
        counts: Counts,
        clock: Clock | None = None,
    ) -> None:
        self._host, self._port = parse_listen(listen)
        self._registry = registry
        self._look = look
        self._counts = counts
        self._clock = clock or SystemClock()
        self._log = logger()
        self._history = History()
        self._events = EventStream(self._document)
        self._door = Door(self._host)
        self._listening: asyncio.Server | None = None
        self._ticking: asyncio.Task[None] | None = None
        # Nobody needs to see a probe end: close() must not eat the time the delivery has to drain.
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            logger=Unread(logging.getLogger("aiohttp.server")),
            handle_signals=False,
            shutdown_timeout=1.0,
            handler_cancellation=True,  # who looked at the page and went leaves nothing behind
            keepalive_timeout=75.0,  # longer than between two scrapes
            lingering_time=0.0,  # nobody has a body to send here
            read_bufsize=4096,
        )

    @property
    def url(self) -> str:
        """Where it listens: `http://127.0.0.1:9000`. The real port once started."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigurationError: the address is taken, not allowed or not this machine's.
        """
        await self._runner.setup()
        server = self._runner.server
        assert server is not None  # noqa: S101  (set up just before)
        loop = asyncio.get_running_loop()
        try:
            self._listening = await loop.create_server(
                lambda: self._door.protocol(server), self._host, self._port
            )
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigurationError(
                f"The admin server cannot listen on {self.url}: {_reason(error)}. "
                "Choose another address with --admin HOST:PORT, or stop the program that has this one."
            ) from error
        self._door.narrow(self._listening)
        self._port = self._listening.sockets[0].getsockname()[1]
        self._ticking = asyncio.create_task(self._tick(), name="admin")
        self._log.info("admin.listening", url=self.url)

    async def close(self) -> None:
        """Tell all who look how it ended, and stop listening; requests under way have a second.

        May be called twice, or without start.
        """
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait((self._ticking,))
        if self._listening is not None:
            self._listening.close()
        self._events.close()
        await self._runner.cleanup()

    def _application(self) -> web.Application:
        @web.middleware
        async def enter(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._door.enter(request, handler)

        application = web.Application(middlewares=[enter])
        application.on_response_prepare.append(_prepare)
        for path, handler in (
            *((path, _page(name, kind)) for path, (name, kind) in _PAGE.items()),
            ("/events", self._events.handle),
            ("/metrics", make_aiohttp_handler(self._registry)),
            ("/livez", self._livez),
            ("/readyz", self._readyz),
            ("/status", self._status),
        ):
            application.router.add_get(path, handler, allow_head=False)
        return application

    async def _tick(self) -> None:
        while True:
            self._history.observe(self._counts, self._clock.monotonic(), self._clock.utc_now())
            self._events.publish()
            await asyncio.sleep(_LOOK_SECONDS)

    def _document(self) -> bytes:
        now = self._clock.utc_now()
        return msgspec.json.encode(status_document(self._counts, self._look(), self._history, now))

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        status = self._look()
        if status.ready:
            return web.Response(text="ok\n")
        running = "source away" if status.source_away else "halted"
        reason = running if status.state == "running" else status.state
        return web.Response(status=503, text=reason + "\n")

    async def _status(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._document(), content_type="application/json")


def _page(name: str, content_type: str) -> Handler:
    """Answer with one of the page's files, whatever is asked for in `Accept`."""
    body = (files("permutive_worker.admin") / "page" / name).read_bytes()
    charset = None if content_type.startswith("image/") else "utf-8"

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=content_type, charset=charset)

    return answer


async def _prepare(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
    response.headers.popall(hdrs.SERVER, None)


def parse_listen(listen: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`, `[IPV6]:PORT`, `:PORT` or `PORT`; no host means loopback.

    Raises:
        ConfigurationError: it is none of these.
    """
    host, _, port = listen.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (port.isascii() and port.isdecimal() and int(port) < 65536) or (":" in host and not bracketed):
        raise ConfigurationError(
            f"--admin {listen!r} is no address to listen on: give HOST:PORT, :PORT or PORT, "
            "for example 127.0.0.1:9000, or [::1]:9000 for IPv6."
        )
    return host.strip("[]") or _LOOPBACK, int(port)


def _reason(error: OSError) -> str:
    # asyncio puts the address into its own text, with the host in Python's notation.
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error.strerror)
