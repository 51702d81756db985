import pytest

from permutive_worker.sandbox.answers import TEXT

IMPORTS = "/audience-api/v1/imports"


@pytest.fixture
def segments(call) -> str:
    """The path of the segments of an import that has none."""
    return f"{IMPORTS}/{call.json('GET', IMPORTS)['items'][1]['id']}/segments"


def codes(call, segments):
    return {segment["code"] for segment in call.json("GET", segments)["elements"]}


def test_imports_are_there_from_the_start(call) -> None:
    items = call.json("GET", IMPORTS)["items"]

    assert len(items) == 2
    assert call.json("GET", f"{IMPORTS}/{items[0]['id']}") == items[0]
    assert items[0]["source"]["state"] == {"type": "active"}
    assert call.json("GET", f"{IMPORTS}/{items[0]['id']}/segments")["pagination"]["total_count"] == 3


@pytest.mark.parametrize("path", ["", "/segments", "/segments/s1", "/segments/code/1"])
def test_an_import_that_is_not_there(call, path) -> None:
    assert call.refusal("GET", f"{IMPORTS}/none{path}") == (404, 3000)


def test_a_segment_by_id_and_by_code(call, segments) -> None:
    new = {"code": "a/b 1", "name": "s", "cpm": 2.0, "categories": ["c"]}
    segment = call.json("POST", segments, new)

    assert new.items() <= segment.items()
    assert segment["updated_at"] == "2026-01-01T12:00:00.123456Z"
    assert "description" not in segment
    assert call.json("GET", f"{segments}/{segment['id']}") == segment
    assert call.json("GET", f"{segments}/code/a%2Fb%201") == segment


@pytest.mark.parametrize("by", ["id", "code"])
def test_a_change_and_a_deletion(call, segments, by) -> None:
    segment = call.json("POST", segments, {"code": "1", "name": "s", "cpm": 1})
    path = f"{segments}/code/1" if by == "code" else f"{segments}/{segment['id']}"

    changed = call.json("PATCH", path, {"code": "2", "name": "renamed"})
    assert changed == segment | {"name": "renamed"}
    assert call.json("DELETE", path) == changed
    assert call.refusal("GET", path) == (404, 3000)


def test_a_code_that_exists(call, segments) -> None:
    call.json("POST", segments, {"code": "1", "name": "s"})

    assert call.refusal("POST", segments, {"code": "1", "name": "t"}) == (409, 4000)


@pytest.mark.parametrize(
    "body", [None, b"{", {"name": "s"}, {"code": 1, "name": "s"}, {"code": "1", "name": "s", "cpm": "x"}]
)
def test_what_is_malformed_is_refused_in_plain_text(call, segments, body) -> None:
    answer = call("POST", segments, body)

    assert (answer.status, answer.content_type) == (400, TEXT)
    assert answer.body.startswith(b"Invalid value for: body")


def test_pages_are_followed_by_token(build_caller) -> None:
    call = build_caller(page_size=2)
    path = f"{IMPORTS}/{call.json('GET', IMPORTS)['items'][0]['id']}/segments"

    first = call.json("GET", path)
    token = first["pagination"]["next_token"]
    second = call.json("GET", f"{path}?pagination_token={token.replace('=', '%3D')}")

    assert [len(page["elements"]) for page in (first, second)] == [2, 1]
    assert second["pagination"] == {"next_token": None, "total_count": 3}
    assert {segment["code"] for page in (first, second) for segment in page["elements"]} == {
        "1234",
        "1235",
        "1236",
    }


@pytest.mark.parametrize("token", ["x", "!!", "eHg="])
def test_a_token_that_is_none(call, segments, token) -> None:
    answer = call("GET", f"{segments}?pagination_token={token}")

    assert (answer.status, answer.body) == (400, b"Invalid value for: query parameter pagination_token")


def test_a_batch(call, segments) -> None:
    call.json("POST", segments, {"code": "1", "name": "s"})
    call.json("POST", segments, {"code": "2", "name": "s"})

    items = call.json(
        "PATCH",
        segments,
        {
            "operations": [
                {"operation": "Create", "data": {"code": "3", "name": "new"}},
                {"operation": "Update", "code": "1", "data": {"name": "renamed"}},
                {"operation": "Delete", "code": "2"},
            ]
        },
    )["items"]

    assert [item["name"] for item in items] == ["new", "renamed", "s"]
    assert codes(call, segments) == {"1", "3"}


@pytest.mark.parametrize(
    ("operation", "status"),
    [
        ({"operation": "Create", "data": {"code": "1", "name": "s"}}, 409),
        ({"operation": "Update", "code": "none", "data": {}}, 404),
        ({"operation": "Delete", "code": "none"}, 404),
    ],
)
def test_a_batch_with_an_impossible_operation_changes_nothing(call, segments, operation, status) -> None:
    call.json("POST", segments, {"code": "1", "name": "s"})
    operations = [{"operation": "Create", "data": {"code": "2", "name": "s"}}, operation]

    assert call("PATCH", segments, {"operations": operations}).status == status
    assert codes(call, segments) == {"1"}


@pytest.mark.parametrize(("count", "status"), [(0, 400), (5_000, 200), (5_001, 400)])
def test_a_batch_is_so_large_at_most(call, segments, count, status) -> None:
    operations = [{"operation": "Create", "data": {"code": str(n), "name": "s"}} for n in range(count)]

    answer = call("PATCH", segments, {"operations": operations})
    assert answer.status == status
    assert answer.content_type == (TEXT if status == 400 else "application/json")


@pytest.mark.parametrize(
    "operation", [{"operation": "Merge"}, {"code": "1"}, {"operation": "Update", "data": {}}]
)
def test_an_operation_that_is_none(call, segments, operation) -> None:
    assert call("PATCH", segments, {"operations": [operation]}).status == 400
