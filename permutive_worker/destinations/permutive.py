"""The Permutive API: which request a job becomes, and what an answer means.

    status                          action      ambiguous
    2xx                             delivered
    429                             throttled
    503 that says how long          throttled
    408, 425, other 5xx, 1xx        retry       500, 502, 504
    401                             halt
    403, 3xx, 404 *                 halt, of the job's kind
    501, 505, other 4xx             reject

* on a path without an id in it: not the job is wrong, the base URL is; a kind has a path of its own. Redirects
are never followed, and where they lead to is not looked at: it may echo the key. Ambiguous: the API may have
taken the request all the same.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from permutive_worker.control.retry_after import retry_after_seconds
from permutive_worker.jobs.request import PATHS_WITHOUT_ID, request_of
from permutive_worker.model import Action, ErrorDetail, Job, Request, Response, Verdict
from permutive_worker.permutive.error_detail import Scrub, error_detail

# Shared, so that the hot path builds nothing.
_DELIVERED: Final = {
    status: Verdict(Action.DELIVERED, "delivered", status=status) for status in range(200, 300)
}
_AMBIGUOUS: Final = frozenset({500, 502, 504})
_NEVER: Final = frozenset({501, 505})  # the server will not learn it by waiting
_TIMEOUTS: Final = frozenset({"timeout", "connect_timeout"})


class PermutiveDestination:
    """Requests and verdicts of the Permutive API. Pure.

    Args:
        scrub: removes every known key from what the server says, before it is put on record.
    """

    def __init__(self, scrub: Scrub) -> None:
        self._scrub = scrub

    def request(self, job: Job, part: int) -> Request:
        """Return request `part` of the job, 0 ≤ part < job.request_count()."""
        return request_of(job, part)

    def judge(self, request: Request, response: Response, utc_now: Callable[[], datetime]) -> Verdict:
        """Return what the answer means. Total: any status, headers and bytes."""
        return _DELIVERED.get(response.status) or self._judge_refusal(request, response, utc_now())

    def _judge_refusal(self, request: Request, response: Response, now: datetime) -> Verdict:
        status = response.status
        # A wait of nothing is no hint: our own back-off is more careful.
        hint = retry_after_seconds(response.headers, now) or None
        action, why = self._classify(status, request.path, hint)
        return Verdict(
            action,
            why,
            status=status,
            retry_after_seconds=hint,
            ambiguous=action is Action.RETRY and status in _AMBIGUOUS,
            error=error_detail(response, self._scrub),
            of_kind=action is Action.HALT and status != 401,
        )

    def _classify(self, status: int, path: str, hint: float | None) -> tuple[Action, str]:
        if status == 429 or (status == 503 and hint is not None):
            return Action.THROTTLED, "throttled"
        if status in {401, 403}:
            return Action.HALT, "key_refused"
        if 300 <= status < 400:
            return Action.HALT, "redirected"
        if status == 404 and path.partition("?")[0] in PATHS_WITHOUT_ID:
            return Action.HALT, "not_found"
        if status == 408:
            return Action.RETRY, "timeout"
        if status in _NEVER or (400 <= status < 500 and status != 425):
            return Action.REJECT, "rejected"
        return Action.RETRY, "server_error"

    def judge_failure(self, kind: str, *, sent: bool) -> Verdict:
        """Return what no answer means; `kind` and `sent` as in TransportError."""
        why = "timeout" if kind in _TIMEOUTS else "connection"
        error = ErrorDetail(kind, "the API did not answer")
        return Verdict(Action.RETRY, why, ambiguous=sent, error=error)
