"""What is repeated and what is not, what waits, and what errors say."""

import asyncio
import math
import pickle
from decimal import Decimal
from itertools import pairwise

import pytest
from support.jump_loop import run_jumping
from support.scripted_api import answered, envelope, scripted
from support.worker import KEY

import permutive_worker.permutive as api
from permutive_worker.credentials import Credentials, Keyring, Scrubber
from permutive_worker.errors import ConfigurationError, CredentialsError, TransportError
from permutive_worker.http.gate import Gate
from permutive_worker.permutive import Alias, Event, PermutiveClient

EVENT = Event("Pageview", "2025-07-01T15:39:11.594Z")
COHORT = {"id": "i", "name": "n", "code": 12345}
SEGMENT = {"id": "i", "name": "n", "code": "c", "import_id": "m"}
MEMBER = {"user_id": "u", "cohorts": []}
CUT = TransportError("reset", sent=True)
REFUSED_CONNECTION = TransportError("connect", sent=False)

CALLS = {
    "identify": (lambda p: p.identify("u", []), {"user_id": "u"}),
    "users.create": (lambda p: p.users.create(), {"id": "u"}),
    "users.aliases": (lambda p: p.users.aliases("u"), []),
    "segment": (lambda p: p.segment("u", events=[EVENT]), MEMBER),
    "stateless": (lambda p: p.segmentation.stateless("u", events=[EVENT]), MEMBER),
    "events.send": (lambda p: p.events.send("A", user_id="u"), {"user_id": "u"}),
    "context": (lambda p: p.context.segment("https://example.com/"), {}),
    "cohorts.list": (lambda p: p.cohorts.list().collect(), [COHORT]),
    "cohorts.get": (lambda p: p.cohorts.get("i"), COHORT),
    "cohorts.create": (lambda p: p.cohorts.create(name="n", query={}), COHORT),
    "cohorts.update": (lambda p: p.cohorts.update("i", name="n"), COHORT),
    "cohorts.delete": (lambda p: p.cohorts.delete("i"), None),
    "imports.list": (lambda p: p.imports.list().collect(), {"items": []}),
    "imports.get": (lambda p: p.imports.get("m"), {"id": "m", "name": "n"}),
    "segments.list": (lambda p: p.segments.list("m").collect(), {"elements": []}),
    "segments.get": (lambda p: p.segments.get("m", "i"), SEGMENT),
    "segments.create": (lambda p: p.segments.create("m", code="c", name="n"), SEGMENT),
    "segments.update": (lambda p: p.segments.update("m", "i", name="n"), SEGMENT),
    "segments.delete": (lambda p: p.segments.delete("m", "i"), SEGMENT),
}
SAFE = {
    name
    for name in CALLS
    if name.split(".")[-1] in {"identify", "aliases", "context", "list", "get", "delete"}
}
every_call = pytest.mark.parametrize("name", CALLS)


async def attempts_of(name, *answers, **given):
    call, good = CALLS[name]
    permutive, wire = scripted(*answers, answered(200, good), **given)
    try:
        await call(permutive)
    except api.ApiError as error:
        return len(wire.requests), error
    return len(wire.requests), None


@every_call
@pytest.mark.parametrize("trouble", [CUT, answered(500), answered(502), answered(504)], ids=repr)
def test_what_may_have_been_done_is_repeated_only_where_that_is_safe(name, trouble):
    sent, error = run_jumping(attempts_of(name, trouble))

    assert (sent, error is None) == ((2, True) if name in SAFE else (1, False))
    assert error is None or error.ambiguous


@every_call
@pytest.mark.parametrize(
    "trouble",
    [REFUSED_CONNECTION, answered(429), answered(503, Retry_After="2"), answered(503), answered(408)],
    ids=repr,
)
def test_what_was_certainly_not_taken_is_always_repeated(name, trouble):
    sent, error = run_jumping(attempts_of(name, trouble))

    assert (sent, error) == (2, None)


