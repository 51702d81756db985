"""Which endpoint a method and a path mean.

Static paths are one look in a dict; paths with ids in them are matched part by part. A trailing slash makes
no difference, because PermutiveAPI sends one and Permutive's documents do not.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, TypeAlias
from urllib.parse import parse_qsl, unquote

import msgspec

from permutive_worker.sandbox.answers import INVALID_VALUE, NOT_FOUND, Answer, Dialect, Refusal, invalid


class Call(msgspec.Struct, frozen=True):
    """One request as an endpoint sees it: the ids in its path, its query and its body."""

    parameters: tuple[str, ...]
    query: Mapping[str, str]
    body: bytes

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a query parameter that is true or false; anything else is refused."""
        text = self.query.get(name)
        if text is None:
            return default
        if text not in ("true", "false"):
            raise invalid(f"query parameter {name}", "It must be true or false.")
        return text == "true"


class Endpoint(msgspec.Struct, frozen=True):
    """One operation of the API.

    `kind` is its name in the ledger; `private` says that a public key is not enough; `writes` that
    a 2xx answer means that something was taken, which is what the ledger counts.
    """

    kind: str
    dialect: Dialect
    run: Callable[[Call], Answer]
    private: bool = False
    writes: bool = False


Methods: TypeAlias = Mapping[str, Endpoint]

_IDENTIFIER: Final = ""  # stands in a pattern for any one part of a path


class Routes:
    """A table of paths; `{}` stands for a part that is an identifier.

    Args:
        table: path -> method -> endpoint.

    """

    def __init__(self, table: Mapping[str, Methods]) -> None:
        self._static = {path: methods for path, methods in table.items() if "{}" not in path}
        self._patterns = [
            (tuple(_IDENTIFIER if part == "{}" else part for part in path.split("/")[1:]), methods)
            for path, methods in table.items()
            if "{}" in path
        ]

    def find(self, method: str, path: str) -> tuple[Endpoint, tuple[str, ...]]:
        """Return the endpoint and the identifiers in the path; else an endpoint that refuses."""
        methods = self._static.get(path)
        parameters: tuple[str, ...] = ()
        if methods is None:
            methods, parameters = self._matched(path)
        if methods is None:
            return _UNKNOWN_PATH, ()
        return methods.get(method, _WRONG_METHOD), parameters

    def _matched(self, path: str) -> tuple[Methods | None, tuple[str, ...]]:
        path = path.rstrip("/")
        if path in self._static:
            return self._static[path], ()
        parts = [unquote(part) for part in path.split("/")[1:]]
        for pattern, methods in self._patterns:
            if _matches(pattern, parts):
                return methods, tuple(
                    part for part, name in zip(parts, pattern, strict=True) if name == _IDENTIFIER
                )
        return None, ()


def parse_query(text: str) -> Mapping[str, str]:
    """Return the parameters of a query string; of a repeated one the last, as servers do."""
    return dict(parse_qsl(text, keep_blank_values=True)) if text else {}


def _matches(pattern: tuple[str, ...], parts: list[str]) -> bool:
    return len(pattern) == len(parts) and all(
        part and name in (_IDENTIFIER, part) for name, part in zip(pattern, parts, strict=True)
    )


def _refuse_path(_: Call) -> Answer:
    raise Refusal(HTTPStatus.NOT_FOUND, NOT_FOUND, "The requested resource does not exist.", "No such path.")


def _refuse_method(_: Call) -> Answer:
    raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, INVALID_VALUE, "The method is not allowed for this path.")


_UNKNOWN_PATH: Final = Endpoint("unknown", Dialect.IDENTITY, _refuse_path)
_WRONG_METHOD: Final = Endpoint("unknown", Dialect.IDENTITY, _refuse_method)
