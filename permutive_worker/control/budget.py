"""How many bytes of lines may be pending: the only back-pressure there is."""

from typing import Self


class Budget:
    """Bytes charged from the read of a line to its durable outcome.

    A share of a larger budget charges that one too. A charge may overshoot the limit by one line:
    what counts is that nothing more is read then.
    """

    __slots__ = ("_whole", "limit_bytes", "pending_bytes")

    def __init__(self, limit_bytes: int, whole: Self | None = None) -> None:
        self.limit_bytes = limit_bytes
        self.pending_bytes = 0
        self._whole = whole

    def __repr__(self) -> str:
        return f"<Budget {self.pending_bytes} of {self.limit_bytes} bytes>"

    @property
    def has_room(self) -> bool:
        if self.pending_bytes >= self.limit_bytes:
            return False
        return self._whole is None or self._whole.has_room

    def charge(self, size_bytes: int) -> None:
        self.pending_bytes += size_bytes
        if self._whole is not None:
            self._whole.charge(size_bytes)

    def release(self, size_bytes: int) -> None:
        self.pending_bytes -= size_bytes
        if self._whole is not None:
            self._whole.release(size_bytes)