@every_call
@pytest.mark.parametrize("status", [302, 400, 403, 404, 409, 413, 422, 501])
def test_a_refusal_is_not_repeated(name, status):
    sent, error = run_jumping(attempts_of(name, answered(status, envelope())))

    assert (sent, error.status, error.attempts) == (1, status, 1)


def test_idempotence_may_be_said_by_the_caller():
    async def calls():
        permutive, wire = scripted(CUT, answered(200, COHORT), CUT, answered(200, COHORT))
        await permutive.with_options(idempotent=True).cohorts.create(name="n", query={})
        with pytest.raises(api.ApiConnectionError):
            await permutive.with_options(idempotent=False).cohorts.get("i")
        return len(wire.requests)

    assert run_jumping(calls()) == 3


def test_a_delete_that_was_cut_and_then_finds_nothing_has_deleted():
    async def delete(*answers):
        permutive, _ = scripted(*answers)
        return await permutive.segments.delete("m", "i")

    assert run_jumping(delete(CUT, answered(404, envelope()))) is None
    with pytest.raises(api.NotFoundError):
        run_jumping(delete(REFUSED_CONNECTION, answered(404, envelope())))


def test_attempts_are_bounded_and_there_is_no_wait_after_the_last():
    async def last_at():
        permutive, wire = scripted(answered(500), max_attempts=4)
        with pytest.raises(api.ServerError) as failure:
            await permutive.cohorts.get("i")
        return len(wire.requests), failure.value.attempts, asyncio.get_running_loop().time()

    sent, attempts, seconds = run_jumping(last_at())
    assert sent == attempts == 4
    assert seconds <= 0.5 + 1 + 2  # full jitter; a fourth wait would be up to 4 s


def test_retry_after_holds_every_call_of_the_key():
    async def times():
        loop = asyncio.get_running_loop()
        sent = []

        def answer(_):
            sent.append(loop.time())
            return answered(429, Retry_After="7") if len(sent) == 1 else answered(200, COHORT)

        permutive, _ = scripted(answer)
        first = asyncio.create_task(permutive.cohorts.get("i"))
        await asyncio.sleep(1)
        await asyncio.gather(first, *(permutive.with_options(timeout=2).cohorts.get("i") for _ in range(5)))
        return sent

    first, *others = run_jumping(times())
    assert len(others) == 6
    assert min(others) >= first + 7


@pytest.mark.parametrize("value", ["1.5", "Thu, 01 Jan 2026 00:00:02 GMT", "rubbish", "-3", "nan"])
def test_any_retry_after_is_understood_or_ignored(value):
    sent, error = run_jumping(attempts_of("cohorts.get", answered(429, Retry_After=value)))

    assert (sent, error) == (2, None)


def test_a_pause_that_is_too_long_is_an_error_at_once_and_for_the_calls_after():
    async def calls():
        permutive, wire = scripted(answered(429, Retry_After="86400"))
        errors = []
        for _ in range(3):
            with pytest.raises(api.RateLimitError) as failure:
                await permutive.cohorts.get("i")
            errors.append(failure.value)
        return errors, len(wire.requests), asyncio.get_running_loop().time()

    errors, sent, seconds = run_jumping(calls())
    assert sent == 1
    assert seconds < 1
    assert errors[0].retry_after == pytest.approx(86400, abs=1)
    assert errors[0].status == 429
    assert errors[2].attempts == 0


def test_a_refused_key_stops_the_calls_that_follow():
    async def calls():
        permutive, wire = scripted(answered(401, envelope(2000)))
        failures = await asyncio.gather(
            *(permutive.users.aliases(f"u{number}") for number in range(1000)), return_exceptions=True
        )
        return failures, len(wire.requests)

    failures, sent = run_jumping(calls())
    assert {type(failure) for failure in failures} == {api.AuthenticationError}
    assert sent <= 34  # what was in flight, and probes


