"""How far a run is, and for how long it has been under way; that of one process or of several."""

from typing import Literal

from permutive_worker.ports import Clock


class Course:
    """Starting, then running, then ended; the time stands still at the end.

    Attributes:
        began_at: by the wall clock.
    """

    def __init__(self, clock: Clock) -> None:
        self.state: Literal["starting", "running", "ended"] = "starting"
        self.began_at = clock.utc_now()
        self._clock = clock
        self._began = clock.monotonic()
        self._took_seconds: float | None = None

    def run(self) -> None:
        self.state = "running"

    def end(self) -> None:
        """May be called twice."""
        self._took_seconds = self.elapsed_seconds
        self.state = "ended"

    @property
    def elapsed_seconds(self) -> float:
        if self._took_seconds is not None:
            return self._took_seconds
        return self._clock.monotonic() - self._began
