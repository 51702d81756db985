"""Why a run ends before its input does."""

from collections.abc import Callable
from typing import Literal

Why = Literal["stop", "guard", "halt"]


class Stop:
    """Asked for once or more: the first reason is told, every error is kept for the exit code.

    Anyone may ask, from a signal handler too; the pipeline waits for it and drains.
    """

    def __init__(self) -> None:
        self.requested = False
        self.hurried = False
        self.why: Why | None = None
        self.errors: list[Exception] = []
        self.on_request: Callable[[], None] = _nobody

    def __repr__(self) -> str:
        return f"<Stop {self.why or 'not requested'}>"

    def request(self, why: Why = "stop", error: Exception | None = None) -> None:
        """Take nothing new, finish what is in flight within the drain time."""
        if self.why is None:
            self.why = why
        if error is not None:
            self.errors.append(error)
        self.requested = True
        self.on_request()

    def hurry(self) -> None:
        """Do not wait for what is in flight (a second signal)."""
        self.hurried = True
        self.request()


def _nobody() -> None:
    """Before the pipeline has said how it wants to be told."""