def test_a_key_that_was_replaced_is_taken_up_within_the_call():
    async def call():
        keys = iter(["new-key-0123456789"] * 9)
        credentials = Credentials("old-key-0123456789", scrubber := Scrubber(), reread=lambda: next(keys))
        used = []

        def answer(_):
            used.append(credentials.key)
            return answered(200, COHORT) if credentials.key.startswith("new") else answered(401)

        permutive, _ = scripted(answer, credentials=Keyring([credentials], scrubber))
        await asyncio.gather(permutive.cohorts.get("i"), permutive.cohorts.get("i"))
        return used

    assert "new-key-0123456789" in run_jumping(call())


def test_a_key_that_is_replaced_after_a_refusal_is_taken_up_at_once():
    async def calls():
        keys = ["old-key-0123456789"]
        credentials = Credentials(keys[0], scrubber := Scrubber(), reread=lambda: keys[0])

        def answer(_):
            return answered(200, COHORT) if credentials.key.startswith("new") else answered(401)

        permutive, wire = scripted(answer, credentials=Keyring([credentials], scrubber))
        with pytest.raises(api.AuthenticationError):
            await permutive.cohorts.get("i")
        keys[0] = "new-key-0123456789"
        await permutive.cohorts.get("i")  # a probe with the old key, then with the new one
        return len(wire.requests), asyncio.get_running_loop().time()

    sent, seconds = run_jumping(calls())
    assert (sent, seconds) == (3, 0)


@pytest.mark.parametrize(
    ("status", "name", "alias"),
    [
        (400, "BadRequestError", "PermutiveBadRequestError"),
        (401, "AuthenticationError", "PermutiveAuthenticationError"),
        (403, "PermissionDeniedError", "PermutiveAuthenticationError"),
        (404, "NotFoundError", "PermutiveResourceNotFoundError"),
        (409, "ConflictError", "PermutiveAPIError"),
        (413, "TooLargeError", "PermutiveAPIError"),
        (422, "UnprocessableError", "PermutiveAPIError"),
        (418, "ApiError", "PermutiveAPIError"),
        (429, "RateLimitError", "PermutiveRateLimitError"),
        (500, "ServerError", "PermutiveServerError"),
        (503, "ServerError", "PermutiveServerError"),
    ],
)
def test_errors_by_status(status, name, alias):
    body = envelope(4711, "It failed.", cause="Because.")
    _, error = run_jumping(attempts_of("cohorts.get", answered(status, body), max_attempts=1))

    assert type(error) is getattr(api, name)
    assert isinstance(error, getattr(api, alias))
    assert (error.status, error.code, error.request_id) == (status, 4711, "r-1")
    assert error.url == "https://api.permutive.app/cohorts-api/v2/cohorts/i"
    assert "It failed. Because." in error.response.body.decode() or b"Because." in error.response.body
    assert (
        str(error)
        == error.message
        == (f"GET /cohorts-api/v2/cohorts/i was answered {status}: It failed. Because. (request_id r-1)")
    )
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.status, again.request_id) == (type(error), status, "r-1")


@pytest.mark.parametrize(
    ("kind", "expected"), [("timeout", "ApiTimeoutError"), ("reset", "ApiConnectionError")]
)
def test_errors_without_an_answer(kind, expected):
    _, error = run_jumping(attempts_of("segment", TransportError(kind, sent=True)))

    assert type(error) is getattr(api, expected)
    assert (error.status, error.response, error.attempts, error.ambiguous) == (None, None, 1, True)
    assert isinstance(error, TimeoutError) is (kind == "timeout")


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("cohorts.get", answered(200, [])),
        ("cohorts.get", answered(200, {"id": "i"})),
        ("cohorts.get", answered(200)),
        ("identify", answered(200, {"id": "u"})),
        ("segments.list", answered(200, {"nothing": []})),
    ],
)
def test_an_answer_that_cannot_be_read_says_that_the_call_was_taken(name, answer):
    sent, error = run_jumping(attempts_of(name, answer))

    assert sent == 1
    assert isinstance(error, api.DecodingError)
    assert error.status == 200
    assert "was taken" in str(error)


