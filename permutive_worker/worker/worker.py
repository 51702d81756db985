"""One run: its parts are made, opened, watched and closed here."""

import asyncio
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any, Final, Literal

from permutive_worker import __version__
from permutive_worker.config import Settings
from permutive_worker.control.budget import Budget
from permutive_worker.control.exit_code import exit_code
from permutive_worker.control.guard import Guard
from permutive_worker.credentials import Credentials, Keyring, load_keyring
from permutive_worker.delivery.intake import Intake
from permutive_worker.delivery.lane import Lane
from permutive_worker.delivery.pipeline import Pipeline
from permutive_worker.delivery.sender import Sender
from permutive_worker.delivery.settler import Settler
from permutive_worker.delivery.snapshot import lane_status
from permutive_worker.delivery.standstills import Standstills
from permutive_worker.delivery.stop import Stop
from permutive_worker.delivery.trouble import Trouble
from permutive_worker.destinations.permutive import PermutiveDestination
from permutive_worker.errors import WorkerError
from permutive_worker.jobs.decode import KINDS, Decoder
from permutive_worker.model import End, Progress, Summary
from permutive_worker.ports import Clock, Destination, Limiter, OutcomeWriter, Source, SystemClock, Wire
from permutive_worker.telemetry.counts import Counts
from permutive_worker.telemetry.logs import logger
from permutive_worker.telemetry.loop_lag import measure_loop_lag
from permutive_worker.telemetry.metrics import build_registry
from permutive_worker.telemetry.progress import estimate_total, progress, summary
from permutive_worker.telemetry.status import Status
from permutive_worker.worker.inputs import open_source
from permutive_worker.worker.lanes import new_lane, open_wires, policy
from permutive_worker.worker.limiters import open_limiters
from permutive_worker.worker.outputs import file_writers

STANDSTILL_LOOK_SECONDS: Final = 1.0
KEY_LOOK_SECONDS: Final = 5.0  # how often a key file is looked at


