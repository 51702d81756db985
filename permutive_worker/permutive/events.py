"""Events, stamped by the API with the time of their arrival. Source: Permutive Events API, /v2.0/events."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import msgspec

from permutive_worker.jobs.request import request_of
from permutive_worker.permutive.arguments import encode, job_of
from permutive_worker.permutive.call import call
from permutive_worker.permutive.caller import Caller
from permutive_worker.permutive.models import Alias, TakenEvent


class Events:
    """`client.events`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def send(
        self,
        name: str,
        *,
        user_id: str | None = None,
        aliases: Iterable[Alias] | None = None,
        properties: Mapping[str, Any] | None = None,
        view_id: str | UUID | None = None,
        session_id: str | UUID | None = None,
        segments: Iterable[int] | None = None,
        cohorts: Iterable[str] | None = None,
        enrich: bool = False,
    ) -> TakenEvent:
        """Send one event of the user with this id, or with these aliases.

        Not repeated if the API may have counted it.

        Raises:
            ApiError: one of its tree.
        """
        job = job_of(
            "event",
            name=name,
            user_id=user_id,
            aliases=list(aliases) if aliases is not None else None,
            properties=properties,
            view_id=view_id,
            session_id=session_id,
            enrich=enrich,
        )
        asked = request_of(job, 0)
        body = _with(asked.body, segments=segments, cohorts=cohorts)
        request = call("POST", asked.path, job.kind, body)
        return await self._caller.read(request, TakenEvent.read)


def _with(body: bytes, **more: Iterable[Any] | None) -> bytes:
    """Add what a line of the worker cannot say."""
    given = {name: list(values) for name, values in more.items() if values is not None}
    if not given:
        return body
    fields: dict[str, Any] = dict(msgspec.json.decode(body, type=dict[str, msgspec.Raw]))
    return encode({**fields, **given})
