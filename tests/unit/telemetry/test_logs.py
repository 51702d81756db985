import asyncio
import io
import json
import logging
import math
import re
import subprocess
import sys
from collections.abc import Iterator

import orjson
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from permutive_worker.telemetry.logs import configure_logs, logger, to_json

KEY = "4f1c7a2e-key-b0d5"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError


class Awkward:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def scrub(line: str) -> str:
    return line.replace(KEY, "***")


def lines(stream: io.StringIO) -> list[dict]:
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


def fail_with(key: str) -> None:
    """The key is a local variable, and in the text."""
    raise ValueError(f"refused for {key}")


def test_a_json_line_has_a_utc_time_a_level_and_the_values():
    stream = io.StringIO()
    configure_logs("info", "json", stream, scrub)

    logger().info("lane.paused", seconds=7, lane="eu")

    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "lane.paused", "level": "info", "seconds": 7, "lane": "eu"}


def test_auto_is_console_at_a_terminal_and_json_elsewhere():
    terminal, pipe = Terminal(), io.StringIO()

    configure_logs("info", "auto", terminal, scrub)
    logger().info("run.started")
    configure_logs("info", "auto", pipe, scrub)
    logger().info("run.started")

    assert "run.started" in terminal.getvalue()
    assert re.match(r"\S*\d\d:\d\d:\d\dZ", terminal.getvalue())  # no date: it is short
    assert not terminal.getvalue().startswith("{")
    assert lines(pipe)[0]["event"] == "run.started"


@pytest.mark.parametrize(("stream", "colors"), [(Terminal(), False), (io.StringIO(), True)])
def test_no_colours_where_they_are_not_wanted(stream, colors):
    configure_logs("info", "console", stream, scrub, colors=colors)

    logger().warning("run.started", lane="eu")

    assert "\x1b" not in stream.getvalue()


def test_colours_at_a_terminal():
    stream = Terminal()
    configure_logs("info", "auto", stream, scrub)

    logger().warning("run.started")

    assert "\x1b[" in stream.getvalue()


def test_below_the_level_nothing_is_written():
    stream = io.StringIO()
    configure_logs("warning", "json", stream, scrub)

    logger().info("run.started")

    assert stream.getvalue() == ""


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_key_passes_at_any_level_in_any_place(form):
    stream = io.StringIO()
    configure_logs("debug", form, stream, scrub)
    log = logger().bind(bound=KEY)

    for write in (log.debug, log.info, log.warning, log.error, log.critical):
        write(f"event {KEY}", text=KEY, nested={KEY: [KEY]}, url=f"https://host/?k={KEY}", raw=KEY.encode())
    try:
        fail_with(KEY)
    except ValueError as error:
        log.exception("it.failed", error=error)
        logging.getLogger("aiohttp.client").warning("%s", KEY, exc_info=True)

    assert stream.getvalue().count("***") > 20
    assert KEY not in stream.getvalue()
    assert "fail_with" in stream.getvalue()


@pytest.mark.parametrize("form", ["console", "json"])
def test_an_exception_is_told_by_kind_and_place_only(form):
    stream = Terminal()
    configure_logs("info", form, stream, lambda line: line, colors=False)
    local = "user-17"  # noqa: F841  (a traceback with local variables would show it)

    try:
        fail_with("another reason")
    except ValueError:
        logger().exception("it.failed")

    assert "ValueError" in stream.getvalue()
    assert "fail_with" in stream.getvalue()
    assert "another reason" not in stream.getvalue(), "its text may hold what the job holds"
    assert "user-17" not in stream.getvalue()


def test_a_key_that_is_known_later_is_scrubbed_too():
    known, stream = [], io.StringIO()

    def scrub_now(line: str) -> str:
        for key in known:
            line = line.replace(key, "***")
        return line

    configure_logs("info", "json", stream, scrub_now)
    log = logger()
    log.info("first")
    known.append(KEY)
    log.info("second", text=KEY)

    assert KEY not in stream.getvalue()


@pytest.mark.parametrize(
    ("poison", "expected"),
    [
        (2**70, 2**70),
        ("\ud800x", "?x"),
        ({1: "a"}, {"1": "a"}),
        (b"\xff", "b'\\xff'"),
        ({"big": 2**70, "deep": [{2: Awkward()}]}, {"big": 2**70, "deep": [{"2": "<Awkward>"}]}),
    ],
)
def test_poison_values_are_logged_as_valid_json(poison, expected):
    stream = io.StringIO()
    configure_logs("info", "json", stream, scrub)

    logger().info("line.read", poison=poison)

    assert json.loads(stream.getvalue())["poison"] == expected


def endless() -> list:
    circle: list = []
    circle.append(circle)
    return circle


