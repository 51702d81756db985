"""Lists of the API, page by page: bare arrays, `items`, `elements`, with or without a next token."""

from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar
from urllib.parse import quote

from permutive_worker.permutive.call import call
from permutive_worker.permutive.caller import Caller
from permutive_worker.permutive.models import Answer

T = TypeVar("T", bound=Answer)


async def pages(
    caller: Caller, path: str, kind: str, read: Callable[[Any], T], query: str = ""
) -> AsyncGenerator[T, None]:
    """Yield the items of all pages, one page in memory at a time.

    Raises:
        ApiError: one of its tree; DecodingError also for a token that comes twice, which would never end.
    """

    def form(data: Any) -> tuple[list[T], str | None]:
        token = _next_token(data)
        if token in seen:
            raise ValueError("its page token came before, so the list would never end")
        return [read(item) for item in _items(data)], token

    seen: set[str] = set()
    token: str | None = None
    while True:
        paged = [query] * bool(query) + [f"pagination_token={quote(token or '', safe='')}"] * bool(token)
        full = f"{path}?{'&'.join(paged)}" if paged else path
        items, token = await caller.read(call("GET", full, kind, key_in_query=True), form)
        for item in items:
            yield item
        if not token:
            return
        seen.add(token)


def _items(data: Any) -> list[Any]:
    found = data
    if isinstance(data, dict):
        found = data.get("elements", data.get("items"))
    if not isinstance(found, list):
        raise ValueError("it is no list, and has no elements and no items")  # noqa: TRY004  (the answer is wrong)
    return found


def _next_token(data: Any) -> str | None:
    pagination = data.get("pagination") if isinstance(data, dict) else None
    if not isinstance(pagination, dict):
        return None
    token = pagination.get("next_token") or pagination.get("nextToken")
    return token if isinstance(token, str) else None
