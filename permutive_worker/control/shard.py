"""Which files of many are this worker's, when several machines share the work."""

import hashlib
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

INDEX_VARIABLE: Final = "JOB_COMPLETION_INDEX"  # set by Kubernetes in the pods of an Indexed Job, from 0
_SHARD: Final = re.compile(r"(auto|[1-9]\d{0,5})/([1-9]\d{0,5})")


class Shard(NamedTuple):
    """The `number`th of `of`, from 1."""

    number: int
    of: int

    def takes(self, path: str) -> bool:
        """Whether the file of this path is ours.

        Decided by the path alone, as it is written: a file that comes or goes moves no other, and machines
        that do not see the same files still never share one.
        """
        digest = hashlib.sha256(path.encode(errors="surrogateescape")).digest()
        return int.from_bytes(digest[:8]) % self.of == self.number - 1


def shard_fault(text: str) -> str | None:
    """Say what is wrong with `K/N` or `auto/N`, None if it will do."""
    match = _SHARD.fullmatch(text)
    if match is None or (match[1] != "auto" and int(match[1]) > int(match[2])):
        return "must be K/N with K from 1 to N, such as 3/8, or auto/N"
    return None


def parse_shard(text: str, environ: Mapping[str, str]) -> Shard | None:
    """Read what `shard_fault` finds no fault with; None: `auto`, and the environment does not say which."""
    number, _, count = text.partition("/")
    if number != "auto":
        return Shard(int(number), int(count))
    index = environ.get(INDEX_VARIABLE, "").strip()
    if not index.isdecimal() or int(index) >= int(count):
        return None
    return Shard(int(index) + 1, int(count))
