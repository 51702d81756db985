"""From the bytes of a line to a job. Total: any bytes give a job or a fault."""

from collections.abc import Callable, Mapping
from typing import Final, get_args

import msgspec

from permutive_worker.errors import ConfigurationError
from permutive_worker.jobs.cohort import CohortJob
from permutive_worker.jobs.event import Event
from permutive_worker.jobs.fault import DECODE_ERRORS, Fault, explain, read_fields
from permutive_worker.jobs.identify import Identify
from permutive_worker.jobs.segment import SegmentJob
from permutive_worker.jobs.segmentation import Segmentation
from permutive_worker.model import Job

__all__ = ["KINDS", "Decoder", "Fault"]

_AnyJob = Identify | Segmentation | Event | CohortJob | SegmentJob
_TYPES: Final[Mapping[str, type[_AnyJob]]] = {job_type.kind: job_type for job_type in get_args(_AnyJob)}
KINDS: Final = tuple(_TYPES)


class Decoder:
    """Turns lines into jobs.

    Args:
        default_kind: the kind of lines that have no `type`, one of `KINDS`; None: they are faults.

    Raises:
        ConfigurationError: the kind is not known.
    """

    def __init__(self, default_kind: str | None = None) -> None:
        if default_kind is not None and default_kind not in _TYPES:
            raise ConfigurationError(f'input.type: unknown kind "{default_kind}"; known: {", ".join(KINDS)}')
        self._default_kind = default_kind
        self._decode_by_type: Callable[[bytes], Job] = msgspec.json.Decoder(_AnyJob).decode
        # The decoder of one kind takes its lines with or without a type.
        self._decode: Callable[[bytes], Job] = (
            self._decode_by_type
            if default_kind is None
            else msgspec.json.Decoder(_TYPES[default_kind]).decode
        )

    def decode(self, raw: bytes) -> Job | Fault:
        """Return the job that a line asks for, or why it is none. Never raises."""
        try:
            return self._decode(raw)
        except DECODE_ERRORS as error:
            return self._decode_or_explain(raw, error)

    def _decode_or_explain(self, raw: bytes, error: Exception) -> Job | Fault:
        fields = read_fields(raw)
        if isinstance(fields, Fault):
            return fields
        if self._default_kind and "type" in fields:  # it may be another kind than the default
            try:
                return self._decode_by_type(raw)
            except DECODE_ERRORS as second:
                error = second
        return explain(fields, error, _TYPES, self._default_kind)
