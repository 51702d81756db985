"""The JSON schema of the configuration file, for editors and for checks before a deployment."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from permutive_worker.config.key import Key
from permutive_worker.config.settings import KEYS, Settings
from permutive_worker.jobs.decode import KINDS

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE: Final = {"type": "string", "pattern": r"\$\{[^}]+\}"}  # a variable may hold any value
_SIZE: Final = {"type": "string", "pattern": r"^\s*[0-9]{1,18}\s*([kKmMgG]?[iI]?)[bB]\s*$"}


def file_schema(keys: Mapping[str, Key] = KEYS) -> dict[str, Any]:
    """Return the schema (draft 2020-12) of what `--config` reads, as JSON would say it."""
    sections: dict[str, dict[str, Any]] = {}
    for section in msgspec.structs.fields(Settings):
        sections[section.name] = {
            "type": "object",
            "description": (section.type.__doc__ or "").strip(),
            "additionalProperties": False,
            "properties": {key.field: _of(key) for key in keys.values() if key.section == section.name},
        }
    return {
        "$schema": DIALECT,
        "title": "The configuration of permutive-worker",
        "type": "object",
        "additionalProperties": False,
        "properties": sections,
    }


def _of(key: Key) -> dict[str, Any]:
    told = msgspec.json.schema(key.type)
    value = {name: part for name, part in told.items() if name not in ("description", "anyOf")}
    for member in told.get("anyOf", ()):  # a file cannot say null: a key that may be unset is left out
        if member != {"type": "null"}:
            value |= member
    if key.name == "input.type":
        value = {"type": "string", "enum": list(KINDS)}
    forms = [value, *([_SIZE] if key.field.endswith("_bytes") else [])]
    # A string that is free takes a reference as it is.
    if value.get("type") != "string" or "enum" in value:
        forms.append(_REFERENCE)
    default = {} if key.default is None else {"default": key.default}
    return {"description": key.help, **default, **(forms[0] if len(forms) == 1 else {"anyOf": forms})}
