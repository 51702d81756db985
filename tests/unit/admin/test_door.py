import pytest
from hypothesis import given
from hypothesis import strategies as st

from permutive_worker.admin.door import is_loopback, is_unmistakable


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:9000",
        "LOCALHOST.",
        "worker.localhost:80",
        "127.0.0.1",
        "10.0.0.7:9000",
        "[::1]:9000",
        "[::1]",
    ],
)
def test_addresses_and_localhost_can_only_mean_what_they_say(host):
    assert is_unmistakable(host)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:9000", "127.0.0.1.evil.example", "localhost.evil.example", "[evil]"],
)
def test_any_other_name_may_lead_anywhere(host):
    assert not is_unmistakable(host)


@given(st.text())
def test_any_text_is_judged(host):
    assert is_unmistakable(host) in (True, False)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.7", False),
    ],
)
def test_what_only_this_machine_can_reach(host, expected):
    assert is_loopback(host) is expected
