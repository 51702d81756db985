"""One run: its parts are made, opened, watched and closed here."""

import asyncio
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack

from permutive_worker import __version__
from permutive_worker.config import Settings
from permutive_worker.control.budget import Budget
from permutive_worker.control.exit_code import exit_code
from permutive_worker.control.guard import Guard
from permutive_worker.credentials import Keyring, load_keyring
from permutive_worker.delivery.expiry import Expiry
from permutive_worker.delivery.intake import Intake
from permutive_worker.delivery.lane import Lane
from permutive_worker.delivery.pipeline import Pipeline
from permutive_worker.delivery.sender import Sender
from permutive_worker.delivery.settler import Settler
from permutive_worker.delivery.snapshot import lane_status, lane_to_come, queue_status
from permutive_worker.delivery.standstills import Standstills
from permutive_worker.delivery.stop import Stop
from permutive_worker.delivery.trouble import Trouble
from permutive_worker.destinations.permutive import PermutiveDestination
from permutive_worker.errors import WorkerError
from permutive_worker.http.gate import Gate
from permutive_worker.jobs.decode import KINDS, Decoder
from permutive_worker.model import End, Progress, Summary
from permutive_worker.ports import Clock, Destination, OutcomeWriter, Source, SystemClock, Wire
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.course import Course
from permutive_worker.telemetry.metrics_file import metrics_file
from permutive_worker.telemetry.progress import progress, summary
from permutive_worker.telemetry.status import Status
from permutive_worker.worker.admin import open_admin
from permutive_worker.worker.checkpoints import CheckpointClock, checkpoint_store
from permutive_worker.worker.inputs import open_source, remembered_by, total_lines
from permutive_worker.worker.lanes import policy
from permutive_worker.worker.outputs import file_writers
from permutive_worker.worker.reload import Taken, change_limits, take_over
from permutive_worker.worker.watch import Watch
from permutive_worker.worker.workspaces import Workspaces


