"""The Taxonomy API ("audience"): imports, which are given, and the segments in them.

Source: Permutive's published Taxonomy document: segments come in pages with `pagination_token`; a batch is
at most 5,000 operations, in no promised order. What a batch with an impossible operation does is not
published: here it is refused whole.
"""

import base64
import binascii
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import UNSET

from permutive_worker.sandbox.answers import Answer, exists, invalid, malformed, missing, ok
from permutive_worker.sandbox.bodies import (
    MAX_OPERATIONS,
    CreateSegment,
    DeleteSegment,
    NewSegment,
    SegmentBatch,
    SegmentChange,
    UpdateSegment,
    decode,
)
from permutive_worker.sandbox.routes import Call
from permutive_worker.sandbox.state import Ids

_NEW: Final = msgspec.json.Decoder(NewSegment)
_CHANGE: Final = msgspec.json.Decoder(SegmentChange)
_BATCH: Final = msgspec.json.Decoder(SegmentBatch)

Record = dict[str, Any]


class Shelf:
    """The segments of one import, by code; a code never changes.

    Operations raise `Refusal`: 404 for a code that is not there, 409 for one that is.
    """

    def __init__(self, import_id: str, ids: Ids, wall_clock: Callable[[], datetime]) -> None:
        self._import_id = import_id
        self._ids = ids
        self._wall_clock = wall_clock
        self._by_code: dict[str, Record] = {}
        self._codes: dict[str, str] = {}

    def page(self, start: int, size: int) -> list[Record]:
        return list(self._by_code.values())[start : start + size]

    def __len__(self) -> int:
        return len(self._by_code)

    def get(self, code: str) -> Record:
        record = self._by_code.get(code)
        if record is None:
            raise missing("segment")
        return record

    def code_of(self, segment_id: str) -> str:
        code = self._codes.get(segment_id)
        if code is None:
            raise missing("segment")
        return code

    def create(self, new: NewSegment) -> Record:
        if new.code in self._by_code:
            raise exists("A segment with this code exists in this import.")
        given = {name: getattr(new, name) for name in ("description", "cpm", "categories")}
        record: Record = {
            "id": self._ids.new(),
            "code": new.code,
            "name": new.name,
            "import_id": self._import_id,
        }
        record |= {name: value for name, value in given.items() if value is not None}
        record["updated_at"] = self._timestamp()
        self._by_code[new.code] = record
        self._codes[record["id"]] = new.code
        return record

    def update(self, code: str, change: SegmentChange) -> Record:
        record = self.get(code)
        changed = {name: getattr(change, name) for name in change.__struct_fields__}
        record |= {name: value for name, value in changed.items() if value is not UNSET}
        record["updated_at"] = self._timestamp()
        return record

    def delete(self, code: str) -> Record:
        record = self.get(code)
        del self._by_code[code], self._codes[record["id"]]
        return record

    def apply(self, operations: list[CreateSegment | UpdateSegment | DeleteSegment]) -> list[Record]:
        """Carry out all operations or, if one is impossible, none."""
        codes = set(self._by_code)
        for operation in operations:
            _foresee(operation, codes)
        return [self._apply_one(operation) for operation in operations]

    def _apply_one(self, operation: CreateSegment | UpdateSegment | DeleteSegment) -> Record:
        match operation:
            case CreateSegment(data=new):
                return self.create(new)
            case UpdateSegment(code=code, data=change):
                return self.update(code, change)
            case DeleteSegment(code=code):
                return self.delete(code)

    def _timestamp(self) -> str:
        return self._wall_clock().strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _foresee(operation: CreateSegment | UpdateSegment | DeleteSegment, codes: set[str]) -> None:
    """Refuse an operation that the codes there will be make impossible; note what it does to them."""
    if isinstance(operation, CreateSegment):
        if operation.data.code in codes:
            raise exists("A segment with this code exists in this import.")
        codes.add(operation.data.code)
        return
    if operation.code not in codes:
        raise missing("segment")
    if isinstance(operation, DeleteSegment):
        codes.discard(operation.code)


