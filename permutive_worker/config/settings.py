"""Settings: every key of the configuration, what it may be and what it is if nobody says.

Plain values for whoever embeds the worker (`Settings(rate_limit=RateLimit(rate_per_second=100))`), and
`load_settings` for the command line: flags over environment over file over PermutiveAPI's variables
over defaults. There is no key for a secret: those are in `permutive_worker.credentials`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from permutive_worker.config.key import Key, did_you_mean, keys_of, setting
from permutive_worker.config.layers import (
    Given,
    Layer,
    environment_layer,
    file_layer,
    override_layer,
    permutive_api_layer,
    refuse_faults,
)
from permutive_worker.control.shard import shard_fault
from permutive_worker.errors import ConfigurationError
from permutive_worker.http.address import base_url_fault
from permutive_worker.jobs.decode import KINDS

_LONG_SECONDS: Final = 1e9  # 31 years; timers and dates overflow not far beyond
Rate = Annotated[float, Meta(ge=0, le=1e6)]  # a million requests a second is no API
Burst = Annotated[float, Meta(ge=1, le=1e6)]
Seconds = Annotated[float, Meta(gt=0, le=_LONG_SECONDS)]
SecondsFromZero = Annotated[float, Meta(ge=0, le=_LONG_SECONDS)]
Factor = Annotated[float, Meta(gt=0, le=1e6)]
Share = Annotated[float, Meta(gt=0, le=1)]
Count = Annotated[int, Meta(ge=1, le=10**9)]
Processes = Annotated[int, Meta(ge=1, le=256)]  # more than the cores of a machine help nobody
CountFromZero = Annotated[int, Meta(ge=0)]
Bytes = Annotated[int, Meta(ge=1, le=2**40)]
Text = Annotated[str, Meta(min_length=1)]


class RateLimit(msgspec.Struct, frozen=True):
    """How fast requests may leave."""

    rate_per_second: Annotated[
        Rate,
        setting("Requests a second at most; 0 finds the API's limit by itself.", "--rate N", reloads=True),
    ] = 0
    burst: Annotated[
        Burst | None,
        setting(
            "Requests beyond the rate within a second; none is rate / 20, at least 1.",
            "--burst N",
            reloads=True,
        ),
    ] = None
    shared: Annotated[
        Text | None,
        setting("URL of a Redis by which many workers share one rate; needs rate_limit.rate_per_second."),
    ] = None
    max_retry_after_seconds: Annotated[
        SecondsFromZero,
        setting("The longest pause the API may ask for before a finite run stops, with exit code 75."),
    ] = 3600


class Delivery(msgspec.Struct, frozen=True):
    """How often and how long a job is tried."""

    max_in_flight: Annotated[
        Count, setting("Requests under way at most.", "--max-in-flight N", reloads=True)
    ] = 256
    max_attempts: Annotated[
        Count, setting("Attempts that may fail before a job becomes a dead letter.", "--max-attempts N")
    ] = 10
    max_age_seconds: Annotated[
        Seconds | None, setting("Age at which a job becomes a dead letter.", "--max-age SECONDS")
    ] = None
    backoff_initial_seconds: Annotated[Seconds, setting("The longest wait after a first failure.")] = 1
    backoff_factor: Annotated[Factor, setting("What each further failure multiplies the wait by.")] = 2
    backoff_max_seconds: Annotated[Seconds, setting("The longest wait between two attempts.")] = 60
    ambiguous: Annotated[
        Literal["retry", "dead_letter"],
        setting("What becomes of a job the API may have taken without saying so."),
    ] = "retry"
    drain_seconds: Annotated[
        SecondsFromZero, setting("How long a stop waits for the requests under way.")
    ] = 20
    max_halt_seconds: Annotated[
        SecondsFromZero, setting("How long a finite run waits for a refused key before it stops with 77.")
    ] = 900
    max_pending_bytes: Annotated[
        Bytes, setting("Bytes of lines read and not yet settled; at that, reading waits.")
    ] = 24 * 1024 * 1024


class Http(msgspec.Struct, frozen=True):
    """Where the API is."""

    timeout_seconds: Annotated[
        Seconds, setting("Time for one request, from connect to the last byte.", "--timeout SECONDS")
    ] = 10
    base_url: Annotated[Text, setting("Where the API is; a path prefix is fine.", "--base-url URL")] = (
        "https://api.permutive.app"
    )
    allow_http: Annotated[
        bool,
        setting("Allow plain http to another machine, where the key can be read by others.", "--allow-http"),
    ] = False
    ca_file: Annotated[
        Text | None,
        setting(
            "File of certificates to trust beside the system's, such as that of a proxy that inspects TLS."
        ),
    ] = None
    wire: Annotated[
        Literal["auto", "lean", "plain"],
        setting("How requests are sent; auto is lean where it is known good, else plain."),
    ] = "auto"

    def __post_init__(self) -> None:
        """Drop the slash at the end of the URL: paths begin with theirs."""
        if isinstance(self.base_url, str):
            msgspec.structs.force_setattr(self, "base_url", self.base_url.rstrip("/"))


class Input(msgspec.Struct, frozen=True):
    """How lines are read."""

    type: Annotated[Text | None, setting("Kind of the lines that have no `type`.", "--type KIND")] = None
    workspace: Annotated[
        Text | None, setting("Workspace of the lines that name none.", "--workspace NAME")
    ] = None
    max_line_bytes: Annotated[Bytes, setting("A longer line becomes a dead letter.")] = 1024 * 1024
    follow: Annotated[
        bool, setting("Wait for more at the end of a file, and for its successor, until stopped.", "--follow")
    ] = False
    shard: Annotated[
        Text | None,
        setting(
            "Deliver only the Kth of N shares of the files; auto/N takes K from a Kubernetes Indexed Job.",
            "--shard K/N",
        ),
    ] = None
    processes: Annotated[
        Processes,
        setting("Processes that share the files of `run`, for more than one core.", "--processes N"),
    ] = 1
    create: Annotated[
        bool, setting("Make the stream, queue or group of a queue's URL if it is not there.", "--create")
    ] = False


class State(msgspec.Struct, frozen=True):
    """What is remembered of files from run to run."""

    dir: Annotated[Text, setting("Where checkpoints are; made for files only.", "--state-dir DIR")] = (
        ".permutive-worker"
    )
    checkpoint_seconds: Annotated[
        Seconds, setting("How often a checkpoint is written; it is synced to the disk every second.")
    ] = 0.05


class Output(msgspec.Struct, frozen=True):
    """Where outcomes go."""

    results: Annotated[
        Text | None, setting("A line for each delivered job, appended; - is stdout.", "--results PATH|-")
    ] = None
    dead_letters: Annotated[
        Text, setting("A line for each job that failed for good, appended.", "--dead-letters PATH")
    ] = "dead-letters.ndjson"
    summary: Annotated[
        Text | None, setting("The summary of the run as JSON; it is always on stderr.", "--summary PATH")
    ] = None
    metrics: Annotated[
        Text | None,
        setting(
            "The metrics every 15 seconds and at the end, for node_exporter's textfile collector.",
            "--metrics-file PATH",
        ),
    ] = None


class Guard(msgspec.Struct, frozen=True):
    """When a run is so wrong that it stops itself."""

    max_failures: Annotated[
        CountFromZero | None,
        setting("Stop, with exit code 4, at more dead letters than this.", "--max-failures N"),
    ] = None
    max_failure_ratio: Annotated[
        Share,
        setting(
            "Stop, with exit code 4, at this share of dead letters; 1 is never.",
            "--max-failure-ratio R",
        ),
    ] = 0.95


class Admin(msgspec.Struct, frozen=True):
    """The server for metrics and probes."""

    listen: Annotated[
        Text | None, setting("Serve metrics, probes and status; no host is loopback.", "--admin HOST:PORT")
    ] = None


class Log(msgspec.Struct, frozen=True):
    """What is told on stderr."""

    progress: Annotated[
        Literal["auto", "bar", "json", "off"], setting("How progress is shown.", "--progress")
    ] = "auto"
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        setting("The least that is logged.", "--log-level", reloads=True),
    ] = "info"
    format: Annotated[
        Literal["auto", "console", "json"], setting("How the log is written.", "--log-format")
    ] = "auto"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration.

    Raises:
        ConfigurationError: a value that its key cannot take; a ValueError, with a sentence for each.
    """

    rate_limit: RateLimit = RateLimit()
    delivery: Delivery = Delivery()
    http: Http = Http()
    input: Input = Input()
    state: State = State()
    output: Output = Output()
    guard: Guard = Guard()
    admin: Admin = Admin()
    log: Log = Log()

    def __post_init__(self) -> None:
        refuse_faults({name: Given(value, name, "") for name, value in values_of(self).items()}, KEYS)
        if faults := _unmeant(self):
            raise MeaningError(faults)

    @classmethod
    def load(
        cls,
        config: Path | str | None = None,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> "Settings":
        """`load_settings` for embedders; `environ` is the process's own if it is not given."""
        return load_settings(
            Path(config) if config is not None else None,
            os.environ if environ is None else environ,
            overrides or {},
        )


class MeaningError(ConfigurationError):
    """Values of the right type that cannot be meant: `faults` tells them by key."""

    def __init__(self, faults: Mapping[str, str]) -> None:
        super().__init__("\n".join(f"{name} {fault}" for name, fault in faults.items()))
        self.faults = faults


class Loaded(msgspec.Struct, frozen=True):
    """Settings, and for each key where its value came from: a flag, a variable, a file, `default`.

    `references` has the texts of the file that name a `${VARIABLE}`: show them, and not the values.
    `held` has the keys of which the file says something else than what holds them, and what that is.
    """

    settings: Settings
    origins: dict[str, str]
    references: dict[str, str] = {}  # msgspec copies an empty default
    held: dict[str, str] = {}


KEYS: Final[Mapping[str, Key]] = {key.name: key for key in keys_of(Settings)}


def load_settings(config: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any]) -> Settings:
    """Return the settings of flags over environment over file over PermutiveAPI's variables over defaults.

    Args:
        config: a TOML file; `${VARIABLE}` in its text is replaced from `environ`.
        environ: `PERMUTIVE_WORKER_<SECTION>__<KEY>` and PermutiveAPI's variables; blank is unset.
        overrides: key (`rate_limit.rate_per_second`) to value, typed or as text.

    Raises:
        ConfigurationError: with one sentence for each fault of a kind, naming the key as it was written.
    """
    return load_with_origins(config, environ, overrides).settings


