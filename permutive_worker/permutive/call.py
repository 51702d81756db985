"""One call: a request, the API it belongs to, and whether it may be sent twice."""

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from permutive_worker.jobs.request import request_of
from permutive_worker.model import Job, Request

Api: TypeAlias = Literal["identity", "events", "ccs", "cohorts", "taxonomy", "context"]

DEFAULT_BASE_URL: Final = "https://api.permutive.app"
# Where Permutive's documents put an API elsewhere than the others.
ELSEWHERE: Final[Mapping[Api, str]] = {"context": "https://api.permutive.com"}
# The first that fits: which API a path belongs to.
PREFIXES: Final[Mapping[str, Api]] = {
    "/v2.0/events": "events",
    "/v2.0/": "identity",
    "/ccs/": "ccs",
    "/cohorts-api/": "cohorts",
    "/audience-api/": "taxonomy",
    "/ctx/": "context",
}
HARMLESS: Final = frozenset({"GET", "DELETE"})


def api_of(path: str) -> Api:
    return next(api for prefix, api in PREFIXES.items() if path.startswith(prefix))


class Call(msgspec.Struct, frozen=True):
    """What to send.

    Attributes:
        request: path, body and where the key goes.
        repeatable: sent twice it does what it does sent once.
        shown_path: as errors show it: without query and identifiers of users.
    """

    request: Request
    repeatable: bool
    shown_path: str

    @property
    def name(self) -> str:
        return f"{self.request.method} {self.shown_path}"


def call(
    method: str,
    path: str,
    kind: str,
    body: bytes = b"",
    *,
    key_in_query: bool = False,
    repeatable: bool | None = None,
    shown_path: str | None = None,
) -> Call:
    """Make a call; unless told otherwise GET and DELETE are repeatable, and nothing else is."""
    return Call(
        Request(method, path, body, kind, key_in_query),
        method in HARMLESS if repeatable is None else repeatable,
        shown_path or path.partition("?")[0],
    )


def call_of(job: Job, part: int = 0) -> Call:
    """Make the call that does what a line of the worker does. Repeating identify converges."""
    request = request_of(job, part)
    return Call(request, job.kind == "identify" or request.method in HARMLESS, request.path.partition("?")[0])
