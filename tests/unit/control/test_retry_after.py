from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.control.retry_after import LONGEST_SECONDS, retry_after_seconds

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def header(value: str) -> dict[str, str]:
    return {"Retry-After": value}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("007", 7.0),
        ("9" * 400, LONGEST_SECONDS),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30.0),
        ("Saturday, 21-Nov-26 12:00:30 GMT", 30.0),
        ("Sat Nov 21 12:00:30 2026", 30.0),
        ("Sat, 21 Nov 2026 11:59:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_SECONDS),
    ],
)
def test_reads_seconds_and_dates(value, seconds):
    assert retry_after_seconds(header(value), NOW) == seconds


@pytest.mark.parametrize(
    "value",
    ["", "soon", "-1", "+1", "nan", "inf", "Infinity", "1_0", "1e3", "٣", "7s", "5, 10", "0x10", "1."],
)
def test_rubbish_is_no_hint(value):
    assert retry_after_seconds(header(value), NOW) is None


def test_no_header_is_no_hint():
    assert retry_after_seconds({}, NOW) is None


@pytest.mark.parametrize("name", ["retry-after", "Retry-After", "RETRY-AFTER"])
def test_header_names_have_no_case(name):
    assert retry_after_seconds({"Content-Type": "x", name: "3"}, NOW) == 3.0


def test_milliseconds_are_finer_and_win():
    assert retry_after_seconds({"Retry-After": "2", "retry-after-ms": "1250"}, NOW) == 1.25


def test_rubbish_milliseconds_leave_the_seconds():
    assert retry_after_seconds({"Retry-After": "2", "Retry-After-Ms": "soon"}, NOW) == 2.0


def test_a_date_is_read_against_the_clock_of_the_server():
    headers = {"Retry-After": "Sat, 21 Nov 2026 15:00:30 GMT", "Date": "Sat, 21 Nov 2026 15:00:00 GMT"}

    assert retry_after_seconds(headers, NOW) == 30.0


def test_a_rubbish_date_leaves_our_clock():
    headers = {"Retry-After": "Sat, 21 Nov 2026 12:00:30 GMT", "Date": "today"}

    assert retry_after_seconds(headers, NOW) == 30.0


@given(st.integers(min_value=0, max_value=10**6))
def test_every_date_comes_back(seconds):
    value = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)

    assert retry_after_seconds(header(value), NOW) == seconds


DATE_WORDS = st.sampled_from(
    ["Sat,", "21", "Nov", "2026", "99999999999", "12:00:00", "1:2:3:4", "GMT", "+9999", "-0000", ""]
)


@given(
    st.dictionaries(
        st.sampled_from(["Retry-After", "retry-after-ms", "Date"]),
        st.text(max_size=40) | st.lists(DATE_WORDS, max_size=7).map(" ".join) | st.floats().map(str),
    )
)
def test_any_header_is_a_bounded_wait_or_none(headers):
    seconds = retry_after_seconds(headers, NOW)

    assert seconds is None or 0 <= seconds <= LONGEST_SECONDS
