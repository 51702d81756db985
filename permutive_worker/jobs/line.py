"""What every line may carry, and the types its fields are made of.

Unknown fields are refused, an optional field that is null counts as absent, duplicate keys: the last
wins. A check that needs more than a type is a `__post_init__` which raises `ValueError("field: fault")`;
msgspec adds the path, `fault.py` makes the sentence. Neither may hold the value of an identifier.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

NonEmpty = Annotated[str, Meta(min_length=1)]
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
# What results and dead letters can hold again.
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]

# Both are stateless.
ENCODER: Final = msgspec.json.Encoder()
FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", kw_only=True, gc=False):
    """The fields of every kind. No reference cycle can arise here, so the collector need not look."""

    job_id: str | Int64 | None = None
    workspace: str | None = None
    destination: Literal["permutive"] | None = None
