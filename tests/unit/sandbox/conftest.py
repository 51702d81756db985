"""Speaks to an imitation without a socket."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from permutive_worker.sandbox.answers import Answer
from permutive_worker.sandbox.imitation import Exchange, Imitation
from permutive_worker.sandbox.options import SandboxOptions

NOON = datetime(2026, 1, 1, 12, 0, 0, 123_456, tzinfo=UTC)


class Caller:
    """Sends requests with a key, at a time that only moves when told."""

    def __init__(self, **options: Any) -> None:
        self.imitation = Imitation(SandboxOptions(**options), lambda: NOON)
        self.now = 100.0

    def exchange(self, method: str, target: str, content: object = None, key: str | None = "key") -> Exchange:
        body = content if isinstance(content, bytes) else b"" if content is None else orjson.dumps(content)
        return self.imitation.receive(method, target, key, body, self.now)

    def __call__(self, method: str, target: str, content: object = None, key: str | None = "key") -> Answer:
        return self.exchange(method, target, content, key).answer

    def json(self, method: str, target: str, content: object = None) -> Any:
        """Return what a request that succeeds is answered."""
        answer = self(method, target, content)
        assert 200 <= answer.status < 300, answer
        return orjson.loads(answer.body) if answer.body else None

    def refusal(self, method: str, target: str, content: object = None) -> tuple[int, int]:
        """Return status and code of a request that is refused."""
        answer = self(method, target, content)
        return answer.status, orjson.loads(answer.body)["error"]["code"]


@pytest.fixture
def build_caller() -> Callable[..., Caller]:
    return Caller


@pytest.fixture
def call() -> Caller:
    return Caller()