def test_a_redirect_is_never_followed():
    sent, error = run_jumping(attempts_of("cohorts.create", answered(302, None, Location="https://x/")))

    assert (sent, error.status) == (1, 302)
    assert "check base_url" in str(error)


def test_neither_key_nor_user_reach_an_error():
    leaky = answered(400, envelope(message=f"bad key {KEY}"), Location=f"https://x/?k={KEY}")
    _, error = run_jumping(attempts_of("users.aliases", leaky))

    told = f"{error!r} {error} {vars(error)} {error.response}"
    assert KEY not in told
    assert "/v2.0/users/[user]/aliases" in error.url


@every_call
def test_no_repr_shows_the_key(name):
    async def client():
        return scripted(answered(200))[0]

    permutive = run_jumping(client())
    assert KEY not in f"{permutive!r} {permutive.keyring!r} {permutive.gates!r} {list(permutive.workspaces)}"


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda p: p.identify("", []), "user_id: expected str of length >= 1"),
        (
            lambda p: p.identify("u", [Alias("ann@example.com", "email_sha256")]),
            "aliases[0].id: it is an unhashed",
        ),
        (lambda p: p.segment("u", events=[]), "events: expected array of length >= 1"),
        (lambda p: p.segment("u", alias=Alias("a", "t"), events=[EVENT]), "expected exactly one of user_id"),
        (lambda p: p.segment("u", events=[Event("A b", "2025-07-01T15:39:11Z")]), "events[0].name"),
        (lambda p: p.segment("u", events=[Event("A", "2025-07-01T15:39:11")]), "with a zone"),
        (lambda p: p.segment("u", events=[Event("A", EVENT.time, {"x": float("nan")})]), "NaN"),
        (lambda p: p.segment("u", events=[Event("A", EVENT.time, {"x": "y" * 1_000_000})]), "the API takes"),
        (lambda p: p.segment("u", events=[Event("A", EVENT.time, {"x": object()})]), "no JSON"),
        (lambda p: p.segmentation.stateless("u", events=[EVENT] * 11), "at most 10"),
        (lambda p: p.events.send("A"), "user_id: missing"),
        (lambda p: p.cohorts.update("i"), "an update needs"),
        (lambda p: p.cohorts.get(".."), "cannot stand in a path"),
        (lambda p: p.segments.get_by_code("m", ""), "not empty"),
        (lambda p: p.segments.update("m", "i"), "an update needs"),
        (lambda p: p.context.segment(""), "url"),
    ],
)
def test_what_the_api_does_not_take_is_not_sent(call, told):
    async def sent():
        permutive, wire = scripted(answered(200))
        with pytest.raises(api.InvalidRequestError) as failure:
            await call(permutive)
        assert isinstance(failure.value, ValueError)
        return str(failure.value), wire.requests

    message, requests = run_jumping(sent())
    assert told in message
    assert "ann@" not in message
    assert requests == []


def test_places_bound_what_is_in_flight():
    async def most():
        permutive, wire = scripted(answered(200, COHORT), max_in_flight=4)
        flying = highest = 0
        send = wire.send

        async def slow(request):
            nonlocal flying, highest
            flying += 1
            highest = max(highest, flying)
            await asyncio.sleep(1)
            flying -= 1
            return await send(request)

        wire.send = slow
        await asyncio.gather(*(permutive.cohorts.get("i") for _ in range(40)))
        return highest, asyncio.get_running_loop().time()

    highest, seconds = run_jumping(most())
    assert highest == 4
    assert seconds == pytest.approx(10, abs=0.5)


def test_a_rate_holds():
    async def seconds():
        permutive, _ = scripted(answered(200, COHORT), rate_per_second=10)
        await asyncio.gather(*(permutive.cohorts.get("i") for _ in range(50)))
        return asyncio.get_running_loop().time()

    assert run_jumping(seconds()) == pytest.approx(5, abs=0.5)


