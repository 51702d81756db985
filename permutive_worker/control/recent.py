"""Whether half of the last twenty answers had something in common."""

from typing import Final

SPAN: Final = 20
HALF: Final = SPAN // 2
_MASK: Final = (1 << SPAN) - 1


class Recent:
    """Pure. One bit an answer; `mostly` is also true of the first ten."""

    __slots__ = ("_bits",)

    def __init__(self) -> None:
        self._bits = 0

    def __repr__(self) -> str:
        return f"<Recent {self._bits.bit_count()} of {SPAN}>"

    def had(self) -> None:
        self._bits = (self._bits << 1 | 1) & _MASK

    def had_not(self) -> None:
        self._bits = self._bits << 1 & _MASK

    @property
    def any(self) -> bool:
        return self._bits != 0

    @property
    def mostly(self) -> bool:
        return self._bits.bit_count() >= HALF

    def forget(self) -> None:
        self._bits = 0
