"""What clients share: the session, the wires on it, and one gate for each set of credentials.

Clients that were made of one another (`with_options`, `in_workspace`) share a pool.
"""

from collections.abc import Mapping
from typing import Final

import aiohttp

from permutive_worker.credentials import Credentials, Keyring
from permutive_worker.http.gate import Gate
from permutive_worker.http.plain import PlainWire, open_session
from permutive_worker.http.tls import trusting
from permutive_worker.model import Request, Response
from permutive_worker.permutive.call import Api, api_of
from permutive_worker.permutive.turnstile import Turnstile
from permutive_worker.ports import Clock, Wire

# A workspace's whole list of cohorts comes in one answer: ten thousand of them are 4 MB.
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024


class Pool:
    """Opened by the first call, closed by whoever made it. It closes only what it opened."""

    def __init__(
        self,
        keyring: Keyring,
        base_urls: Mapping[Api, str],
        gates: Mapping[str, Gate],
        clock: Clock,
        *,
        max_in_flight: int,
        session: aiohttp.ClientSession | None = None,
        wire: Wire | None = None,
        proxies: Mapping[str, str | None],
        headers: Mapping[str, str] | None = None,
        ca_file: str | None = None,
    ) -> None:
        """`gates` has one for each workspace, `proxies` one for each base URL; `wire` is used instead of HTTP."""
        self.keyring = keyring
        self.base_urls = base_urls
        self.clock = clock
        self.gates = gates
        self._max_connections = max_in_flight * len(keyring)
        self._session = session
        self._owned: aiohttp.ClientSession | None = None
        self._wire = wire
        self._proxies = proxies
        self._headers = headers
        self._tls = trusting(ca_file) if ca_file is not None else None
        self._wires: dict[tuple[str, float, int], Wire] = {}
        self._turnstiles: dict[str, Turnstile] = {}

    def __repr__(self) -> str:
        return f"<Pool {self.keyring!r} {self.gates!r}>"

    def turnstile(self, credentials: Credentials) -> Turnstile:
        name = credentials.name
        if name not in self._turnstiles:
            self._turnstiles[name] = Turnstile(self.gates[name], self.clock.monotonic)
        return self._turnstiles[name]

    def wire(
        self, credentials: Credentials, timeout_seconds: float, max_body_bytes: int = MAX_ANSWER_BYTES
    ) -> Wire:
        """Return the wire of one workspace. Must be called in a running loop."""
        if self._wire is not None:
            return self._wire
        place = credentials.name, timeout_seconds, max_body_bytes
        if place not in self._wires:
            self._wires[place] = self._new_wire(credentials, timeout_seconds, max_body_bytes)
        return self._wires[place]

    def _new_wire(self, credentials: Credentials, timeout_seconds: float, max_body_bytes: int) -> Wire:
        session = self._session or self._own_session(timeout_seconds)

        def plain(base_url: str) -> Wire:
            return PlainWire(
                session,
                base_url,
                credentials,
                timeout_seconds=timeout_seconds,
                proxy=self._proxies[base_url],
                headers=self._headers,
                max_body_bytes=max_body_bytes,
            )

        by_url = {base_url: plain(base_url) for base_url in set(self.base_urls.values())}
        return _SplitWire({api: by_url[base_url] for api, base_url in self.base_urls.items()})

    def _own_session(self, timeout_seconds: float) -> aiohttp.ClientSession:
        if self._owned is None or self._owned.closed:
            self._owned = open_session(self._max_connections, timeout_seconds, self._tls)
        return self._owned

    async def close(self) -> None:
        """Close the session if it is ours, and leave the gates: calls that wait there fail. May be called twice."""
        for turnstile in self._turnstiles.values():
            turnstile.close()
        self._turnstiles.clear()
        self._wires.clear()
        if self._owned is not None:
            await self._owned.close()
            self._owned = None


class _SplitWire:
    """A ports.Wire that takes each request to where its API is."""

    def __init__(self, wires: Mapping[Api, Wire]) -> None:
        self._wires = wires

    async def send(self, request: Request) -> Response:
        return await self._wires[api_of(request.path)].send(request)
