"""The client: where it sends, with which key, and its resources."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

import aiohttp
import msgspec

from permutive_worker.control.pace import Pace
from permutive_worker.credentials import WORKSPACES, Keyring, load_keyring
from permutive_worker.errors import ConfigurationError
from permutive_worker.http.address import base_url_fault, proxy_from_environment, proxy_url
from permutive_worker.http.gate import Gate
from permutive_worker.http.plain import MAX_BODY_BYTES
from permutive_worker.limits.local import LocalLimiter
from permutive_worker.permutive.call import DEFAULT_BASE_URL, ELSEWHERE, PREFIXES, Api
from permutive_worker.permutive.caller import Caller
from permutive_worker.permutive.cohorts import Cohorts
from permutive_worker.permutive.context import Context
from permutive_worker.permutive.events import Events
from permutive_worker.permutive.imports import Imports
from permutive_worker.permutive.models import Alias, Event, Membership
from permutive_worker.permutive.options import Options, check_count, check_fields, check_rate
from permutive_worker.permutive.pool import Pool
from permutive_worker.permutive.segmentation import Segmentation
from permutive_worker.permutive.segments import Segments
from permutive_worker.permutive.users import Users
from permutive_worker.permutive.workspaces import Workspace, Workspaces
from permutive_worker.ports import Clock, SystemClock, Wire


class PermutiveClient:
    """The Permutive API, call by call.

    Use it as `async with PermutiveClient() as permutive:`, in one event loop. Calls wait at one gate for each
    set of credentials, so a thousand of them may be started at once.

    Attributes:
        users, cohorts, imports, segments, segmentation, events, context: the resources.
        workspaces: what the credentials say of them.
        keyring: the credentials.
        gates: one for each workspace, by name; a worker takes them with `deliver(jobs, client=…)`.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        credentials: Keyring | str | os.PathLike[str] | None = None,
        workspace: str | None = None,
        base_url: str | None = None,
        base_urls: Mapping[Api, str] | None = None,
        allow_http: bool = False,
        timeout: float = 10.0,
        max_attempts: int = 3,
        max_retry_after: float = 60.0,
        max_in_flight: int = 32,
        rate_per_second: float = 0.0,
        proxy: str | None = None,
        headers: Mapping[str, str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        session: aiohttp.ClientSession | None = None,
        gates: Mapping[str, Gate] | None = None,
        wire: Wire | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Prepare a client; nothing is opened before the first call.

        Args:
            api_key: instead of the key the environment names.
            credentials: instead of it: a Keyring, or the path of a workspace JSON.
            workspace: whose key to use, by name or workspace_id, where there are several.
            base_url: of all the APIs; https://api.permutive.app, and the context API where it is.
            base_urls: of single ones: identity, events, ccs, cohorts, taxonomy, context.
            allow_http: allow plain http to another machine than this, where others can read the key.
            timeout: seconds for one attempt.
            max_attempts: requests for one call at most, the first included; only what is safe is repeated.
            max_retry_after: seconds a call waits if the API asks for it, or does not answer; longer, and it raises.
            max_in_flight: requests under way at most, for each workspace.
            rate_per_second: of requests, for each workspace; 0: find the API's limit.
            proxy: instead of what the environment says.
            headers: sent with every request, in place of ours of the same name.
            ca_file: certificates (PEM) to trust beside the system's.
            session: your own; it is not closed. aiohttp lets it send a GET or DELETE again if its connection breaks.
            gates: by name of the workspace, such as another client's or a worker's, to share them.
            wire: instead of HTTP, for tests.
            clock: for tests.

        Raises:
            ConfigurationError, CredentialsError: one sentence that says what to do.
        """
        keyring = _keyring(api_key, credentials)
        options = Options(timeout, max_attempts, None, max_retry_after)
        check_count("max_in_flight", max_in_flight)
        check_rate(rate_per_second)
        check_fields(headers or {})
        given = gates or {}
        urls = _base_urls(base_url, base_urls or {}, allow_http=allow_http)
        pool = Pool(
            keyring,
            urls,
            {key.name: given.get(key.name) or _gate(max_in_flight, rate_per_second) for key in keyring},
            clock or SystemClock(),
            max_in_flight=max_in_flight,
            session=session,
            wire=wire,
            proxies={url: _proxy(proxy, url) for url in urls.values()} if wire is None else {},
            headers=headers,
            ca_file=os.fspath(ca_file) if ca_file is not None else None,
        )
        self._use(Caller(pool, keyring.default(workspace), options))

    def _use(self, caller: Caller) -> None:
        self._caller = caller
        self.users = Users(caller)
        self.cohorts = Cohorts(caller)
        self.imports = Imports(caller)
        self.segments = Segments(caller)
        self.segmentation = Segmentation(caller)
        self.events = Events(caller)
        self.context = Context(caller)
        self.workspaces = Workspaces(caller.pool.keyring)

    def __repr__(self) -> str:
        return f"<PermutiveClient {self._caller.credentials!r} at {self._caller.pool.base_urls['identity']}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections it opened, also those of clients made of it. May be called twice.

        Calls that are under way fail. A call after it opens connections anew.
        """
        await self._caller.pool.close()

    @property
    def keyring(self) -> Keyring:
        return self._caller.pool.keyring

    @property
    def gates(self) -> Mapping[str, Gate]:
        return self._caller.pool.gates

    @property
    def workspace(self) -> Workspace:
        """The one whose key this client uses."""
        return self.workspaces.get(self._caller.credentials.name)

    @property
    def timeout(self) -> float:
        """Seconds for one attempt."""
        return self._caller.options.timeout_seconds

    @property
    def base_url(self) -> str:
        """Where identify and users are."""
        return self._caller.pool.base_urls["identity"]

    def wires(self) -> dict[str, Wire]:
        """A wire for jobs of each workspace, by name, on the connections of this client. In a running loop only."""
        pool = self._caller.pool
        return {key.name: pool.wire(key, self.timeout, MAX_BODY_BYTES) for key in pool.keyring}

    def with_options(
        self,
        *,
        timeout: float | None = None,
        max_attempts: int | None = None,
        idempotent: bool | None = None,
        max_retry_after: float | None = None,
    ) -> "PermutiveClient":
        """Return a client with other options for its calls, on the same connections and gates.

        Args:
            timeout: seconds for one attempt.
            max_attempts: requests for one call at most, the first included.
            idempotent: True: repeat also what the API may have done already; False: never repeat that, not
                even what is safe.
            max_retry_after: seconds a call waits if the API asks for it.

        Raises:
            ConfigurationError: as for a new client.
        """
        old = self._caller.options
        options = msgspec.structs.replace(
            old,
            timeout_seconds=old.timeout_seconds if timeout is None else timeout,
            max_attempts=old.max_attempts if max_attempts is None else max_attempts,
            idempotent=old.idempotent if idempotent is None else idempotent,
            longest_wait_seconds=old.longest_wait_seconds if max_retry_after is None else max_retry_after,
        )
        return self._with(Caller(self._caller.pool, self._caller.credentials, options))

    def in_workspace(self, name_or_workspace_id: str) -> "PermutiveClient":
        """Return a client with the key of another workspace, on the same connections.

        Raises:
            CredentialsError: listing the names there are.
        """
        credentials = self.keyring.default(name_or_workspace_id)
        return self._with(Caller(self._caller.pool, credentials, self._caller.options))

    def _with(self, caller: Caller) -> "PermutiveClient":
        client = object.__new__(PermutiveClient)
        client._use(caller)
        return client

    async def identify(self, user_id: str, aliases: Iterable[Alias]) -> str:
        """Do as `users.identify`: return the user the API resolved the aliases to."""
        return await self.users.identify(user_id, aliases)

    async def segment(
        self,
        user_id: str | None = None,
        *,
        events: Iterable[Event],
        alias: Alias | None = None,
        aliases: Iterable[Alias] | None = None,
        activations: bool = False,
        synchronous_validation: bool = False,
    ) -> Membership:
        """Do as `segmentation.send`: return the user's cohorts after these events."""
        return await self.segmentation.send(
            user_id,
            events=events,
            alias=alias,
            aliases=aliases,
            activations=activations,
            synchronous_validation=synchronous_validation,
        )


def _keyring(api_key: str | None, credentials: Keyring | str | os.PathLike[str] | None) -> Keyring:
    if api_key is not None and credentials is not None:
        raise ConfigurationError("Give api_key or credentials, not both")
    if api_key is not None:
        return Keyring.of_key(api_key)
    if isinstance(credentials, Keyring):
        return credentials
    if credentials is not None:
        return load_keyring({WORKSPACES: str(Path(credentials))})
    return load_keyring(os.environ)


def _base_urls(base_url: str | None, single: Mapping[Api, str], *, allow_http: bool) -> dict[Api, str]:
    known = frozenset(PREFIXES.values())
    if unknown := sorted(set(single) - known):
        raise ConfigurationError(f"base_urls: unknown API {unknown[0]!r}; known: {', '.join(sorted(known))}")
    others = ELSEWHERE if base_url is None else {}
    urls = {api: single.get(api) or others.get(api) or base_url or DEFAULT_BASE_URL for api in known}
    for url in urls.values():
        if fault := base_url_fault(url, allow_http=allow_http):
            raise ConfigurationError(f"base_url {fault}".replace("http.allow_http = true", "allow_http=True"))
    return urls


def _gate(max_in_flight: int, rate_per_second: float) -> Gate:
    if not rate_per_second:
        return Gate(max_in_flight)
    return Gate(max_in_flight, LocalLimiter(rate_per_second), Pace(rate_per_second))


def _proxy(given: str | None, base_url: str) -> str | None:
    if given:
        return proxy_url("proxy", given)
    return proxy_from_environment(base_url, os.environ)
