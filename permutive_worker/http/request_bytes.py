"""The bytes of a request: one format string, its head built once for each path.

Nothing of the caller's can break a request: a carriage return or a line feed in it is refused (RFC 9112, 11.1).
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from yarl import URL

from permutive_worker import __version__
from permutive_worker.credentials import Credentials
from permutive_worker.model import Request

MAX_CACHED_HEADS: Final = 64  # the paths without an id; building one costs 2 µs

_METHOD: Final = re.compile(r"[A-Z]+")
_TARGET: Final = re.compile(r"[!\"$-~]+")  # visible ASCII without #: nothing here can end the request line
_VALUE: Final = re.compile(r"[!-~]+")


class RequestBytes:
    """Writes the requests of one set of credentials to one host."""

    def __init__(
        self,
        base: URL,
        target: Mapping[str, str],
        credentials: Credentials,
        proxy_fields: Mapping[str, str] | None,
    ) -> None:
        """`target` holds what says and opens the host; `proxy_fields` go to a proxy that reads the requests itself.

        The key is looked up for each request, so a replaced one is used at once.
        """
        self._credentials = credentials
        self._key = ""  # the one in the heads
        self._heads: dict[str, bytes] = {}  # of POST requests, by path, up to the value of Content-Length
        prefix = base.raw_path.rstrip("/")
        # A proxy that reads the request wants to know where it goes (RFC 9112, 3.2.2).
        self._prefix = prefix if proxy_fields is None else f"{base.origin()}{prefix}"
        self._fields = _fields(target, proxy_fields or {})

    def of(self, request: Request) -> bytes:
        """Return all of it.

        Raises:
            ValueError: method, path or key hold what would break the request; the message holds none of them.
        """
        if self._credentials.key is not self._key:
            self._key = self._credentials.key
            self._heads.clear()
        if request.key_in_query or request.method != "POST":
            return self._rare(request)
        head = self._heads.get(request.path) or self._post_head(request.path)
        return b"%b%d\r\n\r\n%b" % (head, len(request.body), request.body)

    def _post_head(self, path: str) -> bytes:
        head = self._head("POST", path, key_in_query=False) + b"Content-Length: "
        if len(self._heads) < MAX_CACHED_HEADS:
            self._heads[path] = head
        return head

    def _rare(self, request: Request) -> bytes:
        head = self._head(request.method, request.path, key_in_query=request.key_in_query)
        if not request.body and request.method in {"GET", "HEAD"}:
            return head + b"\r\n"
        return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(request.body), request.body)

    def _head(self, method: str, path: str, *, key_in_query: bool) -> bytes:
        if key_in_query:
            target = f"{self._prefix}{path}{'&' if '?' in path else '?'}k={quote(self._key, safe='')}"
            fields = self._fields
        else:
            target = self._prefix + path
            fields = f"X-API-Key: {self._key}\r\n{self._fields}"
        if not (_METHOD.fullmatch(method) and _TARGET.fullmatch(target) and _VALUE.fullmatch(self._key)):
            raise ValueError("a request's method, path or key holds a character that must be encoded")
        return f"{method} {target} HTTP/1.1\r\n{fields}".encode("ascii")


def _fields(target: Mapping[str, str], proxy_fields: Mapping[str, str]) -> str:
    """Return what is the same in all requests."""
    fields = {
        **{name: target[name] for name in ("Host", "Authorization") if name in target},
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
        "Content-Type": "application/json",
        "User-Agent": f"permutive-worker/{__version__}",
        **proxy_fields,
    }
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items())
