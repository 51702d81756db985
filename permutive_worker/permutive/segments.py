"""Segments of an import. Source: Permutive Taxonomy API, /audience-api/v1/imports/{import_id}/segments."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from permutive_worker.errors import ApiError, DecodingError
from permutive_worker.jobs.segment import segment_path, segments_path
from permutive_worker.model import Job
from permutive_worker.permutive.arguments import checked_id, encode, job_of
from permutive_worker.permutive.call import Call, call, call_of
from permutive_worker.permutive.caller import Caller
from permutive_worker.permutive.listing import Listing
from permutive_worker.permutive.models import Segment
from permutive_worker.permutive.operations import (
    Operation,
    OperationResult,
    OperationState,
    requests_of,
    wire_form,
)
from permutive_worker.permutive.paging import pages

DONE: Final = (OperationState.CONFIRMED, OperationState.ACCEPTED)


class Segments:
    """`client.segments`. Every method but the list may raise any of the ApiError tree."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(self, import_id: str) -> Listing[Segment]:
        """Iterate over the segments of an import, page by page."""
        path = segments_path(checked_id("import_id", import_id))
        return Listing(pages(self._caller, path, "segment.list", Segment.read))

    async def get(self, import_id: str, segment_id: str) -> Segment:
        """Return a segment by its id."""
        checked_id("segment_id", segment_id)
        return await self._get(segment_path(checked_id("import_id", import_id), None, segment_id))

    async def get_by_code(self, import_id: str, code: str) -> Segment:
        """Return a segment by its code."""
        checked_id("code", code)
        return await self._get(segment_path(checked_id("import_id", import_id), code, None))

    async def _get(self, path: str) -> Segment:
        return await self._read(call("GET", path, "segment.get", key_in_query=True))

    async def create(
        self,
        import_id: str,
        *,
        code: str,
        name: str,
        description: str | None = None,
        cpm: float | None = None,
        categories: Iterable[str] | None = None,
    ) -> Segment:
        """Create a segment; its code can never be changed. Not repeated if the API may have done it."""
        fields = _fields(name, description, cpm, categories)
        return await self._read(call_of(job_of("segment.create", import_id=import_id, code=code, **fields)))

    async def update(
        self,
        import_id: str,
        segment_id: str,
        *,
        name: str | None = None,
        description: str | None = None,
        cpm: float | None = None,
        categories: Iterable[str] | None = None,
    ) -> Segment:
        """Change what is given of the segment with this id, and leave the rest.

        Not repeated if the API may have done it, unless told with `with_options(idempotent=True)`.
        """
        fields = _fields(name, description, cpm, categories)
        return await self._read(
            call_of(job_of("segment.update", import_id=import_id, id=segment_id, **fields))
        )

    async def update_by_code(
        self,
        import_id: str,
        code: str,
        *,
        name: str | None = None,
        description: str | None = None,
        cpm: float | None = None,
        categories: Iterable[str] | None = None,
    ) -> Segment:
        """Do as `update`, for the segment with this code."""
        fields = _fields(name, description, cpm, categories)
        return await self._read(call_of(job_of("segment.update", import_id=import_id, code=code, **fields)))

    async def delete(self, import_id: str, segment_id: str) -> Segment | None:
        """Delete the segment with this id, and return it if the API does."""
        return await self._delete(job_of("segment.delete", import_id=import_id, id=segment_id))

    async def delete_by_code(self, import_id: str, code: str) -> Segment | None:
        """Delete the segment with this code, and return it if the API does."""
        return await self._delete(job_of("segment.delete", import_id=import_id, code=code))

    async def _delete(self, job: Job) -> Segment | None:
        return await self._caller.read(call_of(job), _deleted)

    async def batch(self, import_id: str, operations: Iterable[Operation]) -> Sequence[OperationResult]:
        """Carry out many operations, 5,000 a request, and return what is known of each, in their order.

        Two operations on one code are never in one request, for within one the API promises no order;
        if the first of them may not have been done, the second is not sent. Failures are values.

        Raises:
            InvalidRequestError: one of the operations is wrong; nothing was sent.
        """
        given = list(operations)
        forms = [wire_form(import_id, operation) for operation in given]
        path = segments_path(checked_id("import_id", import_id))
        results: dict[int, OperationResult] = {}
        failed: dict[str, ApiError | None] = {}  # codes, with the error of the request they were in
        for group in requests_of(given):
            sent = [index for index in group if given[index].code not in failed]
            for index in set(group).difference(sent):
                error = failed[given[index].code]
                results[index] = OperationResult(index, given[index], OperationState.NOT_SENT, error=error)
            if sent:
                body = encode({"operations": [forms[index] for index in sent]})
                request = call("PATCH", path, "segment.batch", body, key_in_query=True)
                for result in await self._results(request, sent, given):
                    results[result.index] = result
                    if result.state not in DONE:
                        failed[result.operation.code] = result.error
        return [results[index] for index in range(len(given))]

    async def _results(
        self, request: Call, sent: Sequence[int], given: Sequence[Operation]
    ) -> Sequence[OperationResult]:
        try:
            by_code = await self._caller.read(request, _by_code)
        except ApiError as error:
            state = _state_of(error)
            return [OperationResult(index, given[index], state, error=error) for index in sent]
        return [
            OperationResult(
                index,
                given[index],
                OperationState.ACCEPTED if segment is None else OperationState.CONFIRMED,
                segment,
            )
            for index in sent
            for segment in [by_code.get(given[index].code)]
        ]

    async def _read(self, request: Call) -> Segment:
        return await self._caller.read(request, Segment.read)


def _fields(
    name: str | None, description: str | None, cpm: float | None, categories: Iterable[str] | None
) -> dict[str, Any]:
    return {
        "name": name,
        "description": description,
        "cpm": cpm,
        "categories": None if categories is None else [*categories],
    }


def _deleted(data: Any) -> Segment | None:
    try:
        return Segment.read(data)
    except ValueError:
        return None  # it is deleted, whatever the answer looks like


def _by_code(data: Any) -> dict[str, Segment]:
    """The segments of the answer to a batch; what cannot be read is not known."""
    items = data.get("items") if isinstance(data, dict) else None
    found: dict[str, Segment] = {}
    for item in items if isinstance(items, list) else []:
        try:
            segment = Segment.read(item)
        except ValueError:
            continue
        found[segment.code] = segment
    return found


def _state_of(error: ApiError) -> OperationState:
    if isinstance(error, DecodingError):
        return OperationState.ACCEPTED
    if error.ambiguous:
        return OperationState.UNKNOWN
    return OperationState.REFUSED if error.status is not None else OperationState.NOT_SENT
