"""Makes calls: waits at the gate, sends, tries again where that is safe, and turns failures into errors."""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from permutive_worker.control.backoff import Backoff
from permutive_worker.control.halt import Halt
from permutive_worker.control.retry_after import retry_after_seconds
from permutive_worker.credentials import Credentials
from permutive_worker.errors import (
    ApiConnectionError,
    ApiError,
    AuthenticationError,
    DecodingError,
    NotFoundError,
    RateLimitError,
    TransportError,
)
from permutive_worker.model import Action, Response, Verdict
from permutive_worker.permutive.call import Call, api_of
from permutive_worker.permutive.meaning import (
    error_of_answer,
    error_of_silence,
    may_repeat,
    scrubbed,
    verdict_of,
    verdict_of_silence,
    wait_seconds,
)
from permutive_worker.permutive.options import Options
from permutive_worker.permutive.pool import Pool
from permutive_worker.permutive.turnstile import Closed, Turnstile

T = TypeVar("T")

BACKOFF: Final = Backoff(0.5, 2.0, 8.0)  # someone waits for a call, unlike for a job


class _Failure(msgspec.Struct, frozen=True):
    """One attempt that did not succeed."""

    error: ApiError
    verdict: Verdict


class Caller:
    """Calls with one set of credentials and one set of options, over a shared pool."""

    def __init__(
        self,
        pool: Pool,
        credentials: Credentials,
        options: Options,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self.pool = pool
        self.credentials = credentials
        self.options = options
        self._dice = dice

    async def send(self, call: Call) -> Response:
        """Return the 2xx answer. Cancellation: safe; what was sent may have been taken.

        Raises:
            ApiError: one of its tree.
        """
        turnstile = self.pool.turnstile(self.credentials)  # of all attempts: none is made after `close`
        repeatable = call.repeatable if self.options.idempotent is None else self.options.idempotent
        doubtful = False  # an earlier attempt may have been taken
        attempt = 0
        while True:
            attempt += 1
            key = self.credentials.key
            try:
                outcome = await self._attempt(turnstile, call, attempt)
            except ApiError as unsent:
                unsent.ambiguous = doubtful
                raise
            if isinstance(outcome, Response):
                return outcome
            error, verdict = outcome.error, outcome.verdict
            if doubtful and call.request.method == "DELETE" and isinstance(error, NotFoundError):
                return Response(204, {}, b"")  # the attempt before has done it
            doubtful = doubtful or verdict.ambiguous
            error.ambiguous = doubtful
            if verdict.action is Action.HALT:
                if not self._has_another(key, turnstile):
                    raise error
            elif not self._again(verdict, attempt, repeatable=repeatable):
                raise error
            else:
                await asyncio.sleep(wait_seconds(verdict, attempt, BACKOFF, self._dice()))

    async def read(self, call: Call, form: Callable[[Any], T]) -> T:
        """Return what `form` makes of the JSON of the answer, or of None if it has no body.

        Raises:
            ApiError: as `send`; DecodingError if it is no JSON, or `form` raises ValueError.
        """
        response = await self.send(call)
        try:
            return form(_json(response))
        except ValueError as error:
            why = str(error)
        raise DecodingError(
            f"{call.name} was taken, and its answer cannot be read: {why}",
            status=response.status,
            url=self._base_url(call).rstrip("/") + call.shown_path,
            response=scrubbed(response, self.pool.keyring.scrub),
        )

    def _again(self, verdict: Verdict, attempt: int, *, repeatable: bool) -> bool:
        options = self.options
        if attempt >= options.max_attempts or not may_repeat(verdict, repeatable=repeatable):
            return False
        return (verdict.retry_after_seconds or 0.0) <= options.longest_wait_seconds

    def _has_another(self, refused_key: str, turnstile: Turnstile) -> bool:
        """Look at the key file again: only a new key is worth another attempt."""
        if self.credentials.refresh():
            turnstile.key_changed()
        return self.credentials.key != refused_key

    async def _attempt(self, turnstile: Turnstile, call: Call, attempt: int) -> Response | _Failure:
        pool, base_url = self.pool, self._base_url(call)
        now = pool.clock.monotonic
        probe = await self._enter(turnstile, call, attempt - 1)
        sent_at = now()
        try:
            wire = pool.wire(self.credentials, self.options.timeout_seconds)
            response = await wire.send(call.request)
        except TransportError as error:
            verdict = verdict_of_silence(error)
            turnstile.heard(verdict, sent_at, now(), probe)
            return _Failure(error_of_silence(call, base_url, error, attempt), verdict)
        except BaseException:
            turnstile.leave(sent_at, now(), probe)
            raise
        if 200 <= response.status < 300:
            turnstile.delivered(sent_at, now(), probe)
            return response
        verdict = verdict_of(response.status, retry_after_seconds(response.headers, pool.clock.utc_now()))
        turnstile.heard(verdict, sent_at, now(), probe)
        scrub = pool.keyring.scrub
        return _Failure(error_of_answer(call, base_url, response, verdict, attempt, scrub), verdict)

    async def _enter(self, turnstile: Turnstile, call: Call, attempts: int) -> Halt | None:
        try:
            return await turnstile.enter(self.options.longest_wait_seconds)
        except Closed as closed:
            raise self._not_sent(call, closed, attempts) from None

    def _not_sent(self, call: Call, closed: Closed, attempts: int) -> ApiError:
        url = self._base_url(call).rstrip("/") + call.shown_path
        unsent = f"{call.name} was not sent{' again' if attempts else ''}"
        later = f"and is asked again in {closed.seconds:.1f} s"
        match closed.why:
            case "paused":
                text = f"{unsent}: the API asks to wait, {later}"
                return RateLimitError(text, url=url, attempts=attempts, retry_after=closed.seconds)
            case "down":
                return ApiConnectionError(f"{unsent}: the API does not answer", url=url, attempts=attempts)
            case "closed":
                return ApiConnectionError(f"{unsent}: the client was closed", url=url, attempts=attempts)
        return AuthenticationError(f"{unsent}: the API refused the key, {later}", url=url, attempts=attempts)

    def _base_url(self, call: Call) -> str:
        return self.pool.base_urls[api_of(call.request.path)]


def _json(response: Response) -> Any:
    """Raises ValueError, without the parser's text: that may hold what it read."""
    if response.truncated:
        raise ValueError("it is not all there")
    try:
        return msgspec.json.decode(response.body) if response.body else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ValueError("it is no JSON") from None
