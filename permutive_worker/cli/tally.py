"""What the lines of an input are, counted: what `plan` tells before a run."""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from permutive_worker.credentials import Keyring
from permutive_worker.delivery.intake import NO_WORKSPACE, too_large
from permutive_worker.jobs.decode import KINDS, Decoder, Fault
from permutive_worker.model import Delivery, Job, Reason

KEPT: Final = 20  # positions of each reason: enough to see what is wrong, and no growth
_UUID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_ONLY: Final = ""  # the workspace, where it is not known which there are


class InvalidLine(msgspec.Struct, frozen=True):
    """A line of which a run would make a dead letter."""

    position: str
    message: str


class Found(msgspec.Struct):
    """How many lines have one fault or oddity, with the first of them."""

    lines: int = 0
    first: list[InvalidLine] = []  # msgspec copies an empty default

    def add(self, delivery: Delivery, message: str) -> None:
        self.lines += 1
        if len(self.first) < KEPT:
            self.first.append(InvalidLine(delivery.position, message))


class Tally:
    """Counts lines as a run would see them. It holds nothing of a line but the first positions of faults.

    Args:
        decoder: of the run.
        keyring: to look up the workspaces that lines name; None: they are not looked up.
        workspace: of lines that name none.

    Attributes:
        invalid: by reason, as the dead letters would say it.
        no_uuid: jobs whose `user_id` is no UUID; the API may take them all the same.
        requests: by workspace, for each has a rate of its own.
    """

    def __init__(self, decoder: Decoder, keyring: Keyring | None = None, workspace: str = _ONLY) -> None:
        self._decode = decoder.decode
        self._keyring = keyring
        self._workspace = workspace
        self.lines = 0
        self.blank = 0
        self.text_bytes = 0
        self.jobs = dict.fromkeys(KINDS, 0)
        self.requests: dict[str, int] = {}
        self.invalid: dict[Reason, Found] = {}
        self.no_uuid = Found()

    @property
    def invalid_lines(self) -> int:
        return sum(found.lines for found in self.invalid.values())

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """Count the next lines."""
        for delivery in deliveries:
            self.lines += 1
            raw = delivery.raw
            self.text_bytes += (delivery.oversize_bytes or len(raw)) + 1
            if delivery.oversize_bytes:
                self._add_fault(delivery, too_large(delivery))
                continue
            job = self._decode(raw)
            if not isinstance(job, Fault):
                self._add_job(delivery, job)
            elif raw.strip():
                self._add_fault(delivery, job)
            else:
                self.blank += 1

    def _add_job(self, delivery: Delivery, job: Job) -> None:
        workspace = self._workspace
        if self._keyring is not None and job.workspace is not None:
            key = self._keyring.of(job.workspace)
            if key is None:
                self._add_fault(delivery, NO_WORKSPACE)
                return
            workspace = key.name
        self.jobs[job.kind] += 1
        self.requests[workspace] = self.requests.get(workspace, 0) + job.request_count()
        user_id = getattr(job, "user_id", None)
        if user_id is not None and _UUID.fullmatch(user_id) is None:
            self.no_uuid.add(delivery, "")

    def _add_fault(self, delivery: Delivery, fault: Fault) -> None:
        self.invalid.setdefault(fault.reason, Found()).add(delivery, fault.message)
