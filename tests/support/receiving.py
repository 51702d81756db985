"""What a test does with a source whose broker is real: it receives, and settles."""

import asyncio

import pytest

from permutive_worker.errors import ConfigurationError, UnreachableError
from permutive_worker.model import Settlement


async def receive(source, count, max_bytes=10_000):
    """Receive until there are at least so many."""
    received = []
    async with asyncio.timeout(40):
        while len(received) < count:
            received += await source.receive(max_bytes)
    return received


def settle(source, deliveries, settlement=Settlement.ACK):
    source.settle([(delivery, settlement) for delivery in deliveries])


async def refusal_of(source):
    """Return the sentence with which it does not open."""
    with pytest.raises((ConfigurationError, UnreachableError)) as raised:
        await source.open()
    await source.close()
    return str(raised.value)
