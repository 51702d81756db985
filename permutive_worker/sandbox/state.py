"""What the imitation remembers about people: who is who, and who belongs to which cohorts.

Pure: ids come from a seed. Memory grows with the users and aliases seen (some 300 bytes for each), and is
freed by a reset.
Source: docs.permutive.com/api/identity/identify (unknown identities are created and mapped; if they
conflict, the one with the lowest priority number wins and the others follow it) and the CCS documents
(state is kept for each user).
"""

import random
import uuid
import zlib
from collections.abc import Iterable, Sequence

from permutive_worker.sandbox.bodies import Alias


class Ids:
    """Makes up UUIDs, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def new(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))


class Identities:
    """Users, and the aliases that lead to them. Every tag is accepted; the real API ignores unknown ones."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._owners: dict[tuple[str, str], str] = {}
        self.users: set[str] = set()

    def __repr__(self) -> str:
        return f"Identities(users={len(self.users)}, aliases={len(self._owners)})"

    @property
    def alias_count(self) -> int:
        return len(self._owners)

    def create(self) -> str:
        """Return the id of a new user."""
        user_id = self._ids.new()
        self.users.add(user_id)
        return user_id

    def resolve(self, user_id: str | None, aliases: Sequence[Alias]) -> str:
        """Return the user these identities belong to, and map all of them to it.

        The known alias of the lowest priority number decides (the first of several); without a known alias it
        is `user_id`, and without that a new user.
        """
        winner, lowest = user_id, None
        for alias in aliases:
            owner = self._owners.get((alias.tag, alias.id))
            if owner is not None and (lowest is None or alias.priority < lowest):
                winner, lowest = owner, alias.priority
        if winner is None:
            winner = self._ids.new()
        for alias in aliases:
            self._owners[alias.tag, alias.id] = winner
        self.users.add(winner)
        return winner

    def aliases_of(self, user_id: str) -> list[dict[str, str]]:
        """Return the aliases of one user, by looking at all: an index would cost each identify."""
        return [
            {"id": alias_id, "tag": tag, "permutive_id": owner}
            for (tag, alias_id), owner in self._owners.items()
            if owner == user_id
        ]


def cohort_of(event_name: str) -> str:
    """Return the code of the cohort of everyone with such an event: five digits, from the name alone."""
    return str(10_000 + zlib.crc32(event_name.lower().encode()) % 90_000)


class Memberships:
    """The cohorts of each user, as their events have made them: a user never leaves one."""

    def __init__(self) -> None:
        self._cohorts: dict[str, tuple[str, ...]] = {}

    def join(self, user_id: str, event_names: Iterable[str]) -> tuple[str, ...]:
        """Take the events in and return all cohorts the user is in, now and from before, sorted."""
        known = self._cohorts.get(user_id, ())
        joined = tuple(sorted({*known, *map(cohort_of, event_names)}))
        self._cohorts[user_id] = joined
        return joined
