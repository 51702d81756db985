"""An id or a code as one part of a path."""

from urllib.parse import quote


def check_path_part(field: str, value: str | None) -> None:
    """Raise ValueError for what no escaping makes one part of a path: servers take dots for a way up."""
    if value in {".", ".."}:
        raise ValueError(f"{field}: . and .. cannot stand in a path")


def path_part(value: str) -> str:
    """Escape everything that has a meaning in a URL, `/` too."""
    return quote(value, safe="")
