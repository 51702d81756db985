"""What `list(…)` gives: an async iterator that pages by itself, and what was collected from one."""

from collections.abc import AsyncGenerator, AsyncIterator
from importlib import import_module
from typing import Any, Generic, TypeVar

import msgspec

from permutive_worker.permutive.models import Answer

T = TypeVar("T", bound=Answer)


class Listing(AsyncIterator[T], Generic[T]):
    """Iterate it with `async for`, or `await` its `collect()`. One page is held at a time."""

    def __init__(self, items: AsyncGenerator[T, None]) -> None:
        self._items = items

    def __aiter__(self) -> "Listing[T]":
        return self

    async def __anext__(self) -> T:
        return await anext(self._items)

    async def aclose(self) -> None:
        """End it before its end."""
        await self._items.aclose()

    async def collect(self) -> "Collected[T]":
        """Return all that is left."""
        return Collected([item async for item in self])


class Collected(list[T]):
    """A list of answers, with the look-ups of PermutiveAPI's lists. They look anew each time."""

    def by(self, field: str) -> dict[Any, T]:
        """Index by a field (`id`, `code`, `name` …); of equal ones the last; those without it are left out."""
        return {value: item for item in self if (value := getattr(item, field)) is not None}

    def grouped_by(self, field: str) -> dict[Any, list[T]]:
        """Group by a field; an item stands in every group of a field that is a list, such as `tags`."""
        groups: dict[Any, list[T]] = {}
        for item in self:
            value = getattr(item, field)
            for one in value if isinstance(value, list) else [value] * (value is not None):
                groups.setdefault(one, []).append(item)
        return groups

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame`: a row each, a column for each field that any of them has.

        Raises:
            ImportError: naming the extra to install.
        """
        try:
            pandas = import_module("pandas")  # an extra that takes a second to import
        except ImportError:
            raise ImportError("to_pandas() needs pandas: pip install 'permutive-worker[pandas]'") from None
        rows = list(map(_row, self))
        columns = [name for name in _fields(self) if any(name in row for row in rows)]
        return pandas.DataFrame(rows, columns=columns)


def _fields(items: list[T]) -> list[str]:
    return [name for name in items[0].__struct_fields__ if name != "raw"] if items else []


def _row(item: Answer) -> dict[str, Any]:
    """The fields of an item that say something; times as text, as PermutiveAPI has them."""
    values = {name: getattr(item, name) for name in item.__struct_fields__ if name != "raw"}
    return {name: _cell(value) for name, value in values.items() if value not in (None, [], {})}


def _cell(value: Any) -> Any:
    if isinstance(value, Answer):
        return _row(value)
    return value.isoformat() if hasattr(value, "isoformat") else value


def json_line(item: Answer) -> bytes:
    """The item as the API sent it, on one line."""
    return msgspec.json.encode(item.raw)
