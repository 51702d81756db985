"""How SQS is reached, and what the errors of its library mean to us."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore import exceptions

from permutive_worker.errors import ConfigurationError, LinkError, UnreachableError
from permutive_worker.sources.address import Address

PARAMETERS: Final[Mapping[str, str | None]] = {"region": "", "endpoint": "", "visibility": "120"}
BATCH_COUNT: Final = 10  # SQS takes no more in one call
PARALLEL: Final = 8  # calls at the same time
MISSING: Final = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")
OVER_LIMIT: Final = ("OverLimit", "AWS.SimpleQueueService.OverLimit")
_DENIED: Final = ("AccessDenied", "AccessDeniedException", "KMS.AccessDeniedException")
_KEYS: Final = (
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "InvalidAccessKeyId",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidSecurity",
    "AuthFailure",
)
_NO_KEYS: Final = (
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.CredentialRetrievalError,
    exceptions.ProfileNotFound,
)

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueName:
    """Which queue a URL means: `sqs://NAME?region=…`, or the whole URL that AWS shows.

    Attributes:
        name: of the queue.
        url: AWS's own; None if only the name is known.
        region: None: as the environment says.
        is_fifo: the queue keeps order within groups.
    """

    def __init__(self, address: Address, region: str) -> None:
        """Raises ConfigurationError."""
        self.url: str | None = None
        segments = address.segments()
        if address.user or address.password_in_url:
            raise ConfigurationError(
                f"sqs://{address.host} needs no user in its URL: keys come from AWS_ACCESS_KEY_ID and the like"
            )
        if len(segments) == 2:
            self.name, self.url = segments[1], f"https://{address.authority}/{address.path}"
            region = region or _region(address.host)
        elif not segments and address.authority and address.scheme == "sqs":
            self.name = address.authority
        else:
            raise ConfigurationError(
                f"{address.where} is no queue of SQS: write sqs://NAME?region=… or the whole URL of the queue"
            )
        self.region: str | None = region or None
        self.is_fifo = self.name.endswith(".fifo")

    @property
    def where(self) -> str:
        return f"sqs://{self.name}"


def _region(host: str) -> str:
    """Of `sqs.eu-west-1.amazonaws.com`, or the older `eu-west-1.queue.amazonaws.com`."""
    first, _, rest = host.partition(".")
    if first == "sqs":
        return rest.partition(".")[0]
    return first if rest.startswith("queue.") else ""


def client_of(queue: QueueName, endpoint: str) -> Any:
    """Return a context manager of an SQS client; keys are found as all programs for AWS find them."""
    config = AioConfig(
        connect_timeout=4,
        read_timeout=6,  # a long poll takes one
        max_pool_connections=2 * PARALLEL,
        retries={"mode": "standard", "max_attempts": 2},
    )
    return get_session().create_client(
        "sqs", region_name=queue.region, endpoint_url=endpoint or None, config=config
    )


async def queue_url(client: Any, queue: QueueName, *, create: bool) -> str:
    """Return the URL of a queue that is there, or was made. Raises what the library raises."""
    if queue.url is not None and not create:
        return queue.url
    try:
        return str((await client.get_queue_url(QueueName=queue.name))["QueueUrl"])
    except exceptions.ClientError as error:
        if code_of(error) not in MISSING or not create:
            raise
    attributes = {"FifoQueue": "true"} if queue.is_fifo else {}
    return str((await client.create_queue(QueueName=queue.name, Attributes=attributes))["QueueUrl"])


@contextmanager
def connecting(where: str) -> Iterator[None]:
    """Turn what the library raises while connecting into our errors."""
    try:
        yield
    except exceptions.NoRegionError:
        raise ConfigurationError(f"{where} needs a region: add ?region=… to the URL") from None
    except _NO_KEYS:
        raise ConfigurationError(
            f"{where}: no keys for AWS were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from None
    except exceptions.ClientError as error:
        raise _refused(where, code_of(error)) from None
    except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:
        raise UnreachableError(f"{where} cannot be reached: {type(error).__name__}") from None
    except (exceptions.BotoCoreError, ValueError) as error:
        raise ConfigurationError(f"{where}: check ?region= and ?endpoint= ({type(error).__name__})") from None


def _refused(where: str, code: str) -> ConfigurationError | UnreachableError:
    if code in MISSING:
        return ConfigurationError(f"{where} is not there: check name and region, or make it with --create")
    if code in _DENIED:
        return ConfigurationError(f"{where}: these keys for AWS have no permission for this queue")
    if code in _KEYS:
        return ConfigurationError(f"{where}: AWS refuses these keys ({code})")
    return UnreachableError(f"{where} answers {code}")


@contextmanager
def running(where: str) -> Iterator[None]:
    """Turn what the library raises on a link that was there into LinkError."""
    try:
        yield
    except exceptions.ClientError as error:
        raise LinkError(f"{where} answers {code_of(error)}") from None
    except exceptions.BotoCoreError as error:
        raise LinkError(f"{where}: {type(error).__name__}") from None


def code_of(error: exceptions.ClientError) -> str:
    """What kind of error it is; the rest of its text may hold what we sent."""
    return str(error.response.get("Error", {}).get("Code", "an error"))[:80]


async def in_batches(
    items: Sequence[Item], call: Callable[[Sequence[Item]], Coroutine[Any, Any, Result]]
) -> list[Result]:
    """Call for BATCH_COUNT items at a time, PARALLEL calls at once, to the end of all; raise the first error."""
    batches = [items[begin : begin + BATCH_COUNT] for begin in range(0, len(items), BATCH_COUNT)]
    results: list[Result] = []
    for begin in range(0, len(batches), PARALLEL):
        calls = (call(batch) for batch in batches[begin : begin + PARALLEL])
        for result in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
            results.append(result)
    return results
