"""Which files each process gets, and with which settings; what can be refused is refused here, once."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import msgspec

from permutive_worker.config import Settings
from permutive_worker.control.shares import deal, most_shares, rate_share
from permutive_worker.errors import ConfigurationError, UsageError
from permutive_worker.outcomes.ndjson import prove_writable
from permutive_worker.outcomes.paths import refuse_shared_files
from permutive_worker.sources.address import is_url
from permutive_worker.sources.files import already_delivered, size_of_input
from permutive_worker.sources.tracked import CheckpointStore
from permutive_worker.telemetry.logs import logger
from permutive_worker.worker.inputs import input_files


class Share(msgspec.Struct, frozen=True):
    """What one process is to read, and how many bytes that is as stored."""

    paths: list[Path]
    size_bytes: int


class Deal(msgspec.Struct, frozen=True):
    """All that is to be done.

    Attributes:
        shares: none is empty; none at all if everything was delivered before.
        notices: a sentence for each file that was.
        done_bytes: of these files.
    """

    shares: list[Share]
    notices: list[str]
    done_bytes: int


def deal_files(
    settings: Settings, inputs: Sequence[str], store: CheckpointStore, until_end: ExitStack
) -> Deal:
    """Look at every input and output, and share what is left among at most `input.processes`. Blocks.

    Whole files: each has a checkpoint of its own, so the next run may have any number of processes.
    What keeps other such runs from these files is released by `until_end`.

    Raises:
        UsageError: an input is no file, is missing, or another worker is at it.
        ConfigurationError: an output or a checkpoint cannot be used.
    """
    _refuse_what_is_no_file(settings, inputs)
    _prove_outputs(settings)
    paths = input_files(settings, inputs)
    sizes_bytes = [_size_of_file(path) for path in paths]
    until_end.enter_context(store.alone_with(paths))
    store.begin_anew(paths)
    found = [
        already_delivered(path, size_bytes, store.examine(path))
        for path, size_bytes in zip(paths, sizes_bytes, strict=True)
    ]
    left = [index for index, notice in enumerate(found) if notice is None]
    count = _process_count(settings, len(left))
    dealt = deal([sizes_bytes[index] for index in left], count) if left else []
    return Deal(
        [
            Share([paths[left[one]] for one in share], sum(sizes_bytes[left[one]] for one in share))
            for share in dealt
        ],
        [notice for notice in found if notice is not None],
        sum(size for size, notice in zip(sizes_bytes, found, strict=True) if notice is not None),
    )


def settings_of_share(settings: Settings, shares: int, log_format: Literal["console", "json"]) -> Settings:
    """Return what one of so many processes is to obey, so that all of them together obey `settings`.

    Summary, progress, the file of metrics and the admin server are the first process's.
    """
    rate, delivery = settings.rate_limit, settings.delivery
    if rate.rate_per_second and rate.shared is None:
        per_second, burst = rate_share(rate.rate_per_second, _burst(settings), shares)
        rate = msgspec.structs.replace(rate, rate_per_second=per_second, burst=burst)
    delivery = msgspec.structs.replace(
        delivery,
        max_in_flight=max(1, delivery.max_in_flight // shares),
        max_pending_bytes=max(1, delivery.max_pending_bytes // shares),
    )
    return msgspec.structs.replace(
        settings,
        rate_limit=rate,
        delivery=delivery,
        input=msgspec.structs.replace(settings.input, processes=1),
        output=msgspec.structs.replace(settings.output, summary=None, metrics=None),
        admin=msgspec.structs.replace(settings.admin, listen=None),
        log=msgspec.structs.replace(settings.log, progress="off", format=log_format),
    )


def _refuse_what_is_no_file(settings: Settings, inputs: Sequence[str]) -> None:
    if any(map(is_url, inputs)):
        raise UsageError("--processes is for files; a queue is shared by as many workers as you start")
    if list(inputs) == ["-"]:
        raise UsageError("--processes is for files; a pipe has one reader: name files")
    if settings.input.follow:
        raise UsageError("--processes is for files with an end; start a worker for each that is followed")
    if settings.output.results == "-":
        raise UsageError("--processes cannot write results to stdout, where lines would mix: name a file")


def _size_of_file(path: Path) -> int:
    size_bytes = size_of_input(path)
    if not path.is_file():
        raise UsageError(f"--processes is for files, and {path} is none: deliver it by a run of its own")
    return size_bytes


def _prove_outputs(settings: Settings) -> None:
    output = settings.output
    refuse_shared_files(output.dead_letters, output.results, output.summary, output.metrics)
    for path in (output.dead_letters, output.results):
        if path is not None:
            prove_writable(Path(path))


def _process_count(settings: Settings, files: int) -> int:
    """How many processes there will be; why they are fewer than were asked for is told in the log."""
    asked, rate = settings.input.processes, settings.rate_limit
    bounds = {
        _few_files(files, asked): files,
        f"delivery.max_in_flight = {settings.delivery.max_in_flight}": settings.delivery.max_in_flight,
    }
    if rate.rate_per_second and rate.shared is None:
        reason = f"a rate of {rate.rate_per_second:g} a second is too small to be shared by more"
        bounds[reason] = most_shares(rate.rate_per_second, _burst(settings), asked)
    why, least = min(bounds.items(), key=lambda bound: bound[1])
    if 0 < least < asked:
        logger().warning("processes.fewer", asked=asked, processes=least, reason=why)
    return min(asked, least)


def _few_files(files: int, asked: int) -> str:
    told = "there is 1 file" if files == 1 else f"there are {files} files"
    return (
        f"{told} to deliver, and a file is read by one process; `split -n l/{asked} FILE` cuts a plain one between lines "
        "(a user's jobs then keep their order within a part only)"
    )


def refuse_small_rate(settings: Settings, processes: int) -> None:
    """Raise ConfigurationError if so many processes cannot keep this rate together."""
    rate = settings.rate_limit
    if rate.shared is not None or not rate.rate_per_second or processes < 2:
        return
    if most_shares(rate.rate_per_second, _burst(settings), processes) < processes:
        raise ConfigurationError(
            f"rate_limit.rate_per_second: {rate.rate_per_second:g} is too small to be shared by {processes} "
            "processes; stop this run, and begin it again with fewer"
        )


def _burst(settings: Settings) -> float:
    """The whole run's, as the limiter would choose it."""
    rate = settings.rate_limit
    return rate.burst if rate.burst is not None else max(1.0, rate.rate_per_second / 20)
