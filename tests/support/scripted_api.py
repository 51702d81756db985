"""A client over answers a test gives, with the loop's clock."""

import json
from collections.abc import Callable

from support.worker import KEY, LoopClock

from permutive_worker.destinations.memory import MemoryWire
from permutive_worker.model import Request, Response
from permutive_worker.permutive.client import PermutiveClient


def answered(status: int, content: object = None, **headers: str) -> Response:
    body = b"" if content is None else json.dumps(content).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def envelope(code: int = 1000, message: str = "no", **more: object) -> dict:
    return {"request_id": "r-1", "error": {"status": "X", "code": code, "message": message, **more}}


def script(*answers: Response | Exception) -> Callable[[Request], Response]:
    """Give the answers one after another, the last one for ever."""
    left = list(answers)

    def answer(_: Request) -> Response:
        one = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(one, Exception):
            raise one
        return one

    return answer


def scripted(
    *answers: Response | Exception | Callable, **given: object
) -> tuple[PermutiveClient, MemoryWire]:
    """A client and the wire that has what it sent. Call it in a running loop."""
    wire = MemoryWire(answers[0] if callable(answers[0]) else script(*answers))
    given = {"api_key": KEY, **given} if "credentials" not in given else given
    return PermutiveClient(wire=wire, clock=LoopClock(), **given), wire
