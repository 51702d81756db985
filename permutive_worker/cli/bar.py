"""The progress of a run on stderr: a bar for people, or a JSON line every ten seconds for machines.

Both look at the counts from one task of their own, never per job. Neither can end a run: a terminal
that went away, or a pipe that nobody reads any more, only ends the telling.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Final, Literal, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from permutive_worker.cli.terminal import is_terminal
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.progress import RecentRate, duration, progress_line, share
from permutive_worker.telemetry.status import LaneStatus, Look, Status

Mode = Literal["auto", "bar", "json", "off"]

_FRAME_SECONDS: Final = 0.25
_SPEED_SMOOTHING_SECONDS: Final = 2.0
_TOO_NARROW_FOR_A_BAR: Final = 60  # columns; the numbers matter more


@asynccontextmanager
async def progress_shown(
    mode: Mode, counts: Counts, look: Look, stream: TextIO | None, *, last_line: bool = True
) -> AsyncIterator[None]:
    """Show the progress while the block runs, and one last line after it.

    Args:
        mode: `auto` is the bar if `stream` is a terminal, JSON lines otherwise.
        counts: of the run.
        look: asked four times a second for the bar, every ten seconds for JSON.
        stream: stderr; None (there is none) shows nothing.
        last_line: of the bar; False: more is said than it could.

    Cancellation: safe; the block's own exceptions pass unchanged.
    """
    if mode == "off" or stream is None:
        yield
        return
    is_bar = mode == "bar" or (mode == "auto" and is_terminal(stream))
    telling = partial(show, last_line=last_line) if is_bar else tell
    # No TaskGroup: it would wrap the exceptions of the block, and let a fault of the bar end the run.
    teller = asyncio.create_task(telling(counts, look, stream), name="progress")
    await asyncio.sleep(0)  # a task cancelled before it began would leave no last line
    try:
        yield
    finally:
        teller.cancel()
        await asyncio.wait((teller,))


async def tell(counts: Counts, look: Look, stream: TextIO, interval_seconds: float = 10.0) -> None:
    """Write a `ProgressLine` to `stream` every interval until cancelled, then a last one."""
    rate = RecentRate()
    rate.observe(counts.completed, look().elapsed_seconds)
    try:
        while True:
            await asyncio.sleep(interval_seconds)
            if not _written(progress_line(counts, look(), rate).json(), stream):
                return
    finally:
        if look().state != "starting":  # a run that never began has nothing to tell
            _written(progress_line(counts, look(), rate).json(), stream)


def _written(line: str, stream: TextIO) -> bool:
    try:
        stream.write(line + "\n")
        stream.flush()
    except (OSError, ValueError):  # gone, or closed
        return False
    return True


async def show(counts: Counts, look: Look, stream: TextIO, *, last_line: bool = True) -> None:
    """Draw a bar on `stream` until cancelled, then leave one line that says what was done, if it is wanted."""
    console = QuietConsole(file=stream, highlight=False)
    bar = Bar(counts)
    try:
        # stdout is for results: rich must not touch it. stderr it may: log lines then go above the bar.
        with Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False) as live:
            while True:
                live.update(bar.picture(look(), datetime.now(UTC), console.width), refresh=True)
                await asyncio.sleep(_FRAME_SECONDS)
    except (OSError, ValueError):  # the terminal is gone
        console.quiet = True
    finally:
        if last_line and look().state != "starting":
            _leave(console, bar.last_line(look()))


def _leave(console: Console, line: str) -> None:
    try:
        console.print(Text(line), soft_wrap=True)
    except (OSError, ValueError):
        console.quiet = True


class QuietConsole(Console):
    """Falls silent when its reader goes away; rich's own would redirect stdout to /dev/null and exit."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Bar:
    """What the bar looks like: how far and how fast, what became of the lines, and what holds them up."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._speed = RecentRate(_SPEED_SMOOTHING_SECONDS)
        self._rate = RecentRate()

    def picture(self, status: Status, now: datetime, width_columns: int) -> RenderableType:
        """Return the next frame."""
        for rate in (self._speed, self._rate):
            rate.observe(self._counts.completed, status.elapsed_seconds)
        narrow = width_columns < _TOO_NARROW_FOR_A_BAR
        held = _held(status, now)
        return Group(
            self._how_far(status, narrow=narrow),
            Text("{}  {}{gap}{}  {}".format(*_outcomes(self._counts), gap="\n" if narrow else "  ")),
            *([Text(held, style="yellow")] if held else []),
        )

    def _how_far(self, status: Status, *, narrow: bool) -> RenderableType:
        completed = self._counts.completed
        speed = f"{_per_second(self._speed.smoothed_per_second)} jobs/s"
        done = share(completed, status.total)
        if done is None:
            return Text(f"{completed:,} lines  {speed}  {duration(status.elapsed_seconds)}")
        eta_seconds = self._rate.eta_seconds(completed, status.total)
        eta = "ETA unknown" if eta_seconds is None else f"ETA {duration(eta_seconds)}"
        figures = f"{_percent(done)}  {speed}  {eta}"
        return Text(figures) if narrow else _bar_and_figures(done, figures)

    def last_line(self, status: Status) -> str:
        """Return the line that stays when the bar goes."""
        completed = self._counts.completed
        done = share(completed, status.total)
        return "  ".join(
            [
                *([] if done is None else [_percent(done)]),
                f"{completed:,} lines in {duration(status.elapsed_seconds)}",
                *_outcomes(self._counts)[:2],
            ]
        )


def _bar_and_figures(done: float, figures: str) -> Table:
    row = Table.grid(padding=(0, 2), expand=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True)
    row.add_row(ProgressBar(total=1.0, completed=done), figures)
    return row


def _outcomes(counts: Counts) -> list[str]:
    return [
        f"{counts.delivered:,} delivered",
        f"{counts.dead:,} dead letters",
        f"{sum(counts.throttled.values()):,} throttled",
        f"{sum(counts.retries.values()):,} retries",
    ]


def _held(status: Status, now: datetime) -> str:
    """Return why nothing moves, or less than could; empty if nothing is held up."""
    if status.state == "draining":
        return f"stopping: {sum(status.pending.values()):,} lines still pending"
    several = len(status.lanes) > 1
    held = [
        f"{lane.workspace}: {why}" if several else why
        for lane in status.lanes
        if (why := _lane_held(lane, now))
    ]
    if len(held) > 1:
        return f"{held[0]}, and {len(held) - 1} more of {len(status.lanes)} workspaces held up"
    return held[0] if held else ""


def _lane_held(lane: LaneStatus, now: datetime) -> str:
    kinds = [halt.kind for halt in lane.halts if halt.kind is not None]
    if kinds and len(kinds) == len(lane.halts):
        return f"halted for {', '.join(kinds)}: refused"
    if not lane.credentials_valid:
        return "halted: key refused"
    if lane.paused_until is not None and lane.paused_until > now:
        why = " (Retry-After)" if lane.pause_reason == "retry_after" else ""
        # A second that has begun counts, so that it never says 0 while it waits.
        return f"paused {duration(-((now - lane.paused_until).total_seconds() // 1))}{why}"
    if lane.pause_reason == "halt":
        return "halted: the API refuses these requests"
    return "" if lane.breaker == "closed" else "waiting: the API does not answer"


def _percent(done: float) -> str:
    # Rounded down: 100 % is said when all is done, not before.
    return f"{int(done * 1000) / 10:.1f} %" if done < 1 else "100 %"


def _per_second(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.1f}"