def test_a_cancelled_call_gives_its_place_back():
    async def calls():
        permutive, wire = scripted(answered(200, COHORT), max_in_flight=1)
        good, wire.send = wire.send, lambda _: asyncio.Event().wait()
        stuck = asyncio.create_task(permutive.cohorts.get("i"))
        waiting = asyncio.create_task(permutive.cohorts.get("i"))
        await asyncio.sleep(1)
        wire.send = good
        waiting.cancel()
        stuck.cancel()
        await asyncio.wait([stuck, waiting])
        await permutive.cohorts.get("i")
        (gate,) = permutive.gates.values()
        return gate.in_flight

    assert run_jumping(calls()) == 0


def test_two_clients_at_one_gate_wake_each_other():
    async def calls():
        gate = Gate(1)
        one, wire = scripted(answered(200, COHORT), gates={"default": gate})
        other, _ = scripted(answered(200, COHORT), gates={"default": gate})
        leave, send = asyncio.Event(), wire.send

        async def hang(request):
            await leave.wait()
            return await send(request)

        wire.send = hang
        first = asyncio.create_task(one.cohorts.get("i"))
        await asyncio.sleep(1)
        second = asyncio.create_task(other.cohorts.get("i"))
        await asyncio.sleep(1)
        assert not second.done()
        leave.set()
        await asyncio.gather(first, second)
        await one.close()
        await other.close()
        return gate.watchers

    assert run_jumping(calls()) == []


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({}, CredentialsError, "There is no API key"),
        ({"api_key": "k" * 9, "credentials": "x.json"}, ConfigurationError, "not both"),
        ({"api_key": KEY, "base_url": "http://example.com"}, ConfigurationError, "allow_http=True"),
        ({"api_key": KEY, "base_urls": {"cohort": "https://x"}}, ConfigurationError, "unknown API 'cohort'"),
        ({"api_key": KEY, "timeout": 0}, ConfigurationError, "timeout"),
        ({"api_key": KEY, "max_attempts": 0}, ConfigurationError, "max_attempts"),
        ({"api_key": KEY, "max_attempts": 1.5}, ConfigurationError, "max_attempts"),
        ({"api_key": KEY, "max_in_flight": 0}, ConfigurationError, "max_in_flight"),
        ({"api_key": KEY, "rate_per_second": -1}, ConfigurationError, "rate_per_second"),
        ({"api_key": KEY, "rate_per_second": math.nan}, ConfigurationError, "rate_per_second"),
        ({"api_key": KEY, "max_retry_after": -1}, ConfigurationError, "max_retry_after"),
        ({"api_key": KEY, "max_retry_after": math.nan}, ConfigurationError, "max_retry_after"),
        ({"api_key": KEY, "proxy": "socks5://p:1"}, ConfigurationError, "proxy must be an http"),
        ({"api_key": KEY, "proxy": "no proxy"}, ConfigurationError, "proxy must be a URL"),
        ({"api_key": KEY, "headers": {"X": "a\r\nY: b"}}, ConfigurationError, "headers"),
        ({"api_key": KEY, "headers": {"X:": "a"}}, ConfigurationError, "headers"),
        ({"api_key": KEY, "workspace": "News"}, CredentialsError, "News"),
    ],
)
def test_what_a_client_cannot_be_made_of(given, error, told):
    with pytest.raises(error, match=told):
        PermutiveClient(**given)


def test_throttles_without_a_hint_wait_longer_each_time():
    async def waits():
        loop, times = asyncio.get_running_loop(), []

        def answer(_):
            times.append(loop.time())
            return answered(429)

        permutive, _ = scripted(answer, max_attempts=5)
        permutive._caller._dice = lambda: 0.999
        permutive.cohorts._caller._dice = lambda: 0.999
        with pytest.raises(api.RateLimitError):
            await permutive.cohorts.get("i")
        return [after - before for before, after in pairwise(times)]

    waited = run_jumping(waits())
    assert waited == sorted(waited)
    assert waited[-1] > 6 * waited[0] > 0


