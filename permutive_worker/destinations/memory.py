"""A destination and a wire without a network, for the tests of those who embed the worker.

    wire = MemoryWire(lambda request: Response(200, {}, b"{}"))

`MemoryWire` fits under `PermutiveDestination` as well.
"""

from collections.abc import Callable
from datetime import datetime

from permutive_worker.control.retry_after import retry_after_seconds
from permutive_worker.model import Action, ErrorDetail, Job, Request, Response, Verdict


class MemoryWire:
    """Answers with `answer(request)`, which may raise TransportError; `requests` holds all that was sent."""

    def __init__(self, answer: Callable[[Request], Response]) -> None:
        self._answer = answer
        self.requests: list[Request] = []

    async def send(self, request: Request) -> Response:
        self.requests.append(request)
        return self._answer(request)


class MemoryDestination:
    """Sends any kind of job to `/<kind>`. 2xx: delivered, 429: throttled, 5xx: retry, else: reject."""

    def request(self, job: Job, part: int) -> Request:
        return Request("POST", f"/{job.kind}", job.body(part), job.kind)

    def judge(
        self,
        request: Request,  # noqa: ARG002  (the port's)
        response: Response,
        utc_now: Callable[[], datetime],
    ) -> Verdict:
        status = response.status
        if 200 <= status < 300:
            return Verdict(Action.DELIVERED, "delivered", status=status)
        hint = retry_after_seconds(response.headers, utc_now()) or None
        action, why = _classify(status)
        error = ErrorDetail(f"http_{status}", f"the answer was HTTP {status}")
        return Verdict(action, why, status=status, retry_after_seconds=hint, error=error)

    def judge_failure(self, kind: str, *, sent: bool) -> Verdict:
        return Verdict(Action.RETRY, "connection", ambiguous=sent, error=ErrorDetail(kind, "no answer"))


def _classify(status: int) -> tuple[Action, str]:
    if status == 429:
        return Action.THROTTLED, "throttled"
    if status >= 500:
        return Action.RETRY, "server_error"
    return Action.REJECT, "rejected"
