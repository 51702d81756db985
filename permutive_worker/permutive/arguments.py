"""From the arguments of a call to what is sent: what a line of the worker may say, a call may say.

So there is one set of checks, and one form of every body.
"""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from permutive_worker.errors import InvalidRequestError
from permutive_worker.jobs.decode import Decoder, Fault
from permutive_worker.jobs.path import check_path_part
from permutive_worker.model import Job

_DECODER: Final = Decoder()
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")  # a price is no text


def job_of(kind: str, **fields: Any) -> Job:
    """Return the job that these arguments are; None and UNSET count as not given.

    Raises:
        InvalidRequestError: one sentence that names the argument, and never holds its value.
    """
    job = _DECODER.decode(encode({"type": kind, **_given(fields)}))
    if isinstance(job, Fault):
        raise InvalidRequestError(job.message)
    return job


def encode(value: Any) -> bytes:
    """Return JSON.

    Raises:
        InvalidRequestError: part of it is no JSON; NaN and infinity are none either.
    """
    try:
        _refuse_nan(value)
        return _ENCODER.encode(value)
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError, RecursionError) as error:
        raise InvalidRequestError(f"the arguments are no JSON: {_fault(error)}") from None


def checked_id(name: str, value: str) -> str:
    """Return an id that may stand in a path.

    Raises:
        InvalidRequestError: it may not.
    """
    try:
        if not value:
            raise ValueError(f"{name}: expected a text that is not empty")
        check_path_part(name, value)
    except ValueError as error:
        raise InvalidRequestError(str(error)) from None
    return value


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not given; `description=None` of an update stays: it says something."""
    return {name: value for name, value in fields.items() if value is not msgspec.UNSET}


def _refuse_nan(value: Any) -> None:
    """The encoder would write null: that is something else."""
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        raise ValueError("NaN and infinity are no numbers in JSON")
    if isinstance(value, Mapping):
        for one in value.values():
            _refuse_nan(one)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for one in value:
            _refuse_nan(one)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            _refuse_nan(getattr(value, name))


def _fault(error: Exception) -> str:
    """An encoder's text names types, not values."""
    return str(error) or type(error).__name__
