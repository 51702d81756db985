"""Why a line is no job, as a sentence for the person who wrote it.

A sentence names the field and the fault, `aliases[1].priority: expected int, got bool`, and never holds
the value of an identifier: msgspec's own texts may, so only known forms of them are passed on.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from permutive_worker.jobs.alias import Alias, RankedAlias
from permutive_worker.jobs.line import FIELDS, Int64, Line
from permutive_worker.jobs.segmentation import TimedEvent
from permutive_worker.model import Reason

# All that decoding any bytes can raise.
DECODE_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_TOO_DEEP: Final = "nested too deep"
_SHOWN_CHARACTERS: Final = 60  # of a name that came from the line

_TEXT: Final = msgspec.json.Decoder(str)
_JOB_ID: Final = msgspec.json.Decoder(str | Int64 | None)
_NESTED: Final[Mapping[str, type[msgspec.Struct]]] = {
    "alias": Alias,
    "aliases": RankedAlias,
    "events": TimedEvent,
}
_AT: Final = re.compile(r"(.*) - at `\$([^`]*)`", re.DOTALL)
_MISSING: Final = re.compile("Object missing required field `(.*)`", re.DOTALL)
_UNKNOWN: Final = re.compile("Object contains unknown field `(.*)`", re.DOTALL)
_PLAIN: Final = ("Expected ", "Integer value out of range", "Number out of range")

Fields = dict[str, msgspec.Raw]


class Fault(msgspec.Struct, frozen=True):
    """A line that is no job.

    Attributes:
        reason: MALFORMED or INVALID.
        message: one sentence for people.
        kind: the type of the line if it is a known one, else "".
        job_id: of the line, if it has a valid one.
    """

    reason: Reason
    message: str
    kind: str = ""
    job_id: str | int | None = None


def read_fields(raw: bytes) -> Fields | Fault:
    """Return the fields of a JSON object without looking into them, or why it is none."""
    try:
        raw.decode()
        return FIELDS.decode(raw)
    except UnicodeDecodeError as error:
        fault = f"not UTF-8 at byte {error.start}"
    except RecursionError:
        fault = _TOO_DEEP
    except msgspec.ValidationError as error:
        fault = str(error).replace("`", "").replace("Expected object", "expected a JSON object")
    except msgspec.DecodeError as error:
        fault = _not_json(str(error))
    return Fault(Reason.MALFORMED, fault)


def _not_json(text: str) -> str:
    if text == "Input data was truncated":
        return "not JSON: it breaks off, or holds half of a surrogate pair"
    return text.replace("JSON is malformed", "not JSON")


def explain(
    fields: Fields, error: Exception, kinds: Mapping[str, type[Line]], default_kind: str | None
) -> Fault:
    """Return the fault of a JSON object that `error` says is no job."""
    if isinstance(error, RecursionError):  # it was just not too deep for `read_fields`
        return Fault(Reason.MALFORMED, _TOO_DEEP)
    job_id = _job_id(fields)
    if "type" not in fields and default_kind is None:
        return Fault(Reason.INVALID, "type: missing; add it to the line or say --type KIND", "", job_id)
    kind = _text(fields["type"]) if "type" in fields else default_kind
    if kind is None:
        return Fault(Reason.INVALID, "type: expected str", "", job_id)
    if kind not in kinds:
        return Fault(
            Reason.INVALID, f'type: unknown kind "{_shown(kind)}"; known: {", ".join(kinds)}', "", job_id
        )
    return Fault(Reason.INVALID, _sentence(str(error), kinds[kind]), kind, job_id)


def _text(raw: msgspec.Raw) -> str | None:
    try:
        return _TEXT.decode(raw)
    except msgspec.ValidationError:
        return None


def _job_id(fields: Fields) -> str | int | None:
    try:
        return _JOB_ID.decode(fields["job_id"]) if "job_id" in fields else None
    except msgspec.ValidationError:
        return None


def _sentence(text: str, job_type: type[Line]) -> str:
    """Say what msgspec said, or what one of our own checks said, in our form."""
    what, path = _split(text)
    if found := _MISSING.fullmatch(what):
        return f"{_join(path, found[1])}: missing"
    if found := _UNKNOWN.fullmatch(what):
        return f"{_join(path, _shown(found[1]))}: unknown field{_did_you_mean(found[1], path, job_type)}"
    if what.startswith("Invalid enum value"):
        return f"{path}: unknown; known: permutive"
    if what.startswith(_PLAIN):
        what = what.replace("`", "").replace(" | null", "").replace(" | ", " or ")
        return f"{path}: {what[0].lower()}{what[1:]}"
    if what[:1].islower():  # ours: "field: fault"
        return _join(path, what)
    return f"{path or 'line'}: not valid"


def _split(text: str) -> tuple[str, str]:
    """Return what is wrong and where, of `what - at `$.where``."""
    found = _AT.fullmatch(text)
    return (found[1], found[2].lstrip(".")) if found else (text, "")


def _join(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field


def _did_you_mean(name: str, path: str, job_type: type[Line]) -> str:
    struct = _NESTED.get(re.split(r"[.\[]", path)[0], job_type)
    near = difflib.get_close_matches(_shown(name), _names(struct), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def _names(struct: type[msgspec.Struct]) -> Iterable[str]:
    return [*struct.__struct_encode_fields__, *(["type"] if issubclass(struct, Line) else [])]


def _shown(name: str) -> str:
    """Return a name from the line as it may stand in a sentence: short, on one line, printable."""
    text = "".join(letter if letter.isprintable() else "?" for letter in name[:_SHOWN_CHARACTERS])
    return text if len(name) <= _SHOWN_CHARACTERS else f"{text}…"
