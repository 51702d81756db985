"""The admin server: `/metrics`, `/livez`, `/readyz`, `/status` and a list of them at `/`.

It only reads: GET, nothing else, no identifiers, no key; one position in the input, of the longest line of jobs
behind one user.
"""

import os
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from permutive_worker.errors import ConfigurationError
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.logs import logger
from permutive_worker.telemetry.progress import progress
from permutive_worker.telemetry.status import Look, Status

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
    "Cache-Control": "no-store",
}
_PATHS: Final = """\
/metrics  Prometheus metrics
/livez    200 while the process works
/readyz   200 while jobs would be delivered, else 503 and why
/status   what the worker is doing, as JSON
"""


class AdminServer:
    """Serves one worker's metrics and probes.

    Args:
        listen: `HOST:PORT`, `:PORT` or `PORT`; without a host only this machine can connect; port 0
            takes a free one.
        registry: of `build_registry`.
        look: asked at each request.
        counts: of the run.

    Raises:
        ConfigurationError: `listen` cannot be read.
    """

    def __init__(self, listen: str, registry: CollectorRegistry, look: Look, counts: Counts) -> None:
        self._host, self._port = parse_listen(listen)
        self._registry = registry
        self._look = look
        self._counts = counts
        self._log = logger()
        # Nobody needs to see a probe end: close() must not eat the time the delivery has to drain.
        self._runner = web.AppRunner(
            self._application(), access_log=None, handle_signals=False, shutdown_timeout=1.0
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
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigurationError(
                f"The admin server cannot listen on {self.url}: {_reason(error)}. "
                "Choose another address with --admin HOST:PORT, or stop the program that has this one."
            ) from error
        self._port = self._runner.addresses[0][1]
        self._log.info("admin.listening", url=self.url)

    async def close(self) -> None:
        """Stop listening; requests under way have a second. May be called twice, or without start."""
        await self._runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application()
        application.on_response_prepare.append(_prepare)
        for path, handler in (
            ("/", self._index),
            ("/metrics", make_aiohttp_handler(self._registry)),
            ("/livez", self._livez),
            ("/readyz", self._readyz),
            ("/status", self._status),
        ):
            application.router.add_get(path, handler, allow_head=False)
        return application

    async def _index(self, _request: web.Request) -> web.Response:
        return web.Response(text=_PATHS)

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
        document = status_document(self._counts, self._look())
        return web.Response(body=msgspec.json.encode(document), content_type="application/json")


async def _prepare(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
    response.headers.popall(hdrs.SERVER, None)


def status_document(counts: Counts, status: Status) -> dict[str, Any]:
    """Return what `/status` says: the run at one moment, with numbers, job types and one position."""
    return {
        **msgspec.structs.asdict(status),
        "ready": status.ready,
        "pending": status.pending,
        "progress": progress(counts, status.elapsed_seconds, status.total),
        "counts": {
            "source": counts.source,
            "read": counts.read,
            "delivered": {kind: of_kind.delivered for kind, of_kind in counts.kinds.items()},
            "dead_lettered": counts.dead_lettered,
            "skipped": counts.skipped,
            "returned": counts.returned,
            "requests": counts.requests,
            "request_errors": counts.request_errors,
            "retries": counts.retries,
            "throttled": counts.throttled,
            "ambiguous": counts.ambiguous,
            "last_delivery_at": counts.last_delivery_at,
        },
    }


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
