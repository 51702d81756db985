"""A connection to Redis, and what its errors mean to us."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from permutive_worker.errors import ConfigurationError, LinkError, UnreachableError
from permutive_worker.sources.address import VARIABLE, Address
from permutive_worker.sources.tls import is_distrust, trusting

# Longer than any call blocks. (redis-py 8 has 5 s by itself, others none: a dead network must be noticed.)
SOCKET_SECONDS: Final = 10.0


def client_of(address: Address, ca: str = "", socket_seconds: float = SOCKET_SECONDS) -> Any:
    """Return a redis.asyncio.Redis; nothing is connected yet. It never retries by itself: the link does.

    Any, because the types of redis-py say less than its code and change from version to version.

    Args:
        address: `redis://` or `rediss://` (TLS), the path being the number of the database.
        ca: path of the certificates that are trusted instead of the system's.
        socket_seconds: how long a call may take.

    Raises:
        ConfigurationError: the path is no number, or `ca` cannot be used.
    """
    if address.path and not address.path.isdecimal():
        raise ConfigurationError(f"{address.where}: the path must be the number of a database, such as /0")
    tls: dict[str, Any] = {}
    if address.scheme == "rediss":
        trusting(address.where, ca)  # redis-py makes a context of its own, at each connect
        tls = {"ssl": True, "ssl_ca_certs": ca or None}
    return Redis(
        host=address.host or "localhost",
        port=address.port or 6379,
        db=int(address.path or 0),
        username=address.user,
        password=address.password,
        protocol=2,  # with 3 replies have another shape
        socket_timeout=socket_seconds,
        socket_connect_timeout=socket_seconds,
        retry=Retry(NoBackoff(), 0),
        **tls,
    )


@contextmanager
def connecting(where: str, password_variable: str = VARIABLE) -> Iterator[None]:
    """Turn what redis-py raises while connecting into our errors."""
    try:
        yield
    except (exceptions.AuthenticationError, exceptions.AuthorizationError):
        raise ConfigurationError(f"{where} refuses user or password: check {password_variable}") from None
    except exceptions.NoPermissionError:
        raise ConfigurationError(f"{where}: the user has no permission for what is needed") from None
    except exceptions.BusyLoadingError:
        raise UnreachableError(f"{where} is loading its data") from None
    except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
        if is_distrust(error):
            raise ConfigurationError(f"{where}: its certificate is not trusted: add ?ca=FILE") from None
        raise UnreachableError(f"{where} cannot be reached: {_reason(error)}") from None
    except exceptions.RedisError as error:
        raise ConfigurationError(f"{where} refuses: {_code(error)}") from None


@contextmanager
def running(where: str) -> Iterator[None]:
    """Turn what redis-py raises on a link that was there into LinkError."""
    try:
        yield
    except (exceptions.RedisError, OSError) as error:
        answered = isinstance(error, exceptions.ResponseError)
        raise LinkError(f"{where}: {_code(error) if answered else _reason(error)}") from None


def _code(error: Exception) -> str:
    """The kind of an error Redis answered; the rest of its text may hold what we sent."""
    word = str(error).partition(" ")[0]
    return word if word.isupper() else type(error).__name__


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error.__context__ or error
    return getattr(cause, "strerror", None) or type(cause).__name__
