import asyncio
import io
import json
import sys
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from rich.console import Console

from permutive_worker.cli.bar import Bar, duration, progress_shown, tell
from permutive_worker.model import Reason
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.status import LaneStatus, Status

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LANE = LaneStatus("eu", 1, 1, 0, 2, 64, 0.0, 500.0, None, None, "closed", credentials_valid=True)
STATUS = Status("running", "run", NOON, 0.0, [LANE], 0, 0, 1024, 0, None, 1000)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(Terminal):
    """A terminal whose window was closed, or a pipe whose reader went away."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def write(self, _text: str) -> int:
        raise self._error


def counted(delivered: int) -> Counts:
    counts = Counts("file", ["identify"])
    counts.kinds["identify"].delivered = delivered
    counts.read = delivered
    return counts


def drawn(bar: Bar, status: Status, width_columns: int = 80, now: datetime = NOON) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width_columns, force_terminal=True, color_system=None)
    console.print(bar.picture(status, now, width_columns))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def drawn_with_lanes(*lanes: LaneStatus) -> str:
    return drawn(Bar(counted(0)), msgspec.structs.replace(STATUS, lanes=list(lanes)))[-1]


def test_the_bar_shows_share_rate_eta_and_outcomes():
    counts = counted(0)
    bar = Bar(counts)
    drawn(bar, STATUS)
    counts.kinds["identify"].delivered = 248
    counts.dead_lettered[Reason.INVALID] = 2
    counts.throttled["none"] = 3
    counts.retries["throttled"] = 4

    first, second = drawn(bar, msgspec.structs.replace(STATUS, elapsed_seconds=10.0))

    assert first.endswith("25.0 %  25 jobs/s  ETA 30 s")
    assert first.startswith("━━━")
    assert second == "248 delivered  2 dead letters  3 throttled  4 retries"


def test_an_unknown_total_shows_a_count_instead_of_a_share():
    counts = counted(0)
    bar = Bar(counts)
    unknown = msgspec.structs.replace(STATUS, total=None)
    drawn(bar, unknown)
    counts.kinds["identify"].delivered = 12_345

    first, _ = drawn(bar, msgspec.structs.replace(unknown, elapsed_seconds=60.0))

    assert first == "12,345 lines  206 jobs/s  1 min"


@pytest.mark.parametrize("width_columns", [20, 40, 59, 60, 200])
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_lost(width_columns):
    lane = msgspec.structs.replace(LANE, paused_until=NOON + timedelta(seconds=6), pause_reason="retry_after")
    status = msgspec.structs.replace(STATUS, total=10**9, lanes=[lane])

    lines = drawn(Bar(counted(123_456_789)), status, width_columns)

    assert max(map(len, lines)) <= width_columns
    words = " ".join(lines).split()
    for figure in (
        "12.3",
        "123,456,789",
        "ETA",
        "delivered",
        "letters",
        "throttled",
        "retries",
        "(Retry-After)",
    ):
        assert figure in words


def test_100_percent_is_said_only_when_all_is_done():
    assert "99.9 %" in drawn(Bar(counted(99_999)), msgspec.structs.replace(STATUS, total=100_000))[0]
    assert "100 %" in drawn(Bar(counted(1000)), STATUS)[0]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"paused_until": NOON + timedelta(seconds=5.2), "pause_reason": "retry_after"},
            "paused 6 s (Retry-After)",
        ),
        ({"paused_until": NOON + timedelta(seconds=5.2)}, "paused 6 s"),
        ({"credentials_valid": False, "pause_reason": "halt"}, "halted: key refused"),
        ({"pause_reason": "halt"}, "halted: the API refuses these requests"),
        ({"breaker": "open"}, "waiting: the API does not answer"),
    ],
)
def test_the_bar_says_what_holds_the_run_up(change, expected):
    assert drawn_with_lanes(msgspec.structs.replace(LANE, **change)) == expected


def test_a_pause_that_is_over_is_not_shown():
    assert "paused" not in drawn_with_lanes(
        msgspec.structs.replace(LANE, paused_until=NOON, pause_reason="retry_after")
    )


def test_of_several_workspaces_the_bar_names_one_that_is_held_up():
    refused = msgspec.structs.replace(LANE, credentials_valid=False)
    other = msgspec.structs.replace(LANE, workspace="us")

    assert drawn_with_lanes(refused, other) == "eu: halted: key refused"
    assert (
        drawn_with_lanes(refused, refused, other)
        == "eu: halted: key refused, and 1 more of 3 workspaces held up"
    )


def test_while_it_stops_the_bar_says_what_is_still_pending():
    assert drawn(Bar(counted(0)), msgspec.structs.replace(STATUS, state="draining"))[-1] == (
        "stopping: 4 lines still pending"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (8.9, "8 s"),
        (60, "1 min"),
        (250, "4 min 10 s"),
        (3 * 3600 + 5 * 60, "3 h 5 min"),
        (2 * 86400 + 4 * 3600, "2 d 4 h"),
    ],
)
def test_durations_as_a_person_says_them(seconds, text):
    assert duration(seconds) == text


async def test_at_a_terminal_auto_draws_a_bar_and_leaves_one_line():
    stream, counts = Terminal(), counted(1000)

    async with progress_shown("auto", counts, lambda: STATUS, stream):
        await asyncio.sleep(0)

    assert "━" in stream.getvalue()
    last = stream.getvalue().splitlines()[-1]
    assert last.endswith("100 %  1,000 lines in 0 s  1,000 delivered  0 dead letters")


async def test_elsewhere_auto_writes_json_and_a_last_line():
    stream, counts = io.StringIO(), counted(0)

    async with progress_shown("auto", counts, lambda: STATUS, stream):
        counts.kinds["identify"].delivered = 1000

    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["event"] == "progress"
    assert json.loads(line)["share"] == 1.0


async def test_a_bar_that_was_asked_for_without_a_terminal_is_only_the_last_line():
    stream = io.StringIO()

    async with progress_shown("bar", counted(1000), lambda: STATUS, stream):
        await asyncio.sleep(0)

    assert stream.getvalue() == "100 %  1,000 lines in 0 s  1,000 delivered  0 dead letters\n"


async def test_off_writes_nothing_and_no_stderr_is_no_fault():
    stream = Terminal()

    async with progress_shown("off", counted(0), lambda: STATUS, stream):
        pass
    async with progress_shown("json", counted(0), lambda: STATUS, None):
        pass

    assert stream.getvalue() == ""


async def test_json_lines_come_at_each_interval():
    enough = asyncio.Event()

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            written = super().write(text)
            if self.getvalue().count("\n") == 3:
                enough.set()
            return written

    stream = Stream()
    async with asyncio.TaskGroup() as group:
        telling = group.create_task(tell(counted(5), lambda: STATUS, stream, interval_seconds=0.001))
        await enough.wait()
        telling.cancel()

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(lines) >= 3
    assert {line["completed"] for line in lines} == {5}


@pytest.mark.parametrize("mode", ["bar", "json"])
@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(5, "Input/output error"), ValueError("closed")])
async def test_a_terminal_that_is_gone_stops_nothing(mode, error):
    """rich would answer a broken pipe by pointing stdout at /dev/null and exiting."""
    stderr = sys.stderr
    done = False

    async with progress_shown(mode, counted(0), lambda: STATUS, Gone(error)):
        await asyncio.sleep(0)
        done = True

    assert done
    assert sys.stderr is stderr


async def test_a_closed_stream_stops_nothing():
    stream = io.StringIO()
    stream.close()

    async with progress_shown("auto", counted(0), lambda: STATUS, stream):
        await asyncio.sleep(0)

    assert stream.closed


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["bar", "json"])
async def test_a_fault_of_the_run_passes_unchanged_and_the_last_line_is_left(stream):
    with pytest.raises(KeyError, match="from the run"):
        async with progress_shown("auto", counted(0), lambda: STATUS, stream):
            raise KeyError("from the run")

    assert stream.getvalue().endswith("\n")


async def test_log_lines_go_above_the_bar_and_results_are_left_alone(monkeypatch: pytest.MonkeyPatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    stdout = sys.stdout

    async with progress_shown("bar", counted(0), lambda: STATUS, stream):
        sys.stderr.write("a log line\n")
        assert sys.stdout is stdout

    assert "a log line" in stream.getvalue()
    assert sys.stderr is stream
