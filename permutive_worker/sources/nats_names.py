"""What the URL of a JetStream consumer names. Pure."""

from collections.abc import Mapping
from typing import Final

from permutive_worker.errors import ConfigurationError
from permutive_worker.sources.address import Address

PARAMETERS: Final[Mapping[str, str | None]] = {"subject": "", "ack_wait": "30", "ca": ""}


def read_names(address: Address, *, consumer_needed: bool) -> tuple[str, str]:
    """Return stream and consumer of `nats://host:4222/STREAM/CONSUMER`, the latter "" if it may be absent.

    Raises:
        ConfigurationError: one is missing, or is no name of NATS.
    """
    names = address.segments()
    if not consumer_needed and len(names) == 1:
        names.append("")
    if len(names) != 2 or not names[0] or any(set(name) & set(" .*>\t\r\n\\") for name in names):
        form = f"{address.scheme}://HOST:4222/STREAM/CONSUMER"
        raise ConfigurationError(
            f"{address.where}: the URL must be {form}, names without dots, stars and spaces"
        )
    return names[0], names[1]
