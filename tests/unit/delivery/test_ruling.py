import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.entries import entry_of

from permutive_worker.control.backoff import Backoff
from permutive_worker.delivery.ruling import Policy, Ruling, rule
from permutive_worker.model import Action, Delivery, End, Reason, Verdict
from permutive_worker.sources.memory import JobsOrigin

POLICY = Policy(Backoff(1.0, 2.0, 60.0), max_attempts=3)
NOW = 1000.0


def entry(**fields):
    raw = b'{"type":"identify","user_id":"u","aliases":[]}'
    made = entry_of(Delivery(raw, JobsOrigin(), 0), read_at=NOW)
    made.attempts = 1
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def ruled(given_entry, verdict, policy=POLICY, *, breaker_closed=True, dice=0.5):
    return rule(given_entry, verdict, policy, breaker_closed=breaker_closed, now=NOW, dice=dice)


def test_reject_is_a_dead_letter_at_once():
    assert ruled(entry(), Verdict(Action.REJECT, "rejected", status=400)) == Ruling(
        End.DEAD_LETTERED, Reason.REJECTED
    )


def test_a_refused_key_does_not_count():
    assert ruled(entry(failures=2), Verdict(Action.HALT, "key_refused", status=401)) == Ruling()


def test_a_failure_counts_and_backs_off_with_jitter():
    assert ruled(entry(failures=1), Verdict(Action.RETRY, "server_error", status=500)) == Ruling(
        due=NOW + 0.5 * 2.0, counted=True
    )


def test_the_last_attempt_that_fails_exhausts_the_job():
    assert ruled(entry(failures=2), Verdict(Action.RETRY, "timeout")) == Ruling(
        End.DEAD_LETTERED, Reason.EXHAUSTED, counted=True
    )


def test_while_the_breaker_is_open_failures_do_not_count():
    ruling = ruled(entry(failures=2), Verdict(Action.RETRY, "server_error", status=500), breaker_closed=False)
    assert (ruling.end, ruling.counted) == (None, False)


def test_a_hint_on_a_failure_is_a_floor():
    verdict = Verdict(Action.RETRY, "server_error", status=500, retry_after_seconds=30.0)
    assert ruled(entry(), verdict, dice=0.0).due == NOW + 30.0


def test_a_throttle_with_a_hint_is_first_in_line_when_the_pause_ends():
    verdict = Verdict(Action.THROTTLED, "throttled", status=429, retry_after_seconds=7.0)
    assert ruled(entry(failures=2), verdict) == Ruling()


def test_a_throttle_without_a_hint_backs_off_and_never_exhausts():
    ruling = ruled(entry(failures=2, attempts=50), Verdict(Action.THROTTLED, "throttled", status=429))
    assert ruling == Ruling(due=NOW + 30.0)


@pytest.mark.parametrize("sent", [True, False])
def test_ambiguous_outcomes_are_not_repeated_if_told_so(sent):
    policy = Policy(POLICY.backoff, 3, None, repeat_ambiguous=False)
    ruling = ruled(entry(), Verdict(Action.RETRY, "connection", ambiguous=sent), policy)
    assert (ruling.reason is Reason.AMBIGUOUS) == sent


@pytest.mark.parametrize("action", [Action.RETRY, Action.THROTTLED])
def test_a_job_too_old_at_its_next_attempt_expires(action):
    policy = Policy(POLICY.backoff, 3, max_age_seconds=10)
    old = entry(read_at=NOW - 9.9)
    assert ruled(old, Verdict(action, "throttled", status=429), policy).reason is Reason.EXPIRED


@given(
    action=st.sampled_from([action for action in Action if action is not Action.DELIVERED]),
    failures=st.integers(0, 5),
    attempts=st.integers(1, 1000),
    hint=st.one_of(st.none(), st.floats(0, 1e6)),
    ambiguous=st.booleans(),
    breaker_closed=st.booleans(),
    dice=st.floats(0, 1, exclude_max=True),
    max_age=st.one_of(st.none(), st.floats(0.1, 1e6)),
)
def test_every_ruling_is_an_end_or_a_due_time_that_is_not_in_the_past(
    action, failures, attempts, hint, ambiguous, breaker_closed, dice, max_age
):
    verdict = Verdict(action, "timeout", retry_after_seconds=hint, ambiguous=ambiguous)
    policy = Policy(POLICY.backoff, 3, max_age)
    ruling = ruled(
        entry(failures=failures, attempts=attempts), verdict, policy, breaker_closed=breaker_closed, dice=dice
    )

    assert (ruling.end is End.DEAD_LETTERED) == (ruling.reason is not None)
    assert ruling.due is None or ruling.due >= NOW
    if ruling.due is not None and max_age is not None:
        assert ruling.due - NOW <= max_age
    if action is Action.HALT:
        assert ruling.end is None
        assert not ruling.counted