class Worker:
    """One run: from its inputs to the summary. Use it once: `await Worker(settings, ["jobs.ndjson"]).run()`."""

    def __init__(
        self,
        settings: Settings,
        inputs: Sequence[str] = ("-",),
        *,
        source: Source | None = None,
        writers: Mapping[End, OutcomeWriter] | None = None,
        wire: Wire | None = None,
        destination: Destination | None = None,
        keyring: Keyring | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        total: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Prepare a run; nothing is opened yet.

        Args:
            settings: see `permutive_worker.config`.
            inputs: `-` (stdin), the URL of a queue, or files, globs and directories.
            source: instead of inputs.
            writers: instead of the files of `settings.output`; an end without a writer settles at once.
            wire: instead of HTTP to `settings.http.base_url`; then no host is tried.
            destination: instead of Permutive's.
            keyring: instead of the keys the environment names.
            on_progress: called in the loop after each group of outcomes (50 times a second at most).
            total: how many lines there are, if that is known.
            clock: for tests.

        Raises:
            UsageError, ConfigurationError: one sentence that says what to do.
        """
        self.settings = settings
        self.keyring = keyring or load_keyring(os.environ)
        self._default_key = self.keyring.default(settings.input.workspace)
        self.run_id = uuid.uuid4().hex[:12]
        self.guard = Guard(settings.guard.max_failures, settings.guard.max_failure_ratio)
        self.stopping = Stop()
        self._clock = clock or SystemClock()
        self._source = source or open_source(settings, inputs)
        self.counts = Counts(self._source.kind, KINDS)
        self.writers = dict(writers) if writers is not None else self._file_writers()
        self._destination = destination or PermutiveDestination(self.keyring.scrub)
        self._wire = wire
        self._on_progress = on_progress
        self._total = total
        self._budget = Budget(settings.delivery.max_pending_bytes)
        self._lanes: dict[str, Lane] = {}
        self._intake: Intake | None = None
        self._settler: Settler | None = None
        self._pipeline: Pipeline | None = None
        self._began = self._clock.monotonic()
        self._took_seconds: float | None = None
        self._began_at: datetime = self._clock.utc_now()
        self._state: Literal["starting", "running", "ended"] = "starting"

    def __repr__(self) -> str:
        return f"<Worker {self.run_id} {self._state} {list(self._lanes.values())!r}>"

    def stop(self) -> None:
        """Take nothing new, finish what is in flight, return the rest; safe to call from a signal handler."""
        self.stopping.request()

    def hurry(self) -> None:
        """Stop without waiting for what is in flight."""
        self.stopping.hurry()

    async def run(self) -> Summary:
        """Deliver everything, or stop early and say so in the summary's exit code.

        Raises:
            WorkerError: nothing was sent: something is missing, unwritable or not reachable.

        Cancellation: as `hurry`; every line that was read is still settled.
        """
        async with AsyncExitStack() as stack:
            await self._open(stack)
            pipeline = await self._build(stack)
            self._state = "running"
            await pipeline.run()
        self._state, self._took_seconds = "ended", self._elapsed_seconds()
        self._tell_progress()
        return self.summary()

    async def _open(self, stack: AsyncExitStack) -> None:
        await self._source.open()
        stack.push_async_callback(self._source.close)
        for writer in self.writers.values():
            await writer.open()
            stack.push_async_callback(self._close_writer, writer)
        if self.settings.admin.listen is not None:
            from permutive_worker.admin.server import AdminServer

            registry = build_registry(self.counts, self.look, __version__)
            server = AdminServer(self.settings.admin.listen, registry, self.look, self.counts)
            await server.start()
            stack.push_async_callback(server.close)

    async def _close_writer(self, writer: OutcomeWriter) -> None:
        try:
            await writer.close()
        except WorkerError as error:
            self.stopping.errors.append(error)

    async def _build(self, stack: AsyncExitStack) -> Pipeline:
        settings, credentials = self.settings, list(self.keyring)
        limiters = await open_limiters(stack, settings, credentials, self._clock.monotonic)
        wires = await self._wires(stack, credentials)
        self._settler = Settler(
            self._source,
            self.writers,
            self.counts,
            self.guard,
            self.stopping,
            self._clock,
            on_settled=self._settled,
        )
        self._intake = Intake(
            self._source,
            Decoder(settings.input.type),
            self._lane_of,
            self._budget,
            self.counts,
            self.stopping,
            on_end=self._settler.put,
            now=self._clock.monotonic,
        )
        senders = [
            (lane, self._sender(lane, wire))
            for lane, wire in (
                (self._new_lane(key, len(credentials), limiters[key.name]), wires[key.name])
                for key in credentials
            )
        ]
        self._pipeline = Pipeline(
            self._source,
            self._intake,
            senders,
            self._settler,
            self.stopping,
            self.counts,
            max_in_flight=settings.delivery.max_in_flight,
            drain_seconds=settings.delivery.drain_seconds,
        )
        await self._start_watching(stack)
        return self._pipeline

    async def _wires(self, stack: AsyncExitStack, credentials: Sequence[Credentials]) -> dict[str, Wire]:
        if self._wire is not None:
            return dict.fromkeys((key.name for key in credentials), self._wire)
        stopped = self.stopping
        return await open_wires(
            stack, self.settings, credentials, finite=self._source.finite, give_up=lambda: stopped.requested
        )

    def _new_lane(self, key: Credentials, lanes: int, limiter: Limiter | None) -> Lane:
        now = self._clock.monotonic
        lane = new_lane(self.settings, key.name, lanes, self._budget, self.counts, now, limiter)
        self._lanes[key.name] = lane
        return lane

    def _sender(self, lane: Lane, wire: Wire) -> Sender:
        settler = self._settler
        assert settler is not None  # noqa: S101  (built just before)
        trouble = Trouble(
            {key.name: key for key in self.keyring},
            self._lanes,
            self.stopping,
            self._clock,
            finite=self._source.finite,
            max_retry_after_seconds=self.settings.rate_limit.max_retry_after_seconds,
            max_halt_seconds=self.settings.delivery.max_halt_seconds,
        )
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
        )

    def _lane_of(self, workspace: str | None) -> Lane | None:
        key = self._default_key if workspace is None else self.keyring.of(workspace)
        return self._lanes[key.name] if key is not None else None

    def _file_writers(self) -> dict[End, OutcomeWriter]:
        return file_writers(
            self.settings,
            self._source,
            run_id=self.run_id,
            scrub=self.keyring.scrub,
            clock=self._clock,
            on_dead_letter_error=self._dead_letter_failed,
        )

    def _dead_letter_failed(self) -> None:
        self.counts.dead_letter_write_errors += 1

    async def _start_watching(self, stack: AsyncExitStack) -> None:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        watching = [
            group.create_task(measure_loop_lag(self._loop_was_late)),
            group.create_task(self._watch_keys()),
            group.create_task(self._watch_standstills()),
        ]
        for task in watching:
            stack.callback(task.cancel)

    def _loop_was_late(self, lag_seconds: float) -> None:
        self.counts.event_loop_lag.observe(lag_seconds)
        for lane in self._lanes.values():
            lane.loop_was_late(lag_seconds)

    async def _watch_keys(self) -> None:
        while True:
            await asyncio.sleep(KEY_LOOK_SECONDS)
            if await asyncio.to_thread(self.keyring.refresh):
                logger().info("credentials.reloaded")

    async def _watch_standstills(self) -> None:
        if self._source.queue is None or self._settler is None:
            return
        standstills = Standstills(self._source.queue, self._settler.put)
        while not self.stopping.requested:
            standstills.look(self._lanes.values(), self._clock.monotonic())
            await asyncio.sleep(STANDSTILL_LOOK_SECONDS)

    def _settled(self) -> None:
        if self._pipeline is not None:
            self._pipeline.look()
        self._tell_progress()

    def _tell_progress(self) -> None:
        if self._on_progress is not None and self.counts.completed:
            self._on_progress(self.progress())

    def progress(self) -> Progress:
        return progress(self.counts, self._elapsed_seconds(), self._total_lines())

    def _elapsed_seconds(self) -> float:
        if self._took_seconds is not None:
            return self._took_seconds
        return self._clock.monotonic() - self._began

    def _total_lines(self) -> int | None:
        if self._total is not None:
            return self._total
        ended = self._intake is not None and self._intake.ended
        return estimate_total(self.counts, self._source.bytes_read(), self._source.bytes_total(), ended=ended)

    def look(self) -> Status:
        """The run at this moment; read by metrics, probes, `/status` and the bar."""
        draining = self._pipeline is not None and self._pipeline.draining and self._state == "running"
        return Status(
            state="draining" if draining else self._state,
            run_id=self.run_id,
            started_at=self._began_at,
            elapsed_seconds=self._elapsed_seconds(),
            lanes=[lane_status(lane, self._clock) for lane in self._lanes.values()],
            held=self._intake.held if self._intake is not None else 0,
            settling=self._settler.settling if self._settler is not None else 0,
            pending_bytes=self._budget.pending_bytes,
            pending_bytes_limit=self._budget.limit_bytes,
            input_position_bytes=self._source.bytes_read(),
            input_size_bytes=self._source.bytes_total(),
            total=self._total_lines(),
            **self._look_at_queue(),
        )

    def _look_at_queue(self) -> dict[str, Any]:
        queue = self._source.queue
        if queue is None:
            return {}
        return {
            "source_away": queue.is_away,
            "source_lag": queue.lag(),
            "source_redeliveries": queue.redeliveries,
            "source_unconfirmed": queue.unconfirmed,
        }

    def summary(self) -> Summary:
        """What the run did; final once `run` has returned."""
        return summary(self.run_id, self.counts, self.progress(), self.exit_code())

    @property
    def is_complete(self) -> bool:
        """Whether the whole input was read and every line of it is settled where it should be."""
        failed = any(getattr(error, "exit_code", 1) in (1, 74) for error in self.errors())
        ended = self._intake is not None and self._intake.ended
        return ended and not failed and self.counts.read == self.counts.ended

    def exit_code(self) -> int:
        cut_short = self._intake is not None and self._intake.cut_short
        return exit_code(
            {getattr(error, "exit_code", 1) for error in self.errors()},
            guard=self.stopping.why == "guard",
            returned=sum(self.counts.returned.values()) or cut_short,
            dead=self.counts.dead,
        )

    def errors(self) -> list[Exception]:
        """What a person must know of the end of the run."""
        told = list(self.stopping.errors)
        if self._intake is not None and self._intake.error is not None:
            told.append(self._intake.error)
        return told