def deep() -> list:
    nest: list = []
    for _ in range(100_000):
        nest = [nest]
    return nest


@pytest.mark.parametrize(
    "poison",
    [10**5000, {("a", "tuple"): 2**70}, endless(), deep(), {"nan": math.nan, "big": 2**70}, Awkward()],
    ids=["5001 digits", "tuple key", "circle", "deep", "nan", "no repr"],
)
def test_the_worst_values_still_make_one_line(poison):
    line = to_json({"event": "line.read", "level": "info", "poison": poison})

    assert "\n" not in line
    assert orjson.loads(line)["event"] == "line.read"


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.booleans(), inner),
    max_leaves=20,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=5), json_like, max_size=5))
def test_any_value_makes_one_line_of_strict_json(values):
    line = to_json(values)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    assert "\n" not in line
    assert isinstance(json.loads(line, parse_constant=refuse), dict)
    line.encode()


def test_server_text_cannot_steer_the_terminal():
    stream = Terminal()
    configure_logs("info", "console", stream, scrub, colors=False)

    logger().warning("job.rejected", message="\x1b[2Jboo\nlevel=info")

    assert stream.getvalue().count("\n") == 1
    assert "\N{REPLACEMENT CHARACTER}[2Jboo" in stream.getvalue()


@pytest.mark.parametrize("stream", [Gone(), io.StringIO()], ids=["broken pipe", "closed"])
@pytest.mark.parametrize("form", ["auto", "json"])
def test_a_stream_that_is_gone_stops_nothing(stream, form):
    if not isinstance(stream, Gone):
        stream.close()

    configure_logs("info", form, stream, scrub)
    logger().error("run.failed")
    logging.getLogger("aiohttp").error("boom")

    assert isinstance(stream, Gone) or stream.closed


def test_none_follows_stderr_wherever_it_points(monkeypatch: pytest.MonkeyPatch):
    configure_logs("info", "json", None, scrub)
    log = logger()
    log.info("first")
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log.info("second")
    monkeypatch.setattr(sys, "stderr", None)
    log.info("third")

    assert [line["event"] for line in lines(stream)] == ["second"]


def test_other_libraries_are_heard_from_warning_up():
    stream = io.StringIO()
    configure_logs("debug", "json", stream, scrub)

    logging.getLogger("aiohttp.access").info("GET /livez")
    logging.getLogger("aiohttp.server").warning("%d of %s", 2, "three")
    logging.getLogger("aiohttp.server").critical("down")
    logging.getLogger("aiohttp.server").error("%d", "no number")

    assert [(line["level"], line["event"], line["logger"]) for line in lines(stream)] == [
        ("warning", "2 of three", "aiohttp.server"),
        ("error", "down", "aiohttp.server"),
        ("error", "%d", "aiohttp.server"),
    ]


async def test_asyncio_says_what_failed_but_not_with_which_arguments():
    stream = io.StringIO()
    configure_logs("info", "json", stream, scrub)
    loop = asyncio.get_running_loop()

    def callback(_user_id: str, done: asyncio.Future[None]) -> None:
        done.set_result(None)
        raise KeyError("told")

    done = loop.create_future()
    loop.call_soon(callback, "user-17", done)
    await done
    await asyncio.sleep(0)
    logging.getLogger("asyncio").warning("Executing %s took %.3f seconds", ["user-17"], 0.25)

    failed, slow = lines(stream)
    assert failed["event"].startswith("Exception in callback")
    assert failed["exception"].startswith("KeyError < test_logs.py:")
    assert slow["event"] == "Executing list took 0.250 seconds"
    assert "user-17" not in stream.getvalue()


def run_python(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)


def test_unconfigured_only_warnings_are_heard_and_only_on_stderr():
    ran = run_python(
        "from permutive_worker.telemetry.logs import logger\n"
        "log = logger()\nlog.info('quiet')\nlog.warning('loud', lane='eu')"
    )

    assert ran.stdout == ""
    assert "loud" in ran.stderr
    assert "quiet" not in ran.stderr


def test_a_host_that_configured_structlog_keeps_its_own_way():
    with structlog.testing.capture_logs() as captured:
        structlog.configure(processors=structlog.get_config()["processors"])
        logger().info("quiet")

    assert captured == [{"event": "quiet", "log_level": "info"}]


@pytest.mark.parametrize("sign", ["\x1b", "\x7f", "\x9b", "\u202e", "\u2066"])
def test_what_a_terminal_would_obey_is_escaped_in_json_too(sign):
    line = to_json({"event": f"a{sign}b é"})

    assert sign not in line
    assert json.loads(line) == {"event": f"a{sign}b é"}