class Worker:
    """One run: from its inputs to the summary. Use it once: `await Worker(settings, ["jobs.ndjson"]).run()`."""

    def __init__(
        self,
        settings: Settings,
        inputs: Sequence[str] = ("-",),
        *,
        source: Source | None = None,
        writers: Mapping[End, OutcomeWriter] | None = None,
        wire: Wire | Mapping[str, Wire] | None = None,
        gates: Mapping[str, Gate] | None = None,
        destination: Destination | None = None,
        keyring: Keyring | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        total: int | None = None,
        restart: bool = False,
        clock: Clock | None = None,
        run_id: str | None = None,
    ) -> None:
        """Prepare a run; nothing is opened yet.

        Args:
            settings: see `permutive_worker.config`.
            inputs: `-` (stdin), the URL of a queue, or files, globs and directories.
            source: instead of inputs.
            writers: instead of the files of `settings.output`; an end without a writer settles at once.
            wire: instead of HTTP to `settings.http.base_url`, also one for each workspace; then no host is tried.
            gates: by workspace, that a client passes as well; `settings.rate_limit` does not bear on them.
            destination: instead of Permutive's.
            keyring: instead of the keys the environment names.
            on_progress: called in the loop after each group of outcomes (50 times a second at most).
            total: how many lines there are, if that is known.
            restart: forget what is known of the inputs, and send them from their first lines.
            clock: for tests.
            run_id: of a run that has several workers.

        Raises:
            UsageError, ConfigurationError: one sentence that says what to do.
        """
        self.settings = settings
        self.keyring = keyring or load_keyring(os.environ)
        self._workspaces = Workspaces(self.keyring, settings.input.workspace, wire, gates or {})
        self.run_id = run_id or uuid.uuid4().hex[:12]
        self.stopping = Stop()
        self._clock = clock or SystemClock()
        store = checkpoint_store(settings, self.keyring, restart=restart)
        self._source = source or open_source(settings, inputs, store)
        self._remembered = remembered_by(self._source)
        ratio = settings.guard.max_failure_ratio if self._source.finite else 1.0  # a service goes on
        self.guard = Guard(settings.guard.max_failures, ratio)
        self.counts = Counts(self._source.kind, KINDS)
        self.writers = dict(writers) if writers is not None else self._file_writers()
        self._checkpoints: CheckpointClock | None = None
        self._destination = destination or PermutiveDestination(self.keyring.scrub)
        self._watch: Watch | None = None
        self._on_progress = on_progress
        self._total = total
        self._budget = Budget(settings.delivery.max_pending_bytes)
        self._intake: Intake | None = None
        self._settler: Settler | None = None
        self._pipeline: Pipeline | None = None
        self._course = Course(self._clock)
        self._writer_failed = False  # so what was settled may have no outcome on the disk

    def __repr__(self) -> str:
        return f"<Worker {self.run_id} {self._course.state} {list(self._workspaces.lanes.values())!r}>"

    def stop(self) -> None:
        """Take nothing new, finish what is in flight, return the rest; safe to call from a signal handler."""
        self.stopping.request()

    def hurry(self) -> None:
        """Stop without waiting for what is in flight."""
        self.stopping.hurry()

    def reload(self, settings: Settings) -> Taken:
        """Take what of `settings` a running worker can, and look at the key files. Gates that were given stay.

        Raises:
            ConfigurationError: what can change does not go with what cannot; nothing was changed.
        """
        taken = take_over(self.settings, settings)
        change_limits(self._workspaces.gates.values(), self.settings, taken.settings, self._clock.monotonic())
        self.settings = taken.settings
        if self._pipeline is not None:
            self._pipeline.raise_max_in_flight(settings.delivery.max_in_flight)
        for lane in self._workspaces.lanes.values():
            lane.wake()
        if self._watch is not None:
            self._watch.look_at_keys()
        return taken

    async def run(self) -> Summary:
        """Deliver everything, or stop early and say so in the summary's exit code.

        Raises:
            WorkerError: nothing was sent: something is missing, unwritable or not reachable.

        Cancellation: as `hurry`; every line that was read is still settled.
        """
        async with metrics_file(self.settings.output.metrics, self.counts, self.look, __version__):
            async with AsyncExitStack() as stack:
                await self._open(stack)
                pipeline = await self._build(stack)
                self._course.run()
                await pipeline.run()
            self._end()
        self._tell_progress()
        return self.summary()

    async def _open(self, stack: AsyncExitStack) -> None:
        listen = self.settings.admin.listen
        await open_admin(stack, listen, self.counts, self.look, self._clock, self._end)
        if self._source.queue is not None:  # its broker may be waited for
            self.stopping.on_request = self._source.interrupt
            if self.stopping.requested:
                self._source.interrupt()
        await self._source.open()
        stack.push_async_callback(self._source.close)
        stack.push_async_callback(self._save_last)
        for writer in self.writers.values():
            await writer.open()
            stack.push_async_callback(self._close_writer, writer)

    def _end(self, error: BaseException | None = None) -> None:
        if isinstance(error, Exception):
            self.stopping.errors.append(error)
        self._course.end()
        if self._source.finite and self.exit_code() == 0:
            self.counts.last_success_at = self._clock.utc_now()

    async def _close_writer(self, writer: OutcomeWriter) -> None:
        try:
            await writer.close()
        except WorkerError as error:
            self._writer_failed = True
            self.stopping.errors.append(error)

    async def _save_last(self) -> None:
        if self._checkpoints is not None and not self._writer_failed:
            await self._checkpoints.save_last()

    async def _build(self, stack: AsyncExitStack) -> Pipeline:
        settings = self.settings
        await self._open_workspaces(stack)
        self._settler = settler = Settler(
            self._source,
            self.writers,
            self.counts,
            self.guard,
            self.stopping,
            self._clock,
            on_settled=self._settled,
        )
        self._intake = intake = Intake(
            self._source,
            Decoder(settings.input.type),
            self._workspaces.lane_of,
            self._budget,
            self.counts,
            self.stopping,
            on_end=settler.put,
            now=self._clock.monotonic,
        )
        trouble = self._trouble(intake)
        senders = [
            (lane, self._sender(lane, wire, trouble, settler)) for lane, wire in self._workspaces.with_wires()
        ]
        self._pipeline = Pipeline(
            self._source,
            intake,
            senders,
            settler,
            self.stopping,
            self.counts,
            max_in_flight=self.settings.delivery.max_in_flight,
            drain_seconds=settings.delivery.drain_seconds,
        )
        expiry = Expiry(settings.delivery.max_age_seconds, settler.put)
        queue = self._source.queue
        standstills = Standstills(queue, settler.put) if queue is not None else None
        cpu_seconds = time.thread_time if isinstance(self._clock, SystemClock) else float
        self._watch = Watch(
            self._workspaces.lanes,
            self.keyring,
            self.counts,
            trouble,
            expiry,
            standstills,
            self._clock,
            cpu_seconds,
        )
        await self._start_watching(stack, self._watch)
        return self._pipeline

    async def _open_workspaces(self, stack: AsyncExitStack) -> None:
        settings = self.settings
        await self._workspaces.open(
            stack,
            settings,
            self._budget,
            self.counts,
            self._clock.monotonic,
            finite=self._source.finite,
            needed=self._remembered is None or not self._remembered.all_delivered,
            until_stopped=self.stopping.wait,
        )
        # There may have been a reload meanwhile.
        change_limits(self._workspaces.gates.values(), settings, self.settings, self._clock.monotonic())

    def _trouble(self, intake: Intake) -> Trouble:
        remembered = self._remembered
        return Trouble(
            {key.name: key for key in self.keyring},
            self._workspaces.lanes,
            self.stopping,
            self._clock,
            lambda: intake.ended or intake.held > 0 or (remembered is not None and remembered.is_full),
            finite=self._source.finite,
            max_retry_after_seconds=self.settings.rate_limit.max_retry_after_seconds,
            max_halt_seconds=self.settings.delivery.max_halt_seconds,
        )

    def _sender(self, lane: Lane, wire: Wire, trouble: Trouble, settler: Settler) -> Sender:
        return Sender(
            lane,
            wire,
            self._destination,
            self.counts,
            policy(self.settings),
            self._clock,
            settler.put,
            trouble,
            self.keyring.scrub,
            keeps_answers=End.DELIVERED in self.writers,
        )

    def _file_writers(self) -> dict[End, OutcomeWriter]:
        return file_writers(
            self.settings,
            self._source,
            run_id=self.run_id,
            scrub=self.keyring.scrub,
            clock=self._clock,
            on_dead_letter_error=self.counts.dead_letter_failed,
            on_lost=self.counts.lose,
            given_up=lambda: self.stopping.given_up,
        )

    async def _start_watching(self, stack: AsyncExitStack, watch: Watch) -> None:
        works = watch.works
        if self._remembered is not None:
            self._checkpoints = CheckpointClock(
                self._remembered,
                self.writers.values(),
                self.settings.state.checkpoint_seconds,
                self.stopping,
                self.counts,
                self._clock,
            )
            works += self._checkpoints.works
        group = await stack.enter_async_context(asyncio.TaskGroup())
        for work in works:
            stack.callback(group.create_task(work()).cancel)

    def _settled(self) -> None:
        if self._pipeline is not None:
            self._pipeline.look()
        self._tell_progress()

    def _tell_progress(self) -> None:
        if self._on_progress is not None and self.counts.completed:
            self._on_progress(self.progress())

    def progress(self) -> Progress:
        return progress(self.counts, self._course.elapsed_seconds, self._total_lines())

    def _total_lines(self) -> int | None:
        if self._total is not None:
            return self._total
        ended = self._is_read and not self._is_cut_short
        return total_lines(self._source, self.counts, ended=ended)

    @property
    def _is_read(self) -> bool:
        return self._intake is not None and self._intake.ended

    @property
    def _is_cut_short(self) -> bool:
        return self._intake is not None and self._intake.cut_short

    def look(self) -> Status:
        """The run at this moment; read by metrics, probes, `/status` and the bar."""
        draining = self._pipeline is not None and self._pipeline.draining and self._course.state == "running"
        choice = self._workspaces.choice
        lanes = [lane_status(lane, self._clock) for lane in self._workspaces.lanes.values()]
        return Status(
            state="draining" if draining else self._course.state,
            run_id=self.run_id,
            started_at=self._course.began_at,
            elapsed_seconds=self._course.elapsed_seconds,
            lanes=lanes
            or [lane_to_come(key.name, self.settings.rate_limit.rate_per_second) for key in self.keyring],
            held=self._intake.held if self._intake is not None else 0,
            settling=self._settler.settling if self._settler is not None else 0,
            pending_bytes=self._budget.pending_bytes,
            pending_bytes_limit=self._budget.limit_bytes,
            input_position_bytes=self._source.bytes_read(),
            input_size_bytes=self._source.bytes_total(),
            total=self._total_lines(),
            wire=choice.kind if choice is not None else None,
            wire_fallback=choice.fallback if choice is not None else None,
            last_dead_letters=self._settler.letters.latest if self._settler is not None else [],
            exit_code=self.exit_code() if self._course.state == "ended" else None,
            **queue_status(self._source.queue),
        )

    def summary(self) -> Summary:
        """What the run did; final once `run` has returned."""
        return summary(self.run_id, self.counts, self.progress(), self.exit_code())

    @property
    def is_complete(self) -> bool:
        """Whether the whole input was read and every line of it is settled where it should be."""
        failed = any(getattr(error, "exit_code", 1) in (1, 74) for error in self.errors())
        left = self.stopping.hurried  # then the input may not have been read to its end
        return self._is_read and not failed and not left and self.counts.read == self.counts.ended

    def exit_code(self) -> int:
        return exit_code(
            {getattr(error, "exit_code", 1) for error in self.errors()},
            guard=self.stopping.why == "guard",
            returned=sum(self.counts.returned.values()) or (self._is_cut_short and self._source.finite),
            dead=self.counts.dead,
        )

    def notices(self) -> list[str]:
        """What a person should know of the inputs: which were delivered before."""
        return self._remembered.notices if self._remembered is not None else []

    def errors(self) -> list[Exception]:
        """What a person must know of the end of the run."""
        told = list(self.stopping.errors)
        if self._intake is not None and self._intake.error is not None:
            told.append(self._intake.error)
        return told
