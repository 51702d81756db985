"""What limits the run, in one sentence; the worst comes first."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.control.exit_code import DEAD_LETTERS, ORDER
from permutive_worker.telemetry.sentence import Lately, sentence
from permutive_worker.telemetry.status import HaltStatus, LaneStatus, Status

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
SOON = NOON + timedelta(seconds=12)
LANE = LaneStatus("", 5, 0, 0, 2, 64, 0.0, 500.0, None, None, "closed", credentials_valid=True)
IDLE = msgspec.structs.replace(LANE, ready=0, in_flight=0)
RUNNING = Status("running", "run", NOON, 8.0, [LANE], 0, 0, 1024, 0, None, None)
ALL_USED = Lately(requests_per_second=495.0)


def lane(base=LANE, **changes):
    return msgspec.structs.replace(base, **changes)


def halted(status, kind=None, **more):
    return lane(halts=[HaltStatus(kind, status, NOON, 3)], credentials_valid=False, **more)


def of(*lanes, **changes):
    return msgspec.structs.replace(RUNNING, lanes=list(lanes), **changes)


@pytest.mark.parametrize(
    ("status", "lately", "mood", "text"),
    [
        (of(state="starting"), Lately(), "wait", "Starting"),
        (
            of(LANE, state="draining"),
            Lately(),
            "wait",
            "Finishing: what is in flight is awaited, nothing new",
        ),
        (of(LANE, source_away=True), Lately(), "bad", "The queue cannot be reached"),
        (of(halted(401)), Lately(), "bad", "The key is refused (401): no request is accepted"),
        (of(halted(403, "event")), Lately(), "bad", "The API forbids event jobs (403); they wait"),
        (of(halted(404, "identify")), Lately(), "bad", "The API answers 404 on the path of identify jobs"),
        (of(lane(breaker="open")), Lately(), "bad", "The API does not answer; single requests ask"),
        (of(lane(paused_until=SOON)), Lately(hinted=True), "wait", "Paused by the API (Retry-After)"),
        (of(lane(paused_until=SOON)), Lately(), "wait", "Paused, for the API throttles"),
        (of(IDLE), Lately(), "good", "Waiting for input"),
        (of(lane(IDLE, backoff=3)), Lately(), "wait", "All that is left failed before and waits to be tried"),
        (of(lane(rate_fallback=True)), Lately(), "wait", "At a share of the rate, for the shared limit"),
        (
            of(lane(rate_ceiling=500.0)),
            ALL_USED,
            "good",
            "At the ceiling that was set: 500 requests a second",
        ),
        (of(lane(rate_ceiling=2500.0)), ALL_USED, "wait", "Slowed down, for the API throttles far below"),
        (of(LANE), Lately(495.0, throttled=True), "good", "At the rate the API was found to allow"),
        (of(LANE), ALL_USED, "good", "Finding the rate that the API allows"),
        (of(lane(in_flight=64)), Lately(99.0), "good", "Delivering; all places are in flight"),
        (of(lane(ready=0)), Lately(99.0), "good", "Delivering as fast as the input comes"),
        (of(LANE), Lately(99.0), "good", "Delivering"),
    ],
)
def test_what_limits_the_run_is_said(status, lately, mood, text):
    told = sentence(status, lately)

    assert (told.mood, told.text[: len(text)]) == (mood, text)
    assert not told.text.endswith(".")


def test_a_pause_says_until_when_and_a_refusal_since_when_and_what_to_do():
    assert sentence(of(lane(paused_until=SOON)), Lately()).until == SOON
    refused = sentence(of(halted(401)), Lately())
    assert refused.since == NOON
    assert refused.advice == "Replace the key; a key file is looked at every 5 seconds."


def test_of_several_workspaces_the_worst_is_named():
    status = of(lane(workspace="eu", paused_until=SOON), halted(401, workspace="us"), lane(workspace="asia"))

    told = sentence(status, Lately())

    assert told.text == "us: The key is refused (401): no request is accepted (2 of 3 workspaces are held up)"


@pytest.mark.parametrize("code", [0, DEAD_LETTERS, *ORDER])
def test_every_end_says_its_exit_code(code):
    told = sentence(of(LANE, state="ended", exit_code=code), Lately())

    assert told.text.startswith(f"The worker has ended (exit {code}): ")
    assert (told.mood == "good") == (code == 0)


lanes = st.builds(
    LaneStatus,
    workspace=st.sampled_from(["", "eu"]),
    ready=st.integers(0, 2),
    backoff=st.integers(0, 1),
    blocked=st.integers(0, 1),
    in_flight=st.integers(0, 4),
    max_in_flight=st.integers(1, 4),
    rate_ceiling=st.floats(0, 1e6),
    rate_effective=st.floats(0, 1e6),
    paused_until=st.none() | st.just(SOON),
    pause_reason=st.none(),
    breaker=st.sampled_from(["closed", "open", "half_open"]),
    credentials_valid=st.booleans(),
    halts=st.lists(
        st.builds(
            HaltStatus,
            st.sampled_from([None, "event"]),
            st.sampled_from([301, 401, 403, 404]),
            st.just(NOON),
            st.just(1),
        ),
        max_size=2,
    ),
    rate_fallback=st.none() | st.booleans(),
)


@given(
    st.lists(lanes, max_size=3),
    st.sampled_from(["starting", "running", "draining", "ended"]),
    st.booleans(),
    st.none() | st.integers(0, 100),
    st.builds(Lately, st.floats(0, 1e6), st.booleans(), st.booleans()),
)
def test_there_is_always_one_sentence_and_good_news_only_where_nothing_is_held_up(
    lanes, state, away, exit_code, lately
):
    told = sentence(of(*lanes, state=state, source_away=away, exit_code=exit_code), lately)

    assert told.text
    held = away or any(lane.halts or lane.paused_until or lane.breaker != "closed" for lane in lanes)
    if state == "running" and held:
        assert told.mood != "good"
