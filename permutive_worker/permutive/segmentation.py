"""Segmentation: events in, cohorts out. Source: Permutive CCS API, /ccs/v1/segmentation."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from permutive_worker.errors import ApiError, InvalidRequestError
from permutive_worker.jobs.segmentation import EVENTS_PER_REQUEST
from permutive_worker.permutive.arguments import encode, job_of
from permutive_worker.permutive.call import call, call_of
from permutive_worker.permutive.caller import Caller
from permutive_worker.permutive.models import Alias, Event, Membership, StatelessMembership

STATELESS_PATH = "/ccs/v1/segmentation/stateless"


class Segmentation:
    """`client.segmentation`. Say who with exactly one of `user_id`, `alias` and `aliases`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def send(
        self,
        user_id: str | None = None,
        *,
        events: Iterable[Event],
        alias: Alias | None = None,
        aliases: Iterable[Alias] | None = None,
        activations: bool = False,
        synchronous_validation: bool = False,
    ) -> Membership:
        """Return the user's cohorts after these events.

        More than 10 events are sent in several requests, one after another; the answer is the last one's.
        Not repeated if the API may have counted the events. If a later request fails, a note on the
        error says how many events were taken before.

        Raises:
            ApiError: one of its tree.
        """
        job = job_of(
            "segmentation",
            **_who(user_id, alias, aliases),
            events=list(events),
            activations=activations,
            synchronous_validation=synchronous_validation,
        )
        membership = await self._caller.read(call_of(job, 0), Membership.read)
        for part in range(1, job.request_count()):
            try:
                membership = await self._caller.read(call_of(job, part), Membership.read)
            except ApiError as error:
                error.add_note(f"{part * EVENTS_PER_REQUEST} events were taken before")
                raise
        return membership

    async def stateless(
        self,
        user_id: str | None = None,
        *,
        events: Iterable[Event],
        alias: Alias | None = None,
        aliases: Iterable[Alias] | None = None,
        state: Mapping[str, Any] | None = None,
        synchronous_validation: bool = False,
    ) -> StatelessMembership:
        """Do the same from the `state` given, 10 events at most; the API remembers no state.

        The events are published all the same, so it is not repeated either.
        """
        job = job_of("segmentation", **_who(user_id, alias, aliases), events=list(events))
        if job.request_count() > 1:
            raise InvalidRequestError(f"events: at most {EVENTS_PER_REQUEST} without a state on the server")
        fields = msgspec.json.decode(job.body(0), type=dict[str, msgspec.Raw])
        if state is not None:
            fields["state"] = msgspec.Raw(encode(state))
        validation = "true" if synchronous_validation else "false"
        path = f"{STATELESS_PATH}?synchronous-validation={validation}"
        request = call("POST", path, "segmentation.stateless", encode(fields))
        return await self._caller.read(request, StatelessMembership.read)


def _who(user_id: str | None, alias: Alias | None, aliases: Iterable[Alias] | None) -> dict[str, Any]:
    if alias is not None and alias.priority not in (None, 0):
        raise InvalidRequestError("alias.priority: an alias that stands alone has none")
    return {
        "user_id": user_id,
        "alias": {"id": alias.id, "tag": alias.tag} if alias is not None else None,
        "aliases": list(aliases) if aliases is not None else None,
    }
