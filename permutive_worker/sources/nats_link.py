"""A connection to NATS, and what its errors mean to us."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from nats import errors
from nats.aio.client import Client
from nats.js.errors import APIError, ServiceUnavailableError

from permutive_worker.errors import ConfigurationError, LinkError, UnreachableError
from permutive_worker.sources.address import Address
from permutive_worker.sources.tls import is_distrust, trusting

ANSWER_SECONDS: Final = 5.0  # no call waits longer for the server
CLOSE_SECONDS: Final = 2.0  # on uvloop nats-py waits for ever for the end of a connection whose TLS failed
PING_SECONDS: Final = 5  # two without an answer: a dead network is noticed within 15 s


class NoTlsError(errors.Error):
    """The server has no TLS, and was asked for it."""


class NatsLink:
    """One connection. It never connects again by itself: the source's link does.

    Attributes:
        client: the nats-py client.
        news: set when the connection closed; who waits for messages sets it too.
    """

    def __init__(self, address: Address, ca: str) -> None:
        """`ca` is the path of the certificates to trust instead of the system's; address is `nats://` or `tls://`.

        Raises:
            ConfigurationError: `ca` cannot be used.
        """
        self.client = Client()
        self.news = asyncio.Event()
        self.trouble: Exception | None = None  # the last thing the server complained of
        self._address = address
        self._context = trusting(address.where, ca) if address.scheme == "tls" or ca else None
        self._begun = False

    @property
    def is_closed(self) -> bool:
        return self.client.is_closed

    async def open(self) -> None:
        """Connect. Raises what nats-py raises: see `connecting`."""
        self._begun = True  # a client that was never connected cannot be closed
        address = self._address
        host = f"[{address.host}]" if ":" in address.host else address.host or "localhost"
        await self.client.connect(
            f"{address.scheme}://{host}:{address.port or 4222}",
            name="permutive-worker",
            allow_reconnect=False,
            max_reconnect_attempts=1,  # of the first connect: 0 would be for ever
            reconnect_time_wait=0,
            connect_timeout=4,
            ping_interval=PING_SECONDS,
            max_outstanding_pings=2,
            error_cb=self._on_trouble,
            closed_cb=self._on_closed,
            **self._credentials(),
            **self._tls(),
        )
        self._over_tls("")

    def _credentials(self) -> dict[str, Any]:
        """User and password; one alone is a token, as in all clients of NATS."""
        user, password = self._address.user, self._address.password
        if user and password:
            return {"user": lambda: self._over_tls(user), "password": password}
        token = user or password
        return {"token": lambda: self._over_tls(token)} if token else {}

    def _over_tls(self, secret: str) -> str:
        """Asked for just before it is sent: nats-py speaks plain text to a server that says it has no TLS."""
        if self._address.scheme == "tls" and not self._is_encrypted:
            raise NoTlsError
        return secret

    @property
    def _is_encrypted(self) -> bool:
        told: dict[str, Any] = getattr(self.client, "_server_info", {})  # there is no public word of it
        return bool(told.get("tls_required"))

    def _tls(self) -> dict[str, Any]:
        if self._context is None:
            return {}
        return {
            "tls": self._context,
            "tls_hostname": self._address.host,
        }

    async def close(self) -> None:
        """Flush and close. Never raises."""
        if not self._begun:
            return
        with suppress(errors.Error, OSError, TimeoutError, ValueError):
            if self.client.is_connected:
                await self.client.flush(timeout=1)
        with suppress(errors.Error, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.client.close()

    async def _on_trouble(self, error: Exception) -> None:
        self.trouble = error

    async def _on_closed(self) -> None:
        self.news.set()


@contextmanager
def connecting(where: str, link: NatsLink) -> Iterator[None]:
    """Turn what nats-py raises while connecting into our errors."""
    try:
        yield
    except NoTlsError:
        raise ConfigurationError(f"{where}: the server has no TLS: the URL may be nats://…") from None
    except (errors.NoRespondersError, ServiceUnavailableError):
        raise UnreachableError(f"{where} has no JetStream now: is it on (-js)?") from None
    except APIError as error:
        raise ConfigurationError(f"{where} refuses: {_words(error)}") from None
    except (errors.Error, OSError, TimeoutError) as error:
        if "authorization" in str(error).lower():
            raise ConfigurationError(
                f"{where} refuses user or password: check PERMUTIVE_WORKER_SOURCE__PASSWORD"
            ) from None
        if "permissions violation" in str(link.trouble).lower():
            raise ConfigurationError(f"{where}: the user has no permission for this stream") from None
        if is_distrust(error) or is_distrust(link.trouble):
            raise ConfigurationError(f"{where}: its certificate is not trusted: add ?ca=FILE") from None
        raise UnreachableError(f"{where} cannot be reached: {_reason(link.trouble or error)}") from None


@contextmanager
def running(where: str) -> Iterator[None]:
    """Turn what nats-py raises on a link that was there into LinkError."""
    try:
        yield
    except (errors.Error, OSError, TimeoutError) as error:
        raise LinkError(f"{where}: {_reason(error)}") from None


def _words(error: APIError) -> str:
    """What the server says of a stream or consumer; it knows of no user there."""
    return error.description or f"error {error.err_code or error.code}"


def _reason(error: Exception) -> str:
    code = getattr(error, "errno", None)
    return os.strerror(code) if code else type(error).__name__
