"""Users: who is who. Source: Permutive Identity API, /v2.0/identify and /v2.0/users."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from permutive_worker.jobs.path import path_part
from permutive_worker.permutive.arguments import checked_id, job_of
from permutive_worker.permutive.call import call, call_of
from permutive_worker.permutive.caller import Caller
from permutive_worker.permutive.models import Alias, UserAlias


class Users:
    """`client.users`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def identify(self, user_id: str, aliases: Iterable[Alias]) -> str:
        """Say that these aliases belong to this user, and return the user the API resolved them to.

        Without aliases the API answers with `user_id`. Repeating it is safe.

        Raises:
            ApiError: one of its tree.
        """
        job = job_of("identify", user_id=user_id, aliases=list(aliases))
        return await self._caller.read(call_of(job), partial(_text, "user_id"))

    async def create(self) -> str:
        """Create a user and return the id. Not repeated if the API may have done it."""
        return await self._caller.read(call("POST", "/v2.0/users", "user.create"), partial(_text, "id"))

    async def aliases(self, user_id: str) -> list[UserAlias]:
        """Return the aliases of a user; this needs a private key."""
        part = path_part(checked_id("user_id", user_id))
        shown = "/v2.0/users/[user]/aliases"
        request = call("GET", f"/v2.0/users/{part}/aliases", "user.aliases", shown_path=shown)
        return await self._caller.read(request, _aliases)


def _text(name: str, data: Any) -> str:
    value = data.get(name) if isinstance(data, dict) else None
    if not isinstance(value, str):
        raise ValueError(f"it has no {name}")  # noqa: TRY004  (the answer is wrong, not the caller)
    return value


def _aliases(data: Any) -> list[UserAlias]:
    if not isinstance(data, list):
        raise ValueError("it is no list")  # noqa: TRY004  (the answer is wrong, not the caller)
    return list(map(UserAlias.read, data))
