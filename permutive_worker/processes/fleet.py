"""Several worker processes as one run: one summary, one progress, one set of metrics, one stop."""

import asyncio
import signal
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import Any, Literal

from permutive_worker import __version__
from permutive_worker.config import Settings
from permutive_worker.control.exit_code import DEAD_LETTERS, GUARD, worst
from permutive_worker.control.guard import Guard
from permutive_worker.credentials import Keyring
from permutive_worker.delivery.stop import Stop
from permutive_worker.errors import WorkerError
from permutive_worker.jobs.decode import KINDS
from permutive_worker.model import End, Reason, Summary
from permutive_worker.ports import OutcomeWriter, SystemClock
from permutive_worker.processes.dealing import Deal, deal_files, refuse_small_rate, settings_of_share
from permutive_worker.processes.member import Member
from permutive_worker.processes.merging import add, merged_status
from permutive_worker.processes.messages import Command, Farewell, Order, Pause
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.course import Course
from permutive_worker.telemetry.logs import logger
from permutive_worker.telemetry.metrics_file import metrics_file
from permutive_worker.telemetry.progress import progress, summary
from permutive_worker.telemetry.status import Status
from permutive_worker.worker.admin import open_admin
from permutive_worker.worker.checkpoints import checkpoint_store
from permutive_worker.worker.reload import Taken, take_over


