"""Why a run ends before its input does."""

import asyncio
from collections.abc import Callable
from typing import Literal

Why = Literal["stop", "guard", "halt", "pause"]


class Stop:
    """Asked for once or more: the first reason is told, every error is kept for the exit code.

    Anyone may ask, from a signal handler too; the pipeline waits for it and drains.
    """

    def __init__(self) -> None:
        self.requested = False
        self.hurried = False
        self.given_up = False  # no reader of what we write is waited for any more; read by threads
        self.why: Why | None = None
        self.errors: list[Exception] = []
        self.on_request: Callable[[], None] = _nobody
        self._asked = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Stop {self.why or 'not requested'}>"

    def request(self, why: Why = "stop", error: Exception | None = None) -> None:
        """Take nothing new, finish what is in flight within the drain time."""
        if self.why is None:
            self.why = why
        if error is not None:
            self.errors.append(error)
        self.requested = True
        self._asked.set()
        self.on_request()

    async def wait(self) -> None:
        """Return once it was asked for."""
        await self._asked.wait()

    def hurry(self) -> None:
        """Do not wait for what is in flight, nor for readers (a second signal)."""
        self.hurried = True
        self.give_up()
        self.request()

    def give_up(self) -> None:
        """Do not wait for who reads our outcomes any more: what they have not taken is not written."""
        self.given_up = True


def _nobody() -> None:
    """Before the pipeline has said how it wants to be told."""
