"""The URL of a queue, and the password that belongs to it. Pure; the environment is an argument.

No sentence here repeats a URL, and no repr holds user or password.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from permutive_worker.errors import ConfigurationError

VARIABLE: Final = "PERMUTIVE_WORKER_SOURCE__PASSWORD"  # the name of a variable


class Address:
    """Where a queue is.

    Attributes:
        scheme, host, path: as in the URL; the path without its first slash, still percent-encoded.
        authority: host and port as they are written; `host` is in lower case.
        port: None if the URL has none.
        user, password: decoded; the password of the environment wins over one in the URL.
        password_in_url: tell the person: it stands in the process list and the shell's history.
        parameters: of the query, each once.
    """

    def __init__(self, parts: SplitResult, password: str | None) -> None:
        self.scheme = parts.scheme
        self.host = parts.hostname or ""
        self.authority = parts.netloc.rpartition("@")[2]
        self.port = parts.port
        self.path = parts.path.removeprefix("/")
        self.user = unquote(parts.username) if parts.username else None
        self.password_in_url = parts.password is not None
        self.password = password or (unquote(parts.password) if parts.password else None)
        self.parameters = dict(parse_qsl(parts.query, keep_blank_values=True))

    def __repr__(self) -> str:
        return f"<Address {self.where}>"

    @property
    def where(self) -> str:
        """The URL without user-info and query, for sentences and logs."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port is not None else ""
        return f"{self.scheme}://{host}{port}/{self.path}".rstrip("/")

    def segments(self) -> list[str]:
        """The parts of the path, decoded."""
        return [unquote(part) for part in self.path.split("/") if part]

    def take(self, known: Mapping[str, str | None]) -> dict[str, str]:
        """Return a value for each of `known`, which has the defaults; None is a parameter that must be given.

        Raises:
            ConfigurationError: a parameter is unknown, missing or empty.
        """
        for name in self.parameters:
            if name not in known:
                near = get_close_matches(name.lower(), known, n=1, cutoff=0.6)
                meant = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
                raise ConfigurationError(f"{self.where} has no parameter {name[:40]!r}; {meant}")
        values = {name: self.parameters.get(name, default) for name, default in known.items()}
        for name, value in values.items():
            if value is None or (not value and known[name] != ""):
                raise ConfigurationError(f"{self.where} needs a {name}: add ?{name}=… to the URL")
        return {name: value or "" for name, value in values.items()}

    def number(self, name: str, text: str, least: float) -> float:
        """Read the parameter `name` as a number. Raises ConfigurationError."""
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not least <= value < 1e9:
            raise ConfigurationError(f"{self.where}: {name} must be a number of at least {least:g}")
        return value

    def switch(self, name: str, text: str) -> bool:
        """Read the parameter `name` as yes or no. Raises ConfigurationError."""
        match text.lower():
            case "yes" | "true" | "1" | "on":
                return True
            case "no" | "false" | "0" | "off" | "":
                return False
        raise ConfigurationError(f"{self.where}: {name} must be yes or no")


def parse_address(url: str, environ: Mapping[str, str], password_variable: str = VARIABLE) -> Address:
    """Read the URL of a queue; the password may be in `password_variable`, or in the file its `_FILE` names.

    Raises:
        ConfigurationError: it is no URL, names a parameter twice, or the password file cannot be read.
    """
    try:
        parts = urlsplit(url)
        if parts.port == 0:
            raise ValueError
    except ValueError:
        raise ConfigurationError("the URL of the queue cannot be read: it is SCHEME://HOST:PORT/…") from None
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigurationError(f"the URL of the queue has the parameter {twice[:40]!r} twice")
    if parts.fragment:
        raise ConfigurationError("the URL of the queue holds a #: write it as %23")
    return Address(parts, _password(environ, password_variable))


def is_url(text: str) -> bool:
    """Whether an input on the command line means a queue and no file."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme.replace("+", "").isalnum()


def _password(environ: Mapping[str, str], variable: str) -> str | None:
    file = environ.get(f"{variable}_FILE", "").strip()
    if not file:
        return environ.get(variable) or None
    try:
        text = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigurationError(f"{variable}_FILE names a file that cannot be read: {reason}") from None
    if not text:
        raise ConfigurationError(f"{variable}_FILE names a file that is empty")
    return text
