"""The free-form parts, of an event or a cohort: checked at their edges, sent byte for byte."""

import re
from typing import Final

import msgspec

# The API's "950 KB", read generously: what is on the edge, the API decides.
MAX_PROPERTIES_BYTES: Final = 950 * 1024

_is_name: Final = re.compile("[A-Za-z0-9_]+").fullmatch


def check_properties(properties: msgspec.Raw) -> None:
    """Raise ValueError unless it is a JSON object in UTF-8 of a size the API takes.

    The decoder has checked that it is JSON; it does not look at the encoding of what stays raw.
    """
    check_object("properties", properties)
    if len(bytes(properties)) > MAX_PROPERTIES_BYTES:
        raise ValueError(f"properties: {len(bytes(properties))} bytes, the API takes {MAX_PROPERTIES_BYTES}")


def check_object(field: str, value: msgspec.Raw) -> None:
    """Raise ValueError unless it is a JSON object in UTF-8; that it is JSON the decoder has checked."""
    raw = bytes(value)
    if not raw.startswith(b"{"):
        raise ValueError(f"{field}: expected object")
    if not raw.isascii():
        raw.decode()


def check_event_name(name: str) -> None:
    """Raise ValueError unless the API takes it as the name of an event."""
    if not _is_name(name):
        raise ValueError("name: expected letters A-Z a-z, digits and _ only")
