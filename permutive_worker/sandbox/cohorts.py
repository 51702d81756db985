"""The Cohorts API: cohorts by name, code and query, kept in memory.

Source: Permutive's published Cohorts document: bare arrays without paging, snake_case, integer codes, nine
digits of a second. A cohort's query is stored and given back, never evaluated; see `state.cohort_of` for
who is in what.
"""

import itertools
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import UNSET

from permutive_worker.sandbox.answers import Answer, exists, missing, ok
from permutive_worker.sandbox.bodies import CohortChange, NewCohort, decode
from permutive_worker.sandbox.routes import Call
from permutive_worker.sandbox.state import Ids

_FIRST_CODE: Final = 12_345
_NEW: Final = msgspec.json.Decoder(NewCohort)
_CHANGE: Final = msgspec.json.Decoder(CohortChange)
_PAGEVIEWS: Final = {"event": "Pageview", "frequency": {"greater_than_or_equal_to": 2}}

Record = dict[str, Any]


class Cohorts:
    """The endpoints under `/cohorts-api/v2/cohorts`, and the cohorts of a workspace and of one below it."""

    def __init__(self, ids: Ids, wall_clock: Callable[[], datetime]) -> None:
        self._ids = ids
        self._wall_clock = wall_clock
        self._workspace_id = ids.new()
        self._records: dict[str, Record] = {}
        self._codes = itertools.count(_FIRST_CODE)
        self._add(NewCohort("Frequent readers", _PAGEVIEWS, tags=["sample"]), self._workspace_id)
        self._add(
            NewCohort("Subscribers", {"event": "Subscribed"}, description="Have paid"), self._workspace_id
        )
        self._add(NewCohort("Readers of the local edition", _PAGEVIEWS), ids.new())

    def list(self, call: Call) -> Answer:
        everywhere = call.flag("include-child-workspaces", default=False)
        return ok(
            [
                {name: value for name, value in record.items() if name != "query"}
                for record in self._records.values()
                if everywhere or record["workspace_id"] == self._workspace_id
            ]
        )

    def create(self, call: Call) -> Answer:
        new = decode(_NEW, call.body)
        if new.id in self._records:
            raise exists("A cohort with this id exists.")
        return ok(self._add(new, self._workspace_id), status=201, subject=new.name)

    def get(self, call: Call) -> Answer:
        return ok(self._found(call))

    def update(self, call: Call) -> Answer:
        record = self._found(call)
        change = decode(_CHANGE, call.body)
        for name in change.__struct_fields__:
            value = getattr(change, name)
            if value is not UNSET:
                record[name] = value
        if record.get("description", "") is None:
            del record["description"]
        record["last_updated_at"] = self._timestamp()
        return ok(record, subject=record["id"])

    def delete(self, call: Call) -> Answer:
        cohort_id = self._found(call)["id"]
        del self._records[cohort_id]
        return Answer(200, subject=cohort_id)

    def _found(self, call: Call) -> Record:
        record = self._records.get(call.parameters[0])
        if record is None:
            raise missing("cohort")
        return record

    def _add(self, new: NewCohort, workspace_id: str) -> Record:
        now = self._timestamp()
        described = {} if new.description is None else {"description": new.description}
        record: Record = {
            "id": new.id or self._ids.new(),
            "code": next(self._codes),
            "name": new.name,
            **described,
            "query": new.query,
            "tags": new.tags or [],
            "state": "Enabled",
            "workspace_id": workspace_id,
            "segment_type": new.segment_type,
            "live_audience_size": 0,
            "created_at": now,
            "last_updated_at": now,
        }
        self._records[record["id"]] = record
        return record

    def _timestamp(self) -> str:
        """Return the time with nine digits of a second, as the real API writes it."""
        return self._wall_clock().strftime("%Y-%m-%dT%H:%M:%S.%f") + "018Z"