def load_with_origins(
    config: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any],
    spelling: Mapping[str, str] | None = None,
) -> Loaded:
    """Do as `load_settings`, and tell where each value came from.

    `spelling` has, of the keys in `overrides`, how the person wrote them: `--rate`.
    """
    file = file_layer(config, environ, KEYS) if config is not None else {}
    layer = {
        **permutive_api_layer(environ),
        **file,
        **environment_layer(environ, KEYS),
        **override_layer(overrides, spelling or {}, KEYS),
    }
    refuse_faults(layer, KEYS)
    return Loaded(
        settings=_build(layer),
        origins={name: layer[name].origin if name in layer else "default" for name in KEYS},
        references={name: given.text for name, given in layer.items() if given.text is not None},
        held={name: layer[name].origin for name in file if layer[name].value != file[name].value},
    )


def _build(layer: Layer) -> Settings:
    sections: dict[str, dict[str, Any]] = {key.section: {} for key in KEYS.values()}
    for name, given in layer.items():
        sections[KEYS[name].section][KEYS[name].field] = given.value
    try:
        return Settings(
            **{field.name: field.type(**sections[field.name]) for field in msgspec.structs.fields(Settings)}
        )
    except MeaningError as error:
        faults = error.faults
    raise ConfigurationError(
        "\n".join(f"{layer[name].label if name in layer else name} {faults[name]}" for name in faults)
    )


def values_of(settings: Settings) -> dict[str, Any]:
    """Each key with its value."""
    return {name: getattr(getattr(settings, key.section), key.field) for name, key in KEYS.items()}


def _unmeant(settings: Settings) -> dict[str, str]:
    """Find what no type can say."""
    faults = {}
    if fault := base_url_fault(settings.http.base_url, allow_http=settings.http.allow_http):
        faults["http.base_url"] = fault
    for name in ("dead_letters", "summary", "metrics"):
        if getattr(settings.output, name) == "-":
            faults[f"output.{name}"] = "must be a file, since stdout carries results only; ./- is one"
    if settings.rate_limit.shared is not None and not settings.rate_limit.rate_per_second:
        faults["rate_limit.shared"] = "needs a rate that is shared: set rate_limit.rate_per_second too"
    if settings.input.shard is not None and (fault := shard_fault(settings.input.shard)):
        faults["input.shard"] = fault
    if settings.input.type is not None and settings.input.type not in KINDS:
        meant = did_you_mean(settings.input.type, KINDS)
        faults["input.type"] = f"must be one of {', '.join(KINDS)}{meant}"
    return faults
