"""The imitation itself: one request in, one answer and perhaps a fault out. Pure; `app` puts it on a socket.

The order in which a request is looked at, each with its reason:
1. the path: nothing else is known before it is;
2. the key: a gateway asks who it is before it counts;
3. the rate limit: a refusal here costs the API nothing, and it is what is meant to be tested;
4. the fault: what would go wrong behind the gateway;
5. the request itself: validated as strictly as Permutive's documents say, then carried out.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import msgspec

from permutive_worker.sandbox import answers
from permutive_worker.sandbox.answers import Answer, Refusal
from permutive_worker.sandbox.cohorts import Cohorts
from permutive_worker.sandbox.faults import HANG, NOTHING, RESET, Fault, Faults, parse_profile
from permutive_worker.sandbox.ledger import Ledger
from permutive_worker.sandbox.options import SandboxOptions
from permutive_worker.sandbox.paths import build_routes
from permutive_worker.sandbox.people import People
from permutive_worker.sandbox.quota import TokenBucket
from permutive_worker.sandbox.routes import Call, Endpoint, parse_query
from permutive_worker.sandbox.state import Ids
from permutive_worker.sandbox.taxonomy import Taxonomy

_INJECTED: Final = "Injected by the sandbox."
_FAULT_CODES: Final[Mapping[int, int]] = {
    HTTPStatus.UNAUTHORIZED: answers.INVALID_KEY,
    HTTPStatus.FORBIDDEN: answers.FORBIDDEN,
    HTTPStatus.NOT_FOUND: answers.NOT_FOUND,
    HTTPStatus.CONFLICT: answers.ALREADY_EXISTS,
    HTTPStatus.TOO_MANY_REQUESTS: answers.TOO_MANY,
}


class Exchange(msgspec.Struct, frozen=True):
    """What came of one request: the answer, and what goes wrong with giving it."""

    kind: str
    answer: Answer
    fault: Fault
    taken: bool


class Imitation:
    """The whole API with its memory, its limits, its faults and its ledger.

    Args:
        wall_clock: gives the time that answers are stamped with.

    """

    def __init__(
        self, options: SandboxOptions, wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._options = options
        self._wall_clock = wall_clock
        self.reset()

    def reset(self) -> None:
        """Forget everything that was received; limits, faults and keys stay and start anew."""
        options = self._options
        ids = Ids(options.seed)
        self.ledger = Ledger(options.ledger_limit, keep_bodies=options.keep_bodies)
        self.people = People(ids, self._wall_clock, strict_ids=options.strict_ids)
        self._ids = ids
        cohorts = Cohorts(ids, self._wall_clock)
        self._routes = build_routes(self.people, cohorts, Taxonomy(ids, self._wall_clock, options.page_size))
        self._faults = Faults(parse_profile(options.faults), options.seed)
        self._quota = TokenBucket(options.rate_limit_per_second, options.burst)

    def set_faults(self, profile: str) -> None:
        """Change what goes wrong from now on (`faults.ProfileError` if that is no profile)."""
        self._options = replace(self._options, faults=profile)
        self._faults = Faults(parse_profile(profile), self._options.seed)

    def set_limit(self, rate_per_second: float, burst: float | None = None) -> None:
        """Change the rate limit from now on; 0 lifts it."""
        self._options = replace(self._options, rate_limit_per_second=rate_per_second, burst=burst)
        self._quota = TokenBucket(rate_per_second, burst)

    def set_keys(self, api_keys: Iterable[str] | None) -> None:
        """Change which keys are valid from now on: none of them for an empty collection, any for `None`."""
        self._options = replace(self._options, api_keys=None if api_keys is None else frozenset(api_keys))

    def receive(self, method: str, target: str, header_key: str | None, body: bytes, now: float) -> Exchange:
        """Take one request and enter it in the ledger.

        Args:
            method: in capitals.
            target: path and query as they stand in the request line.
            header_key: what `X-API-Key` holds, if it is there; else the query's `k` counts.
            body: as it was sent; empty if none was.
            now: monotonic seconds.

        """
        path, _, query_text = target.partition("?")
        endpoint, parameters = self._routes.find(method, path)
        query = parse_query(query_text)
        fault = NOTHING
        try:
            self._admit(endpoint, header_key or query.get("k"), now)
            first_at = now if self.ledger.first_at is None else self.ledger.first_at
            fault = self._faults.decide(self.ledger.requests + 1, now - first_at, endpoint.kind, body)
            answer = self._answer(endpoint, Call(parameters, query, body), fault)
            taken = endpoint.writes and fault.processed
        except Refusal as refusal:
            answer, taken = endpoint.dialect.refuse(refusal, self._ids.new()), False
        exchange = Exchange(endpoint.kind, answer, fault, taken)
        self._enter(exchange, body, now)
        return exchange

    def _admit(self, endpoint: Endpoint, key: str | None, now: float) -> None:
        options = self._options
        if not key:
            raise Refusal(
                HTTPStatus.UNAUTHORIZED,
                answers.MISSING_KEY,
                "Authentication is missing.",
                "No API key was given.",
            )
        public = key in options.public_keys
        if not public and options.api_keys is not None and key not in options.api_keys:
            raise Refusal(
                HTTPStatus.UNAUTHORIZED,
                answers.INVALID_KEY,
                "The API key provided is invalid.",
                "This key does not exist.",
            )
        if public and endpoint.private:
            raise Refusal(
                HTTPStatus.FORBIDDEN, answers.FORBIDDEN, "The API key has no access to this resource."
            )
        if not self._quota.take(now):
            raise _too_many(options.retry_after_seconds)

    def _answer(self, endpoint: Endpoint, call: Call, fault: Fault) -> Answer:
        if fault.processed:
            return endpoint.run(call)
        if fault.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise _too_many(fault.retry_after_seconds or self._options.retry_after_seconds, _INJECTED)
        if fault.status:
            default = (
                answers.INTERNAL
                if fault.status >= HTTPStatus.INTERNAL_SERVER_ERROR
                else answers.INVALID_VALUE
            )
            raise Refusal(
                fault.status, _FAULT_CODES.get(fault.status, default), "The request failed.", _INJECTED
            )
        return Answer(0)

    def _enter(self, exchange: Exchange, body: bytes, now: float) -> None:
        answered = exchange.fault.kind not in (RESET, HANG)
        self.ledger.record(
            now,
            exchange.kind,
            exchange.answer.status if answered else 0,
            taken=exchange.taken,
            subject=exchange.answer.subject,
            body=body,
            fault=exchange.fault.kind,
        )


def _too_many(retry_after_seconds: float | None, cause: str = "") -> Refusal:
    return Refusal(
        HTTPStatus.TOO_MANY_REQUESTS, answers.TOO_MANY, "Too many requests.", cause, retry_after_seconds
    )
