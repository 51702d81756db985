"""`identify`: these aliases belong to this user.

Repeating one is safe: the same body leads to the same identity.
Source: Permutive Identity API, POST /v2.0/identify.
"""

from collections.abc import Hashable, Sequence
from typing import ClassVar

import msgspec

from permutive_worker.jobs.alias import RankedAlias, SentAlias, ranked
from permutive_worker.jobs.line import ENCODER, Line, NonEmpty


class Identify(Line, frozen=True, tag="identify"):
    """A line of type `identify`; without aliases the API only answers with the user_id."""

    kind: ClassVar[str] = "identify"

    user_id: NonEmpty
    aliases: list[RankedAlias]

    def user(self) -> Hashable:
        return self.user_id

    def request_count(self) -> int:
        return 1

    def body(self, part: int) -> bytes:  # noqa: ARG002  (a job of one request)
        return ENCODER.encode(_Body(self.user_id, ranked(self.aliases)))

    def query(self) -> str:
        return ""


class _Body(msgspec.Struct, gc=False):
    user_id: str
    aliases: Sequence[RankedAlias | SentAlias]
