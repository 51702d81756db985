"""The two wires, made alike, for the contract both pass."""

import ssl
from contextlib import asynccontextmanager

from permutive_worker.credentials import Keyring
from permutive_worker.http.lean import LeanWire
from permutive_worker.http.plain import PlainWire, open_session
from permutive_worker.model import Request

KEY = "f9975143-2d88-46dc-9247-1fb6c790e1cc"
WIRES = {"plain": PlainWire, "lean": LeanWire}


@asynccontextmanager
async def wire_to(
    kind: str,
    url: str,
    *,
    timeout_seconds: float = 5.0,
    proxy: str | None = None,
    tls: ssl.SSLContext | None = None,
    credentials=None,
    connections: int = 8,
):
    (known,) = Keyring.of_key(KEY)
    async with open_session(connections, timeout_seconds, tls) as session:
        wire = WIRES[kind](session, url, credentials or known, timeout_seconds=timeout_seconds, proxy=proxy)
        try:
            yield wire
        finally:
            if isinstance(wire, LeanWire):
                wire.close()


def post(path: str = "/v2.0/identify", body: bytes = b'{"user_id":"u"}', **options) -> Request:
    return Request("POST", path, body, "identify", **options)
