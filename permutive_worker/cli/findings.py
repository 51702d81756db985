"""What `check` finds: one finding for each thing that a run needs, without a connection to anybody else."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from yarl import URL

from permutive_worker.admin.server import parse_listen
from permutive_worker.cli.descriptors import ensure_descriptors, needed_descriptors
from permutive_worker.cli.plan import size
from permutive_worker.config import Loaded, Settings, proxy_from_environment
from permutive_worker.credentials import KEY, KEY_FILE, WORKSPACES, Keyring
from permutive_worker.errors import ConfigurationError, CredentialsError, UsageError, WorkerError
from permutive_worker.http.address import is_loopback
from permutive_worker.http.tls import trusting
from permutive_worker.outcomes.ndjson import prove_writable
from permutive_worker.outcomes.paths import refuse_shared_files
from permutive_worker.sources.address import is_url
from permutive_worker.sources.files import FileSource
from permutive_worker.worker.inputs import input_files
from permutive_worker.worker.lanes import choose_wire
from permutive_worker.worker.limiters import shared_where
from permutive_worker.worker.queues import open_publisher


class Mark(Enum):
    """How it stands."""

    GOOD = "good"
    WARNING = "warning"  # a run would start
    BAD = "bad"  # it would not


class Finding(NamedTuple):
    """One line: what was looked at, and what is so or what to do. `exit_code` is that of a run that ends of it."""

    mark: Mark
    what: str
    told: str
    exit_code: int = 0


async def found(what: str, look: Callable[[], Awaitable[str] | str]) -> Finding:
    """Look; what is wrong is told as a run would tell it."""
    try:
        told = look()
        return Finding(Mark.GOOD, what, told if isinstance(told, str) else await told)
    except WorkerError as error:
        return Finding(Mark.BAD, what, str(error), error.exit_code)


async def findings(
    loaded: Loaded, keyring: Keyring | CredentialsError, inputs: Sequence[str]
) -> AsyncIterator[Finding]:
    """Look at all of it; `inputs` may be none."""
    settings = loaded.settings
    yield Finding(Mark.GOOD, "settings", _origins(loaded))
    for finding in _key(settings, keyring):
        yield finding
    output = settings.output
    yield await found("outputs", lambda: _apart(settings))
    yield await found("dead letters", lambda: _writable(output.dead_letters))
    if output.results is not None:
        yield await found("results", lambda: _writable(output.results or ""))
    if output.summary is not None:
        yield await found("summary", lambda: _writable(output.summary or ""))
    if output.metrics is not None:
        yield await found("metrics file", lambda: _writable(output.metrics or ""))
    if not inputs or not (is_url(inputs[0]) or inputs[0] == "-"):  # made for files only
        state = await found("state", lambda: _state(settings))
        needed = inputs or state.mark is Mark.GOOD
        yield state if needed else Finding(Mark.WARNING, "state", f"{state.told}; only files need it")
    if inputs:
        yield await found("inputs", lambda: _inputs(settings, inputs))
    yield _api(settings)
    if settings.http.ca_file is not None:
        yield await found("CA file", lambda: _authorities(settings.http.ca_file or ""))
    yield await found("proxy", lambda: _proxy(settings))
    yield await found("rate", lambda: _rate(settings))
    yield await found("wire", lambda: _wire(settings))
    workspaces = len(keyring) if isinstance(keyring, Keyring) else 1
    yield await found("open files", lambda: _open_files(settings, workspaces))
    if settings.admin.listen is not None:
        yield await found("admin", lambda: _admin(settings.admin.listen or ""))


def _key(settings: Settings, keyring: Keyring | CredentialsError) -> Iterator[Finding]:
    if isinstance(keyring, CredentialsError):
        yield Finding(Mark.BAD, "key", str(keyring), keyring.exit_code)
        return
    yield Finding(Mark.GOOD, "key", f"from {_variable()}{_workspaces(keyring)}")
    for warning in keyring.warnings:
        yield Finding(Mark.WARNING, "key", warning)
    if len(keyring) > 1 or settings.input.workspace is not None:
        try:
            name = keyring.default(settings.input.workspace).name
            yield Finding(Mark.GOOD, "workspace", f"lines that name none go to {name}")
        except CredentialsError as error:
            yield Finding(Mark.BAD, "workspace", str(error), error.exit_code)


def _variable() -> str:
    return next(name for name in (KEY_FILE, KEY, WORKSPACES) if os.environ.get(name, "").strip())


def _workspaces(keyring: Keyring) -> str:
    return f", for {', '.join(one.name for one in keyring)}" if len(keyring) > 1 else ""


def _origins(loaded: Loaded) -> str:
    given = [origin for origin in loaded.origins.values() if origin != "default"]
    names = ", ".join(dict.fromkeys(given))
    return (
        f"{len(given)} of {len(loaded.origins)} keys are set, by {names}"
        if given
        else "all keys have their defaults"
    )


def _apart(settings: Settings) -> str:
    output = settings.output
    refuse_shared_files(output.dead_letters, output.results, output.summary, output.metrics)
    return "no two are one file"


def _writable(path: str) -> str:
    if path == "-":
        return "stdout"
    prove_writable(Path(path))
    return f"{path} can be written"


def _state(settings: Settings) -> str:
    directory = Path(os.path.abspath(settings.state.dir))
    there = next(place for place in (directory, *directory.parents) if os.path.lexists(place))
    try:
        prove_writable(there / "checkpoint")
    except ConfigurationError:
        raise ConfigurationError(
            f"checkpoints cannot be kept in {settings.state.dir}: let this user write to {there}, "
            "or name another directory with --state-dir"
        ) from None
    return (
        f"{settings.state.dir} can be written" if there == directory else f"{settings.state.dir} will be made"
    )


async def _inputs(settings: Settings, inputs: Sequence[str]) -> str:
    if any(map(is_url, inputs)):
        if len(inputs) > 1:
            raise UsageError("a queue cannot be mixed with other inputs: start a worker for each")
        await open_publisher(inputs[0], create=False).close()  # the URL is sound, and its library installed
        return "a queue; whether it is there is found by --connect"
    if list(inputs) == ["-"]:
        return "stdin"
    paths = input_files(settings, inputs)
    source = FileSource(paths, settings.input.max_line_bytes)
    try:
        await source.open()
        total_bytes = source.bytes_total()
    finally:
        await source.close()
    files = "1 file" if len(paths) == 1 else f"{len(paths):,} files"
    return files if total_bytes is None else f"{files}, {size(total_bytes)}"


def _api(settings: Settings) -> Finding:
    url = URL(settings.http.base_url)
    if url.scheme == "http" and not is_loopback(url.host or ""):
        return Finding(Mark.WARNING, "API", f"{url}: the key goes over the network in clear")
    return Finding(Mark.GOOD, "API", str(url))


def _authorities(path: str) -> str:
    trusting(path)
    return f"{path} is trusted too"


def _proxy(settings: Settings) -> str:
    proxy = proxy_from_environment(settings.http.base_url, os.environ)
    if proxy is None:
        return "none"
    url = URL(proxy)
    return f"{url.host}:{url.port}, as the environment says"  # never its user and password


def _rate(settings: Settings) -> str:
    limit = settings.rate_limit
    if not limit.rate_per_second:
        return "found by trying, as fast as the API allows (--rate sets a ceiling)"
    burst = limit.burst or max(1.0, limit.rate_per_second / 20)
    told = f"{limit.rate_per_second:g} requests a second for each workspace, {burst:g} more at once"
    return f"{told}, shared by {shared_where(settings)}" if limit.shared is not None else told


async def _wire(settings: Settings) -> str:
    choice = await choose_wire(settings.http.wire)
    return f"{choice.kind}, for {choice.fallback}" if choice.fallback else choice.kind


def _open_files(settings: Settings, workspaces: int) -> str:
    ensure_descriptors(settings, workspaces)
    return f"{needed_descriptors(settings, workspaces)} may be needed, and are allowed"


async def _admin(listen: str) -> str:
    host, port = parse_listen(listen)
    try:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port)
    except OSError as error:
        raise ConfigurationError(
            f"nothing can listen on {host}:{port}: {error.strerror or 'is it this machine?'}; choose another address "
            "with --admin HOST:PORT, or stop the program that has this one"
        ) from None
    server.close()
    return f"{host}:{port} is free"
