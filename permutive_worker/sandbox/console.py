"""The sandbox's own paths, `/_sandbox/…`: to read its ledger and to change its mind while it runs.

    GET  /_sandbox/ledger                        the sums, as JSON
    GET  /_sandbox/ledger/entries?offset=&limit= entry by entry, NDJSON; 1,000 unless asked otherwise
    GET  /_sandbox/ledger/arrivals               [[at, status], …], `at` in monotonic seconds
    POST /_sandbox/reset                         forget everything received
    POST /_sandbox/faults                        {"faults": "PROFILE"}
    POST /_sandbox/limit                         {"rate_limit": 500, "burst": 50}; 0 lifts it, no burst: 1/10
    POST /_sandbox/keys                          {"api_keys": ["…"]}; [] refuses every key, null accepts any

They need no key, are never entered in the ledger, and no fault or limit touches them.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
import orjson
from msgspec import Struct

from permutive_worker.sandbox.answers import NDJSON, Answer, ok
from permutive_worker.sandbox.imitation import Imitation
from permutive_worker.sandbox.routes import parse_query

PREFIX: Final = "/_sandbox/"

T = TypeVar("T")


class _Faults(Struct, forbid_unknown_fields=True):
    faults: str


class _Limit(Struct, forbid_unknown_fields=True):
    rate_limit: float
    burst: float | None = None


class _Keys(Struct, forbid_unknown_fields=True):
    api_keys: list[str] | None


class Console:
    """Answers the sandbox's own paths, over one imitation."""

    def __init__(self, imitation: Imitation) -> None:
        self._imitation = imitation
        self._actions: Mapping[tuple[str, str], Callable[[Mapping[str, str], bytes], Answer]] = {
            ("GET", "ledger"): self._summary,
            ("GET", "ledger/entries"): self._entries,
            ("GET", "ledger/arrivals"): self._arrivals,
            ("POST", "reset"): self._reset,
            ("POST", "faults"): self._set_faults,
            ("POST", "limit"): self._set_limit,
            ("POST", "keys"): self._set_keys,
        }

    def receive(self, method: str, target: str, body: bytes) -> Answer:
        """Carry out one request to a path that starts with `PREFIX`."""
        path, _, query = target.removeprefix(PREFIX).partition("?")
        action = self._actions.get((method, path))
        if action is None:
            return ok({"error": f"The sandbox has no {method} {PREFIX}{path}."}, status=404)
        try:
            return action(parse_query(query), body)
        except ValueError as error:  # of a profile, a number, a body: msgspec's and ours are all of this kind
            return ok({"error": str(error)}, status=400)

    def summary(self) -> dict[str, Any]:
        """Return the sums of the ledger, and how many users and aliases are known."""
        identities = self._imitation.people.identities
        return self._imitation.ledger.summary() | {
            "users": len(identities.users),
            "aliases": identities.alias_count,
        }

    def _summary(self, _query: Mapping[str, str], _body: bytes) -> Answer:
        return ok(self.summary())

    def _entries(self, query: Mapping[str, str], _body: bytes) -> Answer:
        offset, limit = int(query.get("offset", "0")), int(query.get("limit", "1000"))
        if offset < 0 or limit < 0:
            raise ValueError("offset and limit must be 0 or more")
        lines = (orjson.dumps(entry) + b"\n" for entry in self._imitation.ledger.entries(offset, limit))
        return Answer(200, b"".join(lines), NDJSON)

    def _arrivals(self, _query: Mapping[str, str], _body: bytes) -> Answer:
        return ok(self._imitation.ledger.arrivals())

    def _reset(self, _query: Mapping[str, str], _body: bytes) -> Answer:
        self._imitation.reset()
        return self._done()

    def _set_faults(self, _query: Mapping[str, str], body: bytes) -> Answer:
        self._imitation.set_faults(_decoded(body, _Faults).faults)
        return self._done()

    def _set_limit(self, _query: Mapping[str, str], body: bytes) -> Answer:
        limit = _decoded(body, _Limit)
        self._imitation.set_limit(limit.rate_limit, limit.burst)
        return self._done()

    def _set_keys(self, _query: Mapping[str, str], body: bytes) -> Answer:
        self._imitation.set_keys(_decoded(body, _Keys).api_keys)
        return self._done()

    def _done(self) -> Answer:
        return ok({"done": True})


def _decoded(body: bytes, shape: type[T]) -> T:
    return msgspec.json.decode(body, type=shape)
