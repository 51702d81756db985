"""Where values come from: file, environment, flags; each layer as a map from key to what was given.

Every layer refuses what it does not know, all of it in one message. A value that a `${VARIABLE}`
brought into the file is never shown: it may be a secret in the wrong place.
"""

import re
import tomllib
from collections.abc import Container, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import msgspec

from permutive_worker.config.key import VARIABLE_PREFIX, Key
from permutive_worker.config.permutive_api import VARIABLES, positive_number
from permutive_worker.errors import ConfigurationError

Keys = Mapping[str, Key]

_REFERENCE: Final = re.compile(r"\$\{([^}]*)(\}?)")
# What Kubernetes sets in every pod beside a Service called permutive-worker or permutive-worker-….
_SERVICE_LINK: Final = re.compile(
    r"PERMUTIVE_WORKER_(?:[A-Z0-9_]*_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)
_SECRET: Final = re.compile(r"key|token|secret|passw|credential", re.IGNORECASE)
_SECRETS_ARE_ELSEWHERE: Final = (
    "secrets are not taken from here, the API key comes from PERMUTIVE_API_KEY_FILE, PERMUTIVE_API_KEY or "
    "PERMUTIVE_APPLICATION_CREDENTIALS"
)


# The password of a queue is a secret: read where the queue is opened, no key of the configuration.
_SECRET_VARIABLES: Final = (
    "PERMUTIVE_WORKER_SOURCE__PASSWORD",
    "PERMUTIVE_WORKER_SOURCE__PASSWORD_FILE",
    "PERMUTIVE_WORKER_RATE_LIMIT__SHARED_PASSWORD",
    "PERMUTIVE_WORKER_RATE_LIMIT__SHARED_PASSWORD_FILE",
)


class Given(msgspec.Struct, frozen=True):
    """A value somebody gave for a key.

    Attributes:
        label: the key as that person wrote it, for sentences: `--rate`, a variable, `key in FILE`.
        origin: where it stands, for `config show`: a flag, a variable, a file.
        hidden: never to be shown, not even in an error.
        text: how it was written, where that may be shown and `value` may not.
    """

    value: Any
    label: str
    origin: str
    hidden: bool = False
    text: str | None = None


Layer = dict[str, Given]


def permutive_api_layer(environ: Mapping[str, str]) -> Layer:
    """What PermutiveAPI's own variables say; blank is unset."""
    return {
        name: Given(positive_number(variable, text), variable, variable)
        for variable, (name, _) in VARIABLES.items()
        if (text := environ.get(variable, "").strip())
    }


def environment_layer(environ: Mapping[str, str], keys: Keys) -> Layer:
    """What `PERMUTIVE_WORKER_<SECTION>__<KEY>` say; blank is unset."""
    by_variable = {key.variable: key for key in keys.values()}
    ours = [name for name in environ if name.startswith(VARIABLE_PREFIX) and not _is_no_key(name)]
    _refuse(unknown_name(name, "is no variable of the worker", by_variable) for name in ours)
    return {
        by_variable[name].name: Given(by_variable[name].parse(environ[name]), name, name)
        for name in ours
        if environ[name].strip()
    }


def override_layer(overrides: Mapping[str, Any], spelling: Mapping[str, str], keys: Keys) -> Layer:
    """What the command line, or whoever embeds the worker, says; text is converted.

    `spelling` has how the person wrote a key (`--rate`); it is the key itself if it is not there.
    """
    _refuse(unknown_name(str(name), "is no key of the configuration", keys) for name in overrides)
    return {
        name: Given(
            keys[name].parse(value) if isinstance(value, str) else value,
            spelling.get(name, name),
            spelling.get(name, "override"),
        )
        for name, value in overrides.items()
    }


def file_layer(path: Path, environ: Mapping[str, str], keys: Keys) -> Layer:
    """What a TOML file says, `${VARIABLE}` in its text replaced.

    Raises:
        ConfigurationError: it cannot be read, is no TOML, has unknown keys, or names an unset variable.
    """
    values = dict(_flatten(_read_toml(path), {key.section for key in keys.values()}))
    _refuse(unknown_name(name, f"in {path} is no key of the configuration", keys) for name in values)
    unset = {name: _unset(value, environ) for name, value in values.items()}
    _refuse(
        f"{name} in {path} names ${{{variable}}}, and no such variable is set; set it or take it out"
        for name, variables in unset.items()
        for variable in variables
    )
    return {name: _from_file(keys[name], value, path, environ) for name, value in values.items()}


def refuse_faults(layer: Layer, keys: Keys) -> None:
    """Raise ConfigurationError for every value that its key cannot take."""
    _refuse(
        given.label + " " + fault + ("" if given.hidden else keys[name].shown(given.value))
        for name, given in layer.items()
        if (fault := keys[name].fault(given.value))
    )


def unknown_name(name: str, fault: str, known: Mapping[str, Key]) -> str | None:
    """Complain of a name that is not known, and say which one was probably meant; None if it is known."""
    if name in known:
        return None
    if is_secret(name):
        return f"{name} {fault}: {_SECRETS_ARE_ELSEWHERE}"
    meant = _meant(name, known)
    return f"{name} {fault}" + (f"; did you mean {meant}?" if meant else "")


def is_secret(name: str) -> bool:
    """Whether a flag, a key or a variable of that name would hold a secret."""
    return _SECRET.search(name) is not None


def _from_file(key: Key, value: Any, path: Path, environ: Mapping[str, str]) -> Given:
    label = f"{key.name} in {path}"
    if not isinstance(value, str):
        return Given(value, label, str(path))
    if _REFERENCE.search(value):
        text = _REFERENCE.sub(lambda reference: environ[reference[1]], value)
        return Given(key.parse(text), label, str(path), hidden=True, text=value)
    is_size = key.field.endswith("_bytes")  # TOML has numbers, so only sizes are worth a conversion
    return Given(key.parse(value) if is_size else value, label, str(path))


def _unset(value: Any, environ: Mapping[str, str]) -> list[str]:
    references = _REFERENCE.findall(value) if isinstance(value, str) else []
    return [name for name, closed in references if not closed or name not in environ]


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        fault = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        fault = "is not UTF-8 text"
    except tomllib.TOMLDecodeError as error:
        fault = f"is no TOML: {error}"  # tomllib tells the place and never more than one character
    except (RecursionError, ValueError):
        fault = "is no TOML: it is nested too deep or holds a number that is too long"
    raise ConfigurationError(f"The configuration file {path} {fault}")


def _flatten(document: Mapping[str, Any], sections: Container[str]) -> Iterator[tuple[str, Any]]:
    for section, table in document.items():
        if isinstance(table, dict) and (table or section in sections):
            yield from ((f"{section}.{field}", value) for field, value in table.items())
        else:
            yield section, table


def _is_no_key(variable: str) -> bool:
    return variable in _SECRET_VARIABLES or (
        "__" not in variable and _SERVICE_LINK.fullmatch(variable) is not None
    )


def _meant(name: str, known: Mapping[str, Key]) -> str | None:
    """Find the nearest name, by the whole of it, by its last part, or by the flag it may come from."""
    words = {
        _bare(word): full for full, key in known.items() for word in (key.flag or "", key.field, key.name)
    }
    asked = _bare(name.removeprefix(VARIABLE_PREFIX).replace("__", "."))
    last = asked.rpartition(".")[2]
    near = get_close_matches(asked, words, n=1, cutoff=0.7) or get_close_matches(last, words, n=1, cutoff=0.7)
    return words.get(last) or (words[near[0]] if near else None)


def _bare(word: str) -> str:
    return word.lower().removeprefix("--").replace("-", "_")


def _refuse(problems: Iterable[str | None]) -> None:
    sentences = [problem for problem in problems if problem]
    if sentences:
        raise ConfigurationError("\n".join(sentences))
