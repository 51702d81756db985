"""Cohorts. They need a private key. Source: Permutive Cohorts API, /cohorts-api/v2/cohorts."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any

from msgspec import UNSET, UnsetType

from permutive_worker.jobs.cohort import COHORTS_PATH
from permutive_worker.jobs.path import path_part
from permutive_worker.permutive.arguments import checked_id, job_of
from permutive_worker.permutive.call import Call, call, call_of
from permutive_worker.permutive.caller import Caller
from permutive_worker.permutive.listing import Listing
from permutive_worker.permutive.models import Cohort
from permutive_worker.permutive.paging import pages


class Cohorts:
    """`client.cohorts`. Every method but the lists may raise any of the ApiError tree."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(
        self, *, include_child_workspaces: bool = False, include_details: bool = False
    ) -> Listing[Cohort]:
        """Iterate over the cohorts, without their queries: the API has them only one by one.

        `include_details` asks for each cohort as well, when it is its turn: a request each.
        """
        return Listing(self._list(include_child_workspaces, include_details))

    async def _list(self, everywhere: bool, details: bool) -> AsyncGenerator[Cohort, None]:
        query = "include-child-workspaces=true" if everywhere else ""
        async for cohort in pages(self._caller, COHORTS_PATH, "cohort.list", Cohort.read, query):
            yield await self.get(cohort.id) if details else cohort

    async def get(self, cohort_id: str) -> Cohort:
        """Return a cohort, with its query."""
        path = f"{COHORTS_PATH}/{path_part(checked_id('cohort_id', cohort_id))}"
        return await self._read(call("GET", path, "cohort.get", key_in_query=True))

    async def get_by_name(self, name: str) -> Cohort | None:
        """Return the first cohort of this name, child workspaces included; None if there is none."""
        return await self._find("name", name)

    async def get_by_code(self, code: str | int) -> Cohort | None:
        """Return the cohort of this code, child workspaces included; None if there is none."""
        return await self._find("code", str(code))

    async def _find(self, field: str, value: str) -> Cohort | None:
        """Look through the list, for the API has no other way, and then get the one with its query."""
        async for cohort in self.list(include_child_workspaces=True):
            if str(getattr(cohort, field)) == value:
                return await self.get(cohort.id)
        return None

    async def create(
        self,
        *,
        name: str,
        query: Mapping[str, Any],
        id: str | None = None,  # noqa: A002  (the API's word)
        description: str | None = None,
        tags: Iterable[str] | None = None,
        segment_type: str | None = None,
    ) -> Cohort:
        """Create a cohort. Not repeated if the API may have done it."""
        tags = None if tags is None else [*tags]
        return await self._read(
            call_of(
                job_of(
                    "cohort.create",
                    name=name,
                    query=query,
                    id=id,
                    description=description,
                    tags=tags,
                    segment_type=segment_type,
                )
            )
        )

    async def update(
        self,
        cohort_id: str,
        *,
        name: str | None = None,
        query: Mapping[str, Any] | None = None,
        description: str | UnsetType | None = UNSET,
        tags: Iterable[str] | None = None,
        state: str | None = None,
    ) -> Cohort:
        """Change what is given and leave the rest; `description=None` deletes it.

        `state` is Enabled or Disabled. Not repeated if the API may have done it, unless the client is
        told with `with_options(idempotent=True)`.
        """
        tags = None if tags is None else [*tags]
        return await self._read(
            call_of(
                job_of(
                    "cohort.update",
                    id=cohort_id,
                    name=name,
                    query=query,
                    description=description,
                    tags=tags,
                    state=state,
                )
            )
        )

    async def delete(self, cohort_id: str) -> None:
        """Delete a cohort."""
        await self._caller.send(call_of(job_of("cohort.delete", id=cohort_id)))

    async def _read(self, request: Call) -> Cohort:
        return await self._caller.read(request, Cohort.read)
