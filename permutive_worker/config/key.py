"""One key of the configuration: its type, its default, its help, and what is wrong with a value.

A section is a frozen Struct whose fields are `Annotated[type, setting(help, flag)]`; bounds stand in
the type as msgspec constraints. Everything that speaks of keys reads them from there: the check, the
conversion of text, the flags and their help.
"""

import math
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import inspect

VARIABLE_PREFIX: Final = "PERMUTIVE_WORKER_"

_SIZE: Final = re.compile(r"(\d{1,18})\s*([kmg]?)(i?)b", re.IGNORECASE)
_POWER: Final = {"": 0, "k": 1, "m": 2, "g": 3}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean lean?`, or nothing if no known word is near."""
    near = get_close_matches(word.lower(), list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def setting(help_text: str, flag: str | None = None, *, reloads: bool = False) -> msgspec.Meta:
    """Describe a key. `flag` is spelled as in the help, with what it takes: `--rate N`."""
    return msgspec.Meta(description=help_text, extra={"flag": flag, "reloads": reloads})


class Key(msgspec.Struct, frozen=True):
    """One key, such as `rate_limit.rate_per_second`.

    Attributes:
        type: as annotated, with its bounds.
        flag: `--rate`, None if the key has no flag of its own; `metavar` is what it takes.
        reloads: a running worker can take another value (SIGHUP).
    """

    section: str
    field: str
    type: Any
    default: Any
    help: str
    flag: str | None
    metavar: str | None
    reloads: bool = False

    @property
    def name(self) -> str:
        return f"{self.section}.{self.field}"

    @property
    def variable(self) -> str:
        return f"{VARIABLE_PREFIX}{self.section}__{self.field}".upper()

    @property
    def choices(self) -> tuple[Any, ...]:
        """The words it may be, as they are written; `()` if it is no choice."""
        plain = get_args(self.type)[0]  # of Annotated
        return get_args(plain) if get_origin(plain) is Literal else ()

    @property
    def is_free_text(self) -> bool:
        return isinstance(_plain(self.type), inspect.StrType)

    def parse(self, text: str) -> Any:
        """Turn text, as a variable or a flag holds it, into a value.

        Empty text is None where the key may be unset; sizes may carry a unit (`1MiB`, `24 MB`). Text
        that cannot be converted comes back as it is, for `fault` to refuse.
        """
        text = text.strip()
        if not text and self.default is None:
            return None
        if self.field.endswith("_bytes") and (size := _SIZE.fullmatch(text)):
            digits, unit, binary = size.groups()
            return int(digits) * (1024 if binary else 1000) ** _POWER[unit.lower()]
        try:
            return msgspec.convert(text, _unbounded(self.type), strict=False)
        except msgspec.ValidationError:
            return text

    def fault(self, value: Any) -> str | None:
        """Say what the value must be, None if it is. Never repeats the value."""
        try:
            msgspec.convert(value, self.type)
        except msgspec.ValidationError:
            return f"must be {self._expected()}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"must be {self._expected()}"
        return None

    def shown(self, value: Any) -> str:
        """Continue the sentence of `fault` with what was found; nothing if it may be private."""
        if self.is_free_text:
            return ""
        match value:
            case dict():
                return ", got a table"
            case list():
                return ", got a list"
            case str():
                return f", got {value[:40]!r}{did_you_mean(value, self.choices)}"
            case bool():
                return f", got {str(value).lower()}"
            case float():
                return f", got {value:g}"
            case int():
                return f", got {value}" if abs(value) < 10**15 else ", got a number far too large"
        return f", got a {type(value).__name__}"

    def _expected(self) -> str:
        match _plain(self.type):
            case inspect.LiteralType():
                return "one of " + ", ".join(self.choices)
            case inspect.BoolType():
                return "true or false"
            case inspect.IntType() as whole:
                noun = "a whole number"
                if self.field.endswith("_bytes"):
                    noun += " of bytes, or a size such as 1MiB,"
                return noun + _bounds(whole)
            case inspect.FloatType() as number:
                return "a number" + _bounds(number)
        return "text that is not empty"


def keys_of(settings: type[msgspec.Struct]) -> Iterator[Key]:
    """Give every key of a Struct of sections, in the order they are written."""
    for section, section_type in get_type_hints(settings).items():
        hints = get_type_hints(section_type, include_extras=True)
        for field in msgspec.structs.fields(section_type):
            info = inspect.type_info(hints[field.name])
            meta = info if isinstance(info, inspect.Metadata) else inspect.Metadata(info)
            extra = meta.extra or {}
            flag, _, metavar = (extra.get("flag") or "").partition(" ")
            yield Key(
                section=section,
                field=field.name,
                type=hints[field.name],
                default=field.default,
                help=(meta.extra_json_schema or {}).get("description", ""),
                flag=flag or None,
                metavar=metavar or None,
                reloads=extra.get("reloads", False),
            )


def _plain(annotated: Any) -> inspect.Type:
    """The one type behind the metadata and the `| None`."""
    info = inspect.type_info(annotated)
    if isinstance(info, inspect.Metadata):
        info = info.type
    if isinstance(info, inspect.UnionType):
        return next(member for member in info.types if not isinstance(member, inspect.NoneType))
    return info


def _unbounded(annotated: Any) -> Any:
    """The type text is converted to; its bounds are for `fault`, which can then say the number."""
    match _plain(annotated):
        case inspect.IntType():
            return int
        case inspect.FloatType():
            return float
        case inspect.BoolType():
            return bool
    return str


def _bounds(number: inspect.IntType | inspect.FloatType) -> str:
    low, high = _written(number.ge), _written(number.le)
    if low and high:
        return f" from {low} to {high}"
    if low:
        return f" of at least {low}"
    return f" above {_written(number.gt)} and at most {high}"


def _written(bound: float | None) -> str:
    return "" if bound is None else f"{int(bound) if bound == int(bound) else bound:,}"
