"""Logs: to stderr, a line an event, never with a key.

The program (only `cli`) calls `configure_logs` once. Everything else asks `logger()` when it is built,
not at import: inside a host application it logs the way the host configured structlog, and where nobody
configured anything only warnings and errors appear, on stderr. (structlog's own default prints to stdout,
where results go.)
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, TextIO

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]
Scrub = Callable[[str], str]

# DEL, the C1 controls, and the marks that turn the writing around.
_UNPRINTABLE: Final = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_FRAMES: Final = 8  # of an exception, the innermost; more is seldom read
_EVENT_COLUMNS: Final = 18  # with the time and the level that leaves 40 of 80 for the values
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def configure_logs(
    level: LogLevel,
    format: LogFormat,  # noqa: A002  (it is called `log.format` everywhere else)
    stream: TextIO | None,
    scrub: Scrub,
    *,
    colors: bool = True,
    process: int | None = None,
) -> None:
    """Configure structlog and the standard library's logging for this process.

    Args:
        level: the least level that is written; of other libraries never below warning.
        format: `auto` is console at a terminal, JSON otherwise.
        stream: where lines go; None is whatever `sys.stderr` is at each line, so that a progress bar
            can put them above itself. A closed one loses lines and nothing else; a pipe that nobody
            reads holds the caller up.
        scrub: takes every known key out of a finished line. Asked for each line: keys change.
        colors: False where NO_COLOR is set; there are none anyway unless the stream is a terminal.
        process: told in each line, where one run has several.
    """
    lines = Lines(stream)
    console = format == "console" or (format == "auto" and lines.is_terminal)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(
                fmt="%H:%M:%SZ" if console and lines.is_terminal else "iso", utc=True
            ),
            *([] if process is None else [_numbered(process)]),
            *(_console(colors=colors and lines.is_terminal) if console else _json()),
            _scrubbed(scrub),
        ],
        logger_factory=lambda *_names: lines,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[Routed()], force=True)
    set_log_level(level)
    logging.getLogger("aiormq").setLevel(
        logging.CRITICAL
    )  # each failed try, with a traceback; we tell a break once


def set_log_level(level: LogLevel) -> None:
    """Write from now on what is of this level or above; whoever holds a logger of before keeps its level."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]))
    logging.getLogger().setLevel(max(_LEVELS[level], logging.WARNING))


def logger() -> FilteringBoundLogger:
    """Return a logger: the host's if structlog is configured, else one of warnings to stderr."""
    if structlog.is_configured():
        configured: FilteringBoundLogger = structlog.get_logger()
        return configured
    unconfigured: FilteringBoundLogger = structlog.wrap_logger(
        Lines(None),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_console(colors=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    return unconfigured


class Lines:
    """Writes whole lines to a stream, the last link of the chain."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    @property
    def stream(self) -> TextIO | None:
        return sys.stderr if self._stream is None else self._stream

    @property
    def is_terminal(self) -> bool:
        try:
            return self.stream is not None and self.stream.isatty()
        except ValueError:  # it is closed
            return False

    def msg(self, line: str) -> None:
        if (stream := self.stream) is None:
            return
        with suppress(OSError, ValueError):  # closed, or the reader went away: no reason to stop a delivery
            stream.write(line + "\n")
            stream.flush()

    debug = info = warning = error = critical = exception = msg


class Routed(logging.Handler):
    """Hands what other libraries log (aiohttp, asyncio) to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        report = logger().error if record.levelno >= logging.ERROR else logger().warning
        report(_text(record), logger=record.name, exc_info=record.exc_info or None)


def _text(record: logging.LogRecord) -> str:
    try:
        return _asyncio_text(record) if record.name == "asyncio" else record.getMessage()
    except Exception:  # noqa: BLE001  (a library's bad format must not become ours, nor print its arguments)
        return str(record.msg)


def _asyncio_text(record: logging.LogRecord) -> str:
    """Asyncio describes callbacks and tasks with their arguments, which are people's identifiers: leave those out."""
    if record.args:
        arguments = record.args if isinstance(record.args, tuple) else (record.args,)
        return str(record.msg) % tuple(
            argument if isinstance(argument, int | float) else type(argument).__name__
            for argument in arguments
        )
    first_line = str(record.msg).partition("\n")[0]
    return first_line.partition("(")[0].partition("<")[0].rstrip()


def _numbered(process: int) -> Processor:
    def processor(_logger: object, _method: str, event: EventDict) -> EventDict:
        event["process"] = process
        return event

    return processor


def _scrubbed(scrub: Scrub) -> Processor:
    def processor(_logger: object, _method: str, line: Any) -> str:
        return scrub(line)

    return processor


def _console(*, colors: bool) -> tuple[Processor, ...]:
    return (_printable, _where, structlog.dev.ConsoleRenderer(_EVENT_COLUMNS, colors=colors, sort_keys=False))


def _printable(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Text of a server must not steer the terminal."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = "".join(
                sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in value
            )
    return event


def _json() -> tuple[Processor, ...]:
    return (_where, structlog.processors.JSONRenderer(serializer=to_json))


def _where(_logger: object, _method: str, event: EventDict) -> EventDict:
    """An exception as its kinds and places: its text, like a local variable, may hold an identifier or a key."""
    told = event.pop("exc_info", None)
    error = sys.exc_info()[1] if told is True else told[1] if isinstance(told, tuple) else told
    if isinstance(error, BaseException):
        event["exception"] = "\n".join(_kinds_and_places(error))
    return event


def _kinds_and_places(error: BaseException) -> Iterator[str]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        places = (
            f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(one.__traceback__, limit=-_FRAMES)
        )
        yield " < ".join((type(one).__name__, *reversed(list(places))))
        waiting += [one.__cause__ or one.__context__]
        waiting += one.exceptions if isinstance(one, BaseExceptionGroup) else ()


def to_json(event: EventDict, **_options: Any) -> str:
    """Return one line of strict JSON, whatever the values: logging a poison line must not raise.

    It may be read at a terminal: what JSON does not escape and a terminal would obey is escaped as well.
    """
    line = _to_json(event)
    return line if line.isprintable() else _UNPRINTABLE.sub(lambda sign: f"\\u{ord(sign[0]):04x}", line)


def _to_json(event: EventDict) -> str:
    try:
        return orjson.dumps(event, default=_represent, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # an integer above 64 bits, a lone surrogate, a key of an odd type, a circle
        pass
    try:
        text = json.dumps(event, default=_represent, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        text = json.dumps({str(key): _represent(value) for key, value in event.items()}, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()


def _represent(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  (any object may fail to describe itself, integers of 4,301 digits do)
        return f"<{type(value).__name__}>"