class Taxonomy:
    """The endpoints under `/audience-api/v1/imports`: two sample imports, the first with three segments."""

    def __init__(self, ids: Ids, wall_clock: Callable[[], datetime], page_size: int) -> None:
        self._page_size = page_size
        self._imports = {record["id"]: record for record in _sample_imports(ids)}
        self._shelves = {import_id: Shelf(import_id, ids, wall_clock) for import_id in self._imports}
        first = next(iter(self._shelves.values()))
        for number in ("1234", "1235", "1236"):
            first.create(NewSegment(number, f"Sample segment {number}", cpm=2.0, categories=["sample"]))

    def list_imports(self, _: Call) -> Answer:
        return ok({"items": list(self._imports.values())})

    def get_import(self, call: Call) -> Answer:
        self._shelf(call)
        return ok(self._imports[call.parameters[0]])

    def list_segments(self, call: Call) -> Answer:
        shelf = self._shelf(call)
        start = _offset(call.query.get("pagination_token"))
        end = start + self._page_size
        token = _token(end) if end < len(shelf) else None
        return ok(
            {
                "elements": shelf.page(start, self._page_size),
                "pagination": {"next_token": token, "total_count": len(shelf)},
            }
        )

    def create_segment(self, call: Call) -> Answer:
        shelf = self._shelf(call)
        return _written(shelf.create(decode(_NEW, call.body)))

    def batch(self, call: Call) -> Answer:
        shelf = self._shelf(call)
        operations = decode(_BATCH, call.body).operations
        if not 1 <= len(operations) <= MAX_OPERATIONS:
            raise malformed(f"{len(operations)} operations, of which 1 to {MAX_OPERATIONS} are allowed")
        return ok({"items": shelf.apply(operations)}, subject=call.parameters[0])

    def get_by_id(self, call: Call) -> Answer:
        shelf = self._shelf(call)
        return ok(shelf.get(shelf.code_of(call.parameters[1])))

    def get_by_code(self, call: Call) -> Answer:
        return ok(self._shelf(call).get(call.parameters[1]))

    def update_by_id(self, call: Call) -> Answer:
        shelf = self._shelf(call)
        return _written(shelf.update(shelf.code_of(call.parameters[1]), decode(_CHANGE, call.body)))

    def update_by_code(self, call: Call) -> Answer:
        shelf = self._shelf(call)
        return _written(shelf.update(shelf.get(call.parameters[1])["code"], decode(_CHANGE, call.body)))

    def delete_by_id(self, call: Call) -> Answer:
        shelf = self._shelf(call)
        return _written(shelf.delete(shelf.code_of(call.parameters[1])))

    def delete_by_code(self, call: Call) -> Answer:
        return _written(self._shelf(call).delete(call.parameters[1]))

    def _shelf(self, call: Call) -> Shelf:
        shelf = self._shelves.get(call.parameters[0])
        if shelf is None:
            raise missing("import")
        return shelf


def _written(record: Record) -> Answer:
    return ok(record, subject=f"{record['import_id']}/{record['code']}")


def _token(offset: int) -> str:
    return base64.b64encode(str(offset).encode()).decode()


def _offset(token: str | None) -> int:
    if not token:
        return 0
    try:
        return max(0, int(base64.b64decode(token, validate=True)))
    except (binascii.Error, ValueError):
        raise invalid("query parameter pagination_token") from None


def _sample_imports(ids: Ids) -> list[Record]:
    def sample(name: str, code: str, relation: str, source_type: str) -> Record:
        return {
            "id": ids.new(),
            "name": name,
            "code": code,
            "relation": relation,
            "identifiers": ["appnexus"],
            "inheritance": {"workspace_id": ids.new(), "relation": "ancestor"},
            "source": {"id": ids.new(), "state": {"type": "active"}, "type": source_type},
        }

    return [
        sample("Sample data provider", "sample_data_provider", "3rd", "live_ramp_3p"),
        sample("Sample first-party data", "sample_first_party", "1st", "gcs"),
    ]
