"""The URL of a queue: what it says, what is refused, and that no secret is told."""

import pytest

from permutive_worker.errors import ConfigurationError
from permutive_worker.sources.address import VARIABLE, is_url, parse_address

SECRET = "pass-word-3f9c"
URL = f"redis://ann%40x:{SECRET}@[::1]:6379/2?stream=jobs&group=a%26b"
KNOWN = {"stream": None, "group": "permutive", "idle": "30", "ca": ""}


def refusal(url, environ=None, known=KNOWN):
    with pytest.raises(ConfigurationError) as caught:
        parse_address(url, environ or {}).take(known)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_a_url_is_read():
    address = parse_address(URL, {})

    assert (address.scheme, address.host, address.port, address.path) == ("redis", "::1", 6379, "2")
    assert (address.user, address.password, address.password_in_url) == ("ann@x", SECRET, True)
    assert address.take(KNOWN) == {"stream": "jobs", "group": "a&b", "idle": "30", "ca": ""}
    assert parse_address("amqp://h/%2F/my%2Fqueue", {}).segments() == ["/", "my/queue"]


def test_no_secret_is_shown():
    address = parse_address(URL, {VARIABLE: "another-" + SECRET})

    assert address.where == "redis://[::1]:6379/2"
    assert "ann" not in address.where
    assert SECRET not in repr(address)


def test_the_password_of_the_environment_wins(tmp_path):
    file = tmp_path / "password"
    file.write_text("from-file\n")

    assert parse_address(URL, {VARIABLE: "from-variable"}).password == "from-variable"
    assert parse_address(URL, {VARIABLE: "x", f"{VARIABLE}_FILE": str(file)}).password == "from-file"
    assert parse_address("redis://h", {"OTHER": "o"}, "OTHER").password == "o"
    assert parse_address("redis://h", {}).password is None


def test_a_password_file_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "empty").touch()

    assert "cannot be read" in refusal(URL, {f"{VARIABLE}_FILE": str(tmp_path / "none")})
    assert "is empty" in refusal(URL, {f"{VARIABLE}_FILE": str(tmp_path / "empty")})


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"redis://:{SECRET}@h/0?steam=jobs", "no parameter 'steam'; did you mean stream?"),
        (f"redis://:{SECRET}@h/0?stream=a&zzz=1", "there are: stream, group, idle, ca"),
        (f"redis://:{SECRET}@h/0", "needs a stream: add ?stream=… to the URL"),
        (f"redis://:{SECRET}@h/0?stream=", "needs a stream"),
        (f"redis://:{SECRET}@h/0?stream=a&group=", "needs a group"),
        (f"redis://:{SECRET}@h/0?stream=a&stream=b", "'stream' twice"),
        (f"redis://:{SECRET}@h:99999/0?stream=a", "cannot be read"),
        (f"redis://:{SECRET}@h:0/0?stream=a", "cannot be read"),
        (f"redis://:{SECRET}@[h/0?stream=a", "cannot be read"),
        (f"redis://:{SECRET}@h/0?stream=a#b", "write it as %23"),
    ],
)
def test_what_is_wrong_is_one_sentence(url, said):
    assert said in refusal(url)


def test_numbers_and_switches():
    address = parse_address("redis://h", {})

    assert address.number("idle", "2.5", least=1) == 2.5
    assert [address.switch("trim", text) for text in ("yes", "TRUE", "1", "no", "off", "")] == [True] * 3 + [
        False
    ] * 3
    for text in ("", "x", "0.5", "nan", "inf", "-1"):
        with pytest.raises(ConfigurationError, match="idle must be a number of at least 1"):
            address.number("idle", text, least=1)
    with pytest.raises(ConfigurationError, match="yes or no"):
        address.switch("trim", "maybe")


def test_what_is_a_url():
    assert all(map(is_url, ["redis://h", "nats://h/s", "kafka+ssl://x", "foo://"]))
    assert not any(map(is_url, ["-", "jobs.ndjson", "a/b://c", "://", "C:/x"]))
