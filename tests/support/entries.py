"""Entries as intake makes them."""

from permutive_worker.jobs.decode import Decoder
from permutive_worker.jobs.fault import Fault
from permutive_worker.model import Delivery, Entry


def entry_of(
    delivery: Delivery, *, kind: str | None = None, read_at: float = 0.0, charge_bytes: int = 1000
) -> Entry:
    job = Decoder(kind).decode(delivery.raw)
    if isinstance(job, Fault):
        return Entry(delivery, None, job.kind, None, read_at, charge_bytes)
    return Entry(delivery, job, job.kind, job.user(), read_at, charge_bytes)