def test_only_the_key_is_taken_out_of_what_the_api_says():
    message = f"bank=foo monkey=5 token=abc and {KEY}"
    _, error = run_jumping(attempts_of("cohorts.get", answered(400, envelope(message=message))))

    assert "bank=foo monkey=5 token=abc and [key]" in str(error)


def test_the_client_logs_nothing(caplog):
    caplog.set_level(0)
    run_jumping(attempts_of("identify", answered(500), answered(429)))
    run_jumping(attempts_of("users.aliases", answered(404)))

    assert [record.name for record in caplog.records if record.name != "asyncio"] == []


def test_an_api_that_is_down_does_not_hold_calls_for_ever():
    async def calls():
        permutive, wire = scripted(REFUSED_CONNECTION)
        failures = await asyncio.gather(
            *(permutive.cohorts.get("i") for _ in range(200)), return_exceptions=True
        )
        return failures, len(wire.requests), asyncio.get_running_loop().time()

    failures, sent, seconds = run_jumping(calls())
    assert {type(failure) for failure in failures} == {api.ApiConnectionError}
    assert sent < 100  # the breaker opens: single probes from then on
    assert 55 < seconds < 120


def test_numbers_stay_numbers():
    async def sent():
        permutive, wire = scripted(answered(200, MEMBER))
        await permutive.segment("u", events=[Event("A", EVENT.time, {"price": Decimal("1.10"), "n": 2**70})])
        return wire.requests[0].body

    assert b'{"price":1.10,"n":1180591620717411303424}' in run_jumping(sent())


@pytest.mark.parametrize("option", [{"timeout": 0}, {"max_attempts": 0}, {"max_retry_after": -1}])
def test_options_have_the_same_bounds(option):
    with pytest.raises(ConfigurationError, match=next(iter(option))):
        PermutiveClient(api_key=KEY).with_options(**option)


def test_a_call_that_is_not_sent_again_says_that_it_may_have_been_taken():
    async def call():
        answers = [TransportError("timeout", sent=True), answered(429, Retry_After="86400")]
        permutive, wire = scripted(*answers)
        doubtful = asyncio.create_task(permutive.identify("u", []))
        await asyncio.sleep(0)
        with pytest.raises(api.RateLimitError):
            await permutive.cohorts.get("i")  # meanwhile the API asks to wait
        with pytest.raises(api.RateLimitError, match="was not sent again") as failure:
            await doubtful
        return failure.value, len(wire.requests)

    error, sent = run_jumping(call())
    assert (sent, error.attempts, error.ambiguous) == (2, 1, True)


def test_calls_that_wait_at_the_gate_fail_when_the_client_is_closed():
    async def calls():
        permutive, wire = scripted(answered(200, COHORT), max_in_flight=1)
        send, leave = wire.send, asyncio.Event()

        async def hang(request):
            await leave.wait()
            return await send(request)

        wire.send = hang
        under_way = asyncio.create_task(permutive.cohorts.get("i"))
        waiting = [asyncio.create_task(permutive.cohorts.get("i")) for _ in range(9)]
        await asyncio.sleep(1)
        await permutive.close()
        failures = await asyncio.gather(*waiting, return_exceptions=True)
        leave.set()
        await under_way
        await permutive.cohorts.get("i")
        return failures, len(wire.requests)

    failures, sent = run_jumping(calls())
    assert {type(failure) for failure in failures} == {api.ApiConnectionError}
    assert all("the client was closed" in str(failure) and not failure.ambiguous for failure in failures)
    assert sent == 2


def test_a_call_that_waits_for_its_next_attempt_makes_none_when_the_client_is_closed():
    async def call():
        permutive, wire = scripted(answered(500))
        waiting = asyncio.create_task(permutive.cohorts.get("i"))
        await asyncio.sleep(0)
        await permutive.close()
        with pytest.raises(api.ApiConnectionError, match="not sent again: the client was closed") as failure:
            await waiting
        return failure.value.attempts, failure.value.ambiguous, len(wire.requests)

    assert run_jumping(call()) == (1, True, 1)