class Fleet:
    """One run in several processes; to whoever starts it, it is what a `Worker` is.

    Attributes:
        counts: of all processes, as of the last `look`.
        stopping: one stop for all of them; what stops one by itself stops the others.
        guard: of the whole run for `max_failures`; a share of dead letters is judged by each process.
        writers: none; the processes have theirs.
    """

    def __init__(
        self,
        settings: Settings,
        inputs: Sequence[str],
        *,
        keyring: Keyring,
        command: Sequence[str],
        log_format: Literal["console", "json"],
        restart: bool = False,
    ) -> None:
        """Prepare a run; nothing is opened yet. `command` runs one worker, see `Member`.

        The processes log into a pipe, so `log_format` says what they cannot see: what is at its end.
        """
        self.settings = settings
        self.run_id = uuid.uuid4().hex[:12]
        self.counts = Counts("file", KINDS)
        self.stopping = Stop()
        self.stopping.on_request = self._tell_all
        self.guard = Guard(settings.guard.max_failures, 1.0)
        self.writers: Mapping[End, OutcomeWriter] = {}
        self._inputs = inputs
        self._store = checkpoint_store(settings, keyring, restart=restart)
        self._command = command
        self._log_format = log_format
        self._deal = Deal([], [], 0)
        self._members: list[Member] = []
        self._pauses: dict[str, Pause] = {}  # the last one of each workspace
        self._failed = 0  # dead letters the guard has heard of
        self._clock = SystemClock()
        self._course = Course(self._clock)

    def __repr__(self) -> str:
        return f"<Fleet {self.run_id} {self._course.state} of {len(self._members)} processes>"

    def stop(self) -> None:
        """Tell every process to stop as on SIGTERM; safe to call from a signal handler."""
        self.stopping.request()

    def hurry(self) -> None:
        """Stop without waiting for what is in flight."""
        self.stopping.hurry()

    def suspend(self) -> None:
        """Stop every process in the middle of what it does, until `resume`."""
        for member in self._members:
            member.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        for member in self._members:
            member.send_signal(signal.SIGCONT)

    def reload(self, settings: Settings) -> Taken:
        """Give each process its share of what of `settings` a running worker can take.

        Raises:
            ConfigurationError: what can change does not go with what cannot; nothing was changed.
        """
        taken = take_over(self.settings, settings)
        refuse_small_rate(taken.settings, len(self._members))
        self.settings = taken.settings
        share = settings_of_share(taken.settings, max(1, len(self._members)), self._log_format)
        for member in self._members:
            member.reload(share)
        return taken

    async def run(self) -> Summary:
        """Deliver everything, or stop early and say so in the summary's exit code.

        Raises:
            WorkerError: nothing was sent: something is missing, unwritable or not reachable.

        Cancellation: the processes are told to drain, and not awaited.
        """
        with ExitStack() as until_end:
            self._deal = await asyncio.to_thread(
                deal_files, self.settings, self._inputs, self._store, until_end
            )
            await self._work()
        self._raise_if_refused()
        return self.summary()

    async def _work(self) -> None:
        self._members = self._make_members()
        async with (
            metrics_file(self.settings.output.metrics, self.counts, self.look, __version__),
            AsyncExitStack() as stack,
        ):
            listen = self.settings.admin.listen
            await open_admin(stack, listen, self.counts, self.look, self._clock, self._end)
            files = sum(len(share.paths) for share in self._deal.shares)
            logger().info("processes.start", processes=len(self._members), files=files)
            self._course.run()
            async with asyncio.TaskGroup() as group:
                for member in self._members:
                    group.create_task(self._see_through(member))
            self._end()

    def _make_members(self) -> list[Member]:
        settings = settings_of_share(self.settings, max(1, len(self._deal.shares)), self._log_format)
        return [
            Member(
                Order(number, self.run_id, settings, [bytes(path) for path in share.paths]),
                share.size_bytes,
                self._command,
                Counts("file", KINDS),
                self.stopping,
                greeting=self._greeting,
                on_report=self._look_at_guard,
                on_pause=self._pause_others,
            )
            for number, share in enumerate(self._deal.shares, 1)
        ]

    def _end(self, error: BaseException | None = None) -> None:
        if isinstance(error, Exception):
            self.stopping.errors.append(error)
        self._course.end()
        self.look()
        if self.exit_code() == 0:
            self.counts.last_success_at = self._clock.utc_now()

    async def _see_through(self, member: Member) -> None:
        """Run a share to its end; if it stopped by itself, whatever the reason is holds for all."""
        await member.run()
        farewell = member.farewell
        if farewell is None:
            return
        if farewell.tripped is not None and self.guard.tripped is None:
            self.guard.tripped = farewell.tripped
            self.stopping.request("guard")
        elif (farewell.stopped or farewell.refused) and not self.stopping.requested:
            self.stopping.request()

    def _greeting(self) -> Iterator[Command | Pause]:
        if self.stopping.requested:
            yield Command(self.stopping.why or "stop", self.stopping.hurried)
        yield from self._pauses.values()

    def _tell_all(self) -> None:
        for member in self._members:
            member.tell(Command(self.stopping.why or "stop", self.stopping.hurried))

    def _pause_others(self, paused: Member, pause: Pause) -> None:
        self._pauses[pause.workspace] = pause
        for member in self._members:
            if member is not paused:
                member.tell(pause)

    def _look_at_guard(self) -> None:
        """After each report: dead letters are counted over all processes."""
        if self.settings.guard.max_failures is None:
            return
        self._add_up()
        failed = self.counts.dead - self.counts.dead_lettered[Reason.EXPIRED]  # that is what was asked for
        for _ in range(failed - self._failed):
            self.guard.failed()
        self._failed = max(failed, self._failed)
        if self.guard.tripped is not None and self.stopping.why is None:
            self.stopping.request("guard")

    def _add_up(self) -> None:
        counts = Counts("file", KINDS)
        counts.reload_refused = self.counts.reload_refused  # what this process knows, and no other
        counts.last_success_at = self.counts.last_success_at
        for member in self._members:
            add(counts, vars(member.past))
            if member.report is not None:
                add(counts, member.report.counts)
        vars(self.counts).update(vars(counts))  # in place: metrics and the bar hold this object

    def look(self) -> Status:
        """The run at this moment; `counts` are of the same moment."""
        self._add_up()
        statuses = [member.report.status for member in self._members if member.report is not None]
        lines = [member.lines for member in self._members]
        known = [line for line in lines if line is not None]
        of_all: dict[str, Any] = {
            "run_id": self.run_id,
            "started_at": self._course.began_at,
            "elapsed_seconds": self._course.elapsed_seconds,
            "input_position_bytes": self._deal.done_bytes + sum(one.position_bytes for one in self._members),
            "input_size_bytes": self._deal.done_bytes + sum(one.size_bytes for one in self._members),
            "total": sum(known) if len(known) == len(lines) and self._course.state != "starting" else None,
            "exit_code": self.exit_code() if self._course.state == "ended" else None,
        }
        if self._course.state != "running":
            of_all["state"] = self._course.state
        elif self.stopping.requested:
            of_all["state"] = "draining"
        if statuses:
            return merged_status(statuses, **of_all)
        limit_bytes = self.settings.delivery.max_pending_bytes
        nothing: dict[str, Any] = {
            "lanes": [],
            "settling": 0,
            "pending_bytes": 0,
            "pending_bytes_limit": limit_bytes,
        }
        return Status(**({"state": "starting"} | nothing | of_all))

    def summary(self) -> Summary:
        """What all processes did together."""
        self._add_up()
        told = progress(self.counts, self._course.elapsed_seconds, None)
        return summary(self.run_id, self.counts, told, self.exit_code())

    def exit_code(self) -> int:
        """The worst of the processes' own codes and of what is true of all of them."""
        codes = {member.exit_code for member in self._members}
        codes |= {getattr(error, "exit_code", 1) for error in self.stopping.errors}
        codes |= {GUARD} if self.stopping.why == "guard" else set()
        codes |= {DEAD_LETTERS} if self.counts.dead else set()
        return worst(codes)

    def notices(self) -> list[str]:
        """What a person should know of the inputs: which were delivered before."""
        return self._deal.notices

    def errors(self) -> list[Exception]:
        """What a person must know of the end of the run."""
        told = [error for farewell in self._farewells() for error in _as_errors(farewell)]
        return [*told, *self.stopping.errors]

    def _farewells(self) -> list[Farewell]:
        return [member.farewell for member in self._members if member.farewell is not None]

    def _raise_if_refused(self) -> None:
        """A run of which nothing began ends as that of one process does: by the error that forbade it."""
        if self.counts.read or not (refused := [one for one in self._farewells() if one.refused]):
            return
        raise _as_errors(refused[0])[0]


def _as_errors(farewell: Farewell) -> list[WorkerError]:
    told = []
    for code, sentence in farewell.errors:
        error = WorkerError(sentence)
        error.exit_code = code
        told.append(error)
    return told
