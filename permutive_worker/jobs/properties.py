"""The free-form part of an event: checked at its edges, sent byte for byte."""

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
    raw = bytes(properties)
    if not raw.startswith(b"{"):
        raise ValueError("properties: expected object")
    if len(raw) > MAX_PROPERTIES_BYTES:
        raise ValueError(f"properties: {len(raw)} bytes, the API takes {MAX_PROPERTIES_BYTES}")
    if not raw.isascii():
        raw.decode()


def check_event_name(name: str) -> None:
    """Raise ValueError unless the API takes it as the name of an event."""
    if not _is_name(name):
        raise ValueError("name: expected letters A-Z a-z, digits and _ only")
