"""An identifier of a user: id, tag and, where there are several, a priority."""

from binascii import unhexlify
from collections.abc import Sequence

import msgspec

from permutive_worker.jobs.line import Int32, NonEmpty


class Alias(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """An identifier that stands alone: there is nothing to rank."""

    id: NonEmpty
    tag: NonEmpty

    def __post_init__(self) -> None:
        """Refuse what says it is hashed and is not: it would send an address in clear and match nobody."""
        if self.tag.endswith("_sha256") and not _is_sha256(self.id):
            raise ValueError("id: it is an unhashed address: trim, lower-case and SHA-256 it first")


class RankedAlias(Alias, frozen=True):
    """One of several: the lowest priority number wins. Absent: its index in the list."""

    priority: Int32 | None = None


def _is_sha256(text: str) -> bool:
    try:
        return len(unhexlify(text)) == 32  # takes nothing but hex digits, and costs a tenth of a regex
    except ValueError:
        return False


class SentAlias(msgspec.Struct, gc=False):
    """An alias as the API takes it."""

    id: str
    tag: str
    priority: int


def ranked(aliases: Sequence[RankedAlias]) -> Sequence[RankedAlias | SentAlias]:
    """Return the aliases as they are sent: every one with a priority."""
    for alias in aliases:
        if alias.priority is None:
            return [
                SentAlias(alias.id, alias.tag, _priority(alias, index)) for index, alias in enumerate(aliases)
            ]
    return aliases


def _priority(alias: RankedAlias, index: int) -> int:
    return index if alias.priority is None else alias.priority


def first_priority(aliases: Sequence[RankedAlias]) -> tuple[str, str]:
    """Return tag and id of the alias that decides who the user is; among equals the first.

    Raises:
        ValueError: there is no alias.
    """
    _, first = min(enumerate(aliases), key=lambda pair: _priority(pair[1], pair[0]))
    return first.tag, first.id
