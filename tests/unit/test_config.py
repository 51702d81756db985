import traceback
from ipaddress import IPv4Address
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from permutive_worker.config import (
    KEYS,
    Delivery,
    Guard,
    Http,
    Input,
    Log,
    Output,
    RateLimit,
    Settings,
    load_settings,
    load_with_origins,
    proxy_from_environment,
)
from permutive_worker.errors import ConfigurationError

RATE = "PERMUTIVE_WORKER_RATE_LIMIT__RATE_PER_SECOND"
MEANT = "is no variable of the worker; did you mean"
A_SIZE = "a whole number of bytes, or a size such as 1MiB, from 1 to 1,099,511,627,776"
ELSEWHERE = (
    "secrets are not taken from here, the API key comes from PERMUTIVE_API_KEY_FILE, PERMUTIVE_API_KEY "
    "or PERMUTIVE_APPLICATION_CREDENTIALS"
)
MARKER = "f00dfeed-SECRET-8d4c-1fb6c790e1cc"


@pytest.fixture
def config_file(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "worker.toml"
        path.write_text(text)
        return path

    return write


def sentence(config=None, environ=None, overrides=None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config, environ or {}, overrides or {})
    return str(caught.value)


# Defaults and embedding


def test_defaults_are_the_documented_ones():
    defaults = {name: key.default for name, key in KEYS.items()}

    assert defaults == {
        "rate_limit.rate_per_second": 0,
        "rate_limit.burst": None,
        "rate_limit.shared": None,
        "rate_limit.max_retry_after_seconds": 3600,
        "delivery.max_in_flight": 256,
        "delivery.max_attempts": 10,
        "delivery.max_age_seconds": None,
        "delivery.backoff_initial_seconds": 1,
        "delivery.backoff_factor": 2,
        "delivery.backoff_max_seconds": 60,
        "delivery.ambiguous": "retry",
        "delivery.drain_seconds": 20,
        "delivery.max_halt_seconds": 900,
        "delivery.max_pending_bytes": 25_165_824,
        "http.timeout_seconds": 10,
        "http.base_url": "https://api.permutive.app",
        "http.allow_http": False,
        "http.ca_file": None,
        "http.wire": "auto",
        "input.type": None,
        "input.workspace": None,
        "input.shard": None,
        "input.processes": 1,
        "input.create": False,
        "input.max_line_bytes": 1_048_576,
        "input.follow": False,
        "state.dir": ".permutive-worker",
        "state.checkpoint_seconds": 0.05,
        "output.results": None,
        "output.dead_letters": "dead-letters.ndjson",
        "output.summary": None,
        "output.metrics": None,
        "guard.max_failures": None,
        "guard.max_failure_ratio": 0.95,
        "admin.listen": None,
        "log.progress": "auto",
        "log.level": "info",
        "log.format": "auto",
    }


def test_every_key_has_help_and_no_key_is_a_secret():
    assert [name for name, key in KEYS.items() if not key.help.endswith(".")] == []
    assert [name for name in KEYS if "key" in name or "password" in name or "token" in name] == []


def test_embedders_construct_settings_of_sections():
    settings = Settings(rate_limit=RateLimit(rate_per_second=100))

    assert settings.rate_limit.rate_per_second == 100
    assert settings.delivery == Delivery()
    assert settings == Settings.load(environ={}, overrides={"rate_limit.rate_per_second": 100})


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"rate_limit": RateLimit(rate_per_second=-1)}, "rate_limit.rate_per_second must be a number from 0"),
        ({"rate_limit": RateLimit(rate_per_second="5")}, "rate_limit.rate_per_second must be a number"),
        ({"rate_limit": RateLimit(burst=0.5)}, "rate_limit.burst must be a number from 1"),
        ({"delivery": Delivery(max_attempts=0)}, "delivery.max_attempts must be a whole number from 1"),
        ({"delivery": Delivery(max_in_flight=True)}, "delivery.max_in_flight must be a whole number"),
        ({"guard": Guard(max_failure_ratio=0)}, "guard.max_failure_ratio must be a number above 0"),
        ({"log": Log(level="loud")}, "log.level must be one of debug, info, warning, error, got 'loud'"),
        ({"input": Input(type="identfy")}, "input.type must be one of identify, segmentation, event"),
        ({"output": Output(dead_letters="-")}, "output.dead_letters must be a file, since stdout carries"),
        ({"output": Output(summary="-")}, "output.summary must be a file"),
        ({"http": Http(base_url="")}, "http.base_url must be text that is not empty"),
        ({"http": Http(base_url=None)}, "http.base_url must be text that is not empty"),
    ],
)
def test_embedders_get_a_value_error_that_names_the_key(sections, expected):
    with pytest.raises(ValueError, match=expected.replace(".", r"\.")):
        Settings(**sections)


def test_the_schema_has_bounds_and_descriptions():
    schema = msgspec.json.schema(Settings)["$defs"]["Delivery"]["properties"]["max_attempts"]

    assert (schema["minimum"], schema["default"]) == (1, 10)
    assert "dead letter" in schema["description"]


# Precedence


def test_precedence_is_flags_environment_file_permutive_api_defaults(config_file):
    path = config_file(
        "[delivery]\nmax_in_flight = 2\n[http]\ntimeout_seconds = 2\n[rate_limit]\nburst = 2\n"
    )
    environ = {
        "PERMUTIVE_BATCH_MAX_WORKERS": "1",
        "PERMUTIVE_BATCH_TIMEOUT_SECONDS": "1",
        "PERMUTIVE_RETRY_MAX_RETRIES": "1",
        "PERMUTIVE_WORKER_HTTP__TIMEOUT_SECONDS": "3",
        "PERMUTIVE_WORKER_RATE_LIMIT__BURST": "3",
    }
    loaded = load_with_origins(
        path, environ, {"rate_limit.burst": "4"}, spelling={"rate_limit.burst": "--burst"}
    )

    settings, origins = loaded.settings, loaded.origins
    assert (settings.delivery.max_attempts, origins["delivery.max_attempts"]) == (
        1,
        "PERMUTIVE_RETRY_MAX_RETRIES",
    )
    assert (settings.delivery.max_in_flight, origins["delivery.max_in_flight"]) == (2, str(path))
    assert (settings.http.timeout_seconds, origins["http.timeout_seconds"]) == (
        3,
        "PERMUTIVE_WORKER_HTTP__TIMEOUT_SECONDS",
    )
    assert (settings.rate_limit.burst, origins["rate_limit.burst"]) == (4, "--burst")
    assert origins["log.level"] == "default"
    assert set(origins) == set(KEYS)


def test_every_key_can_be_set_from_environment_and_override():
    values = {
        name: key.choices[-1] if key.choices else "identify" if key.is_free_text else "1"
        for name, key in KEYS.items()
    } | {"http.base_url": "https://example.com", "http.allow_http": "true", "input.shard": "1/2"}
    environ = {KEYS[name].variable: value for name, value in values.items()}

    assert load_settings(None, environ, {}) == load_settings(None, {}, values)
    assert load_settings(None, environ, {}) != Settings()


def test_text_is_converted_leniently():
    environ = {
        RATE: " 1e2 ",
        "PERMUTIVE_WORKER_HTTP__ALLOW_HTTP": "True",
        "PERMUTIVE_WORKER_INPUT__MAX_LINE_BYTES": "2MiB",
        "PERMUTIVE_WORKER_DELIVERY__MAX_PENDING_BYTES": "3 kB",
        "PERMUTIVE_WORKER_OUTPUT__RESULTS": "100",
        "PERMUTIVE_WORKER_LOG__LEVEL": "",
    }
    settings = load_settings(None, environ, {})

    assert settings.rate_limit.rate_per_second == 100
    assert settings.http.allow_http is True
    assert settings.input.max_line_bytes == 2 * 1024 * 1024
    assert settings.delivery.max_pending_bytes == 3000
    assert settings.output.results == "100"
    assert settings.log.level == "info"


def test_an_empty_override_unsets_a_key_that_may_be_unset():
    environ = {"PERMUTIVE_WORKER_GUARD__MAX_FAILURES": "5"}

    assert load_settings(None, environ, {"guard.max_failures": ""}).guard.max_failures is None


def test_service_links_of_kubernetes_are_no_settings():
    environ = dict.fromkeys(
        [
            "PERMUTIVE_WORKER_SERVICE_HOST",
            "PERMUTIVE_WORKER_SERVICE_PORT_METRICS",
            "PERMUTIVE_WORKER_PORT",
            "PERMUTIVE_WORKER_PORT_9000_TCP",
            "PERMUTIVE_WORKER_PORT_9000_TCP_ADDR",
            "PERMUTIVE_WORKER_BACKFILL_SERVICE_HOST",
        ],
        "10.0.0.1",
    )

    assert load_settings(None, environ, {}) == Settings()


# The file


def test_variables_in_the_file_are_replaced_and_converted(config_file):
    path = config_file(
        '[rate_limit]\nrate_per_second = "${RATE}"\n'
        '[output]\nresults = "/out/${RUN}-${RUN}.ndjson"\n[input]\nmax_line_bytes = "1KiB"\n'
    )
    settings = load_settings(path, {"RATE": "50", "RUN": "a"}, {})

    assert settings.rate_limit.rate_per_second == 50
    assert settings.output.results == "/out/a-a.ndjson"
    assert settings.input.max_line_bytes == 1024


def test_a_byte_order_mark_and_empty_sections_are_fine(tmp_path):
    path = tmp_path / "worker.toml"
    path.write_bytes(b"\xef\xbb\xbf[rate_limit]\n[http]\ntimeout_seconds = 5\n")

    assert load_settings(path, {}, {}).http.timeout_seconds == 5


FILE_FAULTS = {
    "typo in a key": (
        "[rate_limit]\nrate_per_secnd = 1",
        "rate_limit.rate_per_secnd in FILE is no key of the configuration; did you mean rate_limit.rate_per_second?",
    ),
    "typo in a section": (
        "[rate_limt]\nrate_per_second = 1",
        "rate_limt.rate_per_second in FILE is no key of the configuration; did you mean rate_limit.rate_per_second?",
    ),
    "the flag's name": (
        "rate = 1",
        "rate in FILE is no key of the configuration; did you mean rate_limit.rate_per_second?",
    ),
    "an unknown section": ("[zzz]", "zzz in FILE is no key of the configuration"),
    "a secret": (
        f'[credentials]\napi_key = "{MARKER}"',
        f"credentials.api_key in FILE is no key of the configuration: {ELSEWHERE}",
    ),
    "all unknown keys at once": (
        "[zzz]\n[log]\nyyyyyyy = 1",
        "zzz in FILE is no key of the configuration\nlog.yyyyyyy in FILE is no key of the configuration",
    ),
    "text for a number": (
        '[http]\ntimeout_seconds = "5"',
        "http.timeout_seconds in FILE must be a number above 0 and at most 1,000,000,000, got '5'",
    ),
    "a fraction for a whole number": (
        "[delivery]\nmax_attempts = 1.5",
        "delivery.max_attempts in FILE must be a whole number from 1 to 1,000,000,000, got 1.5",
    ),
    "true for a number": (
        "[guard]\nmax_failures = true",
        "guard.max_failures in FILE must be a whole number of at least 0, got true",
    ),
    "a number for true": (
        "[http]\nallow_http = 1",
        "http.allow_http in FILE must be true or false, got 1",
    ),
    "nan": (
        "[rate_limit]\nrate_per_second = nan",
        "rate_limit.rate_per_second in FILE must be a number from 0 to 1,000,000, got nan",
    ),
    "infinity": (
        "[http]\ntimeout_seconds = inf",
        "http.timeout_seconds in FILE must be a number above 0 and at most 1,000,000,000, got inf",
    ),
    "a number too large": (
        f"[rate_limit]\nrate_per_second = {'9' * 400}",
        "rate_limit.rate_per_second in FILE must be a number from 0 to 1,000,000, got a number far too large",
    ),
    "a table for a number": (
        "[http.timeout_seconds]\nconnect = 1",
        "http.timeout_seconds in FILE must be a number above 0 and at most 1,000,000,000, got a table",
    ),
    "a list for text": ("[output]\nresults = []", "output.results in FILE must be text that is not empty"),
    "a date for a number": (
        "[http]\ntimeout_seconds = 2026-01-01",
        "http.timeout_seconds in FILE must be a number above 0 and at most 1,000,000,000, got a date",
    ),
    "a wrong word": (
        '[delivery]\nambiguous = "rety"',
        "delivery.ambiguous in FILE must be one of retry, dead_letter, got 'rety'; did you mean retry?",
    ),
    "a wrong size": (
        '[input]\nmax_line_bytes = "1 mile"',
        f"input.max_line_bytes in FILE must be {A_SIZE}, got '1 mile'",
    ),
    "an unset variable": (
        '[http]\nbase_url = "https://${HOST_OF_API}/"',
        "http.base_url in FILE names ${HOST_OF_API}, and no such variable is set; set it or take it out",
    ),
    "an open reference": (
        '[http]\nbase_url = "https://${SET"',
        "http.base_url in FILE names ${SET}, and no such variable is set; set it or take it out",
    ),
    "a wrong value by a variable": (
        '[http]\ntimeout_seconds = "${SET}"',
        "http.timeout_seconds in FILE must be a number above 0 and at most 1,000,000,000",
    ),
    "a wrong URL by a variable": (
        '[http]\nbase_url = "https://${SET}@example.com"',
        "http.base_url in FILE must hold no user name and no password; the key comes from PERMUTIVE_API_KEY_FILE",
    ),
    "no TOML": ("[http", "The configuration file FILE is no TOML: Expected ']' at the end of a table"),
    "nested too deep": ("a = " + "[" * 5000, "The configuration file FILE is no TOML: it is nested too deep"),
    "a number too long": (
        "a = " + "9" * 5000,
        "The configuration file FILE is no TOML: it is nested too deep",
    ),
}


@pytest.mark.parametrize("name", FILE_FAULTS)
def test_a_fault_in_the_file_is_told_in_a_sentence(name, config_file):
    text, expected = FILE_FAULTS[name]
    path = config_file(text)

    told = sentence(path, {"SET": MARKER}).replace(str(path), "FILE")

    assert told.startswith(expected) if "configuration file" in expected else told == expected
    assert MARKER not in told


def test_a_file_that_is_not_there_or_not_text(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")

    assert sentence(tmp_path / "none").endswith("none cannot be read: No such file or directory")
    assert sentence(tmp_path).endswith("cannot be read: Is a directory")
    assert sentence(tmp_path / "binary").endswith("binary is not UTF-8 text")


# The environment


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        (RATE, "abc", f"{RATE} must be a number from 0 to 1,000,000, got 'abc'"),
        (RATE, "nan", f"{RATE} must be a number from 0 to 1,000,000, got nan"),
        (RATE, '"5"', f"{RATE} must be a number from 0 to 1,000,000, got '\"5\"'"),
        (
            "PERMUTIVE_WORKER_RATE_LIMIT__RATE",
            "5",
            f"PERMUTIVE_WORKER_RATE_LIMIT__RATE is no variable of the worker; did you mean {RATE}?",
        ),
        (
            "PERMUTIVE_WORKER_RATE",
            "",
            f"PERMUTIVE_WORKER_RATE is no variable of the worker; did you mean {RATE}?",
        ),
        (
            "PERMUTIVE_WORKER_DELIVERY_MAX_IN_FLIGHT",
            "5",
            f"PERMUTIVE_WORKER_DELIVERY_MAX_IN_FLIGHT {MEANT} PERMUTIVE_WORKER_DELIVERY__MAX_IN_FLIGHT?",
        ),
        (
            "PERMUTIVE_WORKER_http__timeout_seconds",
            "5",
            f"PERMUTIVE_WORKER_http__timeout_seconds {MEANT} PERMUTIVE_WORKER_HTTP__TIMEOUT_SECONDS?",
        ),
        (
            "PERMUTIVE_WORKER_HTTP__PASSWORD",
            MARKER,
            f"PERMUTIVE_WORKER_HTTP__PASSWORD is no variable of the worker: {ELSEWHERE}",
        ),
        ("PERMUTIVE_WORKER_ZZZ__QQQ", "5", "PERMUTIVE_WORKER_ZZZ__QQQ is no variable of the worker"),
    ],
)
def test_a_fault_in_the_environment_names_the_variable(variable, value, expected):
    assert sentence(environ={variable: value}) == expected


def test_variables_of_others_are_not_looked_at():
    assert load_settings(None, {"PERMUTIVE_API_KEY": MARKER, "PATH": "x"}, {}) == Settings()


def test_overrides_name_the_key_as_it_was_written():
    assert sentence(overrides={"http.timeout": 1}) == (
        "http.timeout is no key of the configuration; did you mean http.timeout_seconds?"
    )
    assert sentence(overrides={"delivery.max_attempts": 10**5000}).endswith("got a number far too large")
    with pytest.raises(ConfigurationError, match=r"^--timeout must be a number above 0"):
        load_with_origins(
            None, {}, {"http.timeout_seconds": 0}, spelling={"http.timeout_seconds": "--timeout"}
        )


# PermutiveAPI's variables


@pytest.mark.parametrize(
    ("variable", "key", "value"),
    [
        ("PERMUTIVE_BATCH_MAX_WORKERS", "delivery.max_in_flight", 7),
        ("PERMUTIVE_BATCH_TIMEOUT_SECONDS", "http.timeout_seconds", 0.5),
        ("PERMUTIVE_RETRY_MAX_RETRIES", "delivery.max_attempts", 3),
        ("PERMUTIVE_RETRY_BACKOFF_FACTOR", "delivery.backoff_factor", 0.5),
        ("PERMUTIVE_RETRY_INITIAL_DELAY_SECONDS", "delivery.backoff_initial_seconds", 10.0),
    ],
)
def test_permutive_api_variables_mean_what_they_mean_there(variable, key, value):
    section, field = key.split(".")

    assert getattr(getattr(load_settings(None, {variable: f" {value} "}, {}), section), field) == value
    assert load_settings(None, {variable: "  "}, {}) == Settings()


@pytest.mark.parametrize("value", ["abc", "0", "-1", "4.0", "nan", "inf", "1e400"])
def test_an_invalid_worker_count_is_a_value_error_as_in_permutive_api(value):
    with pytest.raises(ValueError) as caught:
        load_settings(None, {"PERMUTIVE_BATCH_MAX_WORKERS": value}, {"delivery.max_in_flight": 5})

    assert str(caught.value) == (
        f"Environment variable PERMUTIVE_BATCH_MAX_WORKERS must be a positive integer, got '{value}'."
    )


@pytest.mark.parametrize("value", ["abc", "0", "-1", "nan", "inf", "-inf"])
def test_an_invalid_timeout_is_a_value_error_as_in_permutive_api(value):
    assert sentence(environ={"PERMUTIVE_BATCH_TIMEOUT_SECONDS": value}) == (
        f"Environment variable PERMUTIVE_BATCH_TIMEOUT_SECONDS must be a positive float, got '{value}'."
    )


# Addresses


@pytest.mark.parametrize(
    ("given_url", "kept"),
    [
        ("https://api.permutive.com/", "https://api.permutive.com"),
        ("HTTPS://host:8443/prefix/v1//", "HTTPS://host:8443/prefix/v1"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:1/", "http://[::1]:1"),
        ("http://LocalHost:1", "http://LocalHost:1"),
    ],
)
def test_base_urls_that_are_fine(given_url, kept):
    assert Settings(http=Http(base_url=given_url)).http.base_url == kept


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://example.com", "must begin with https://"),
        ("http://localhost.example.com", "must begin with https://"),
        ("http://127.0.0.1.example.com", "must begin with https://"),
        ("http://127.1", "must begin with https://"),
        (f"https://user:{MARKER}@example.com", "must hold no user name"),
        (f"https://{MARKER}@example.com", "must hold no user name"),
        (f"https://example.com/?k={MARKER}", "must hold no query"),
        ("https://example.com/?", "must hold no query"),
        ("https://example.com/#x", "must hold no query"),
        ("example.com", "must be a URL"),
        ("ftp://example.com", "must be a URL"),
        ("https://", "must be a URL"),
        ("https://:443", "must be a URL"),
        ("https://host:port", "must be a URL"),
        ("https://host:99999", "must be a URL"),
        ("https://host:0", "must be a URL"),
        ("https://[::1", "must be a URL"),
        ("https://exa mple.com", "must be a URL"),
        ("https://exam\nple.com", "must be a URL"),
        ("https://exämple.com", "must be a URL"),
        ("https://example.com\\@evil.com", "must"),
    ],
)
def test_base_urls_that_are_refused(url, fault):
    told = sentence(overrides={"http.base_url": url})

    assert told.startswith(f"http.base_url {fault}")
    assert MARKER not in told


def test_allow_http_allows_plain_http():
    http = load_settings(
        None, {"PERMUTIVE_WORKER_HTTP__ALLOW_HTTP": "true"}, {"http.base_url": "http://example.com/"}
    ).http

    assert http.base_url == "http://example.com"


API = "https://api.permutive.app"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ({"https_proxy": "http://small:1", "HTTPS_PROXY": "http://p:1"}, "http://small:1"),
        ({"https_proxy": " ", "HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, None),
        ({"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ({"ALL_PROXY": "http://all:1", "HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ({"HTTPS_PROXY": "p:3128"}, "http://p:3128"),
        ({"HTTPS_PROXY": "http://u:pass@p:1"}, "http://u:pass@p:1"),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "other.com, permutive.app"}, None),
        ({"HTTPS_PROXY": "p:1", "no_proxy": ".permutive.app"}, None),
        ({"HTTPS_PROXY": "p:1", "no_proxy": "*.permutive.app."}, None),
        ({"HTTPS_PROXY": "p:1", "no_proxy": "API.permutive.app:443"}, None),
        ({"HTTPS_PROXY": "p:1", "no_proxy": "api.permutive.app:8443"}, "http://p:1"),
        ({"HTTPS_PROXY": "p:1", "no_proxy": "mutive.app api.permutive"}, "http://p:1"),
        ({"HTTPS_PROXY": "p:1", "no_proxy": ",,10.0.0.0/8,[::1]:80,."}, "http://p:1"),
    ],
)
def test_the_proxy_is_found_as_curl_finds_it(environ, expected):
    assert proxy_from_environment(API, environ) == expected


@pytest.mark.parametrize(
    ("base_url", "no_proxy", "expected"),
    [
        ("http://10.1.2.3", "", "http://p:1"),
        ("http://10.1.2.3", "10.0.0.0/8", None),
        ("http://10.1.2.3:81", "10.1.2.3:81", None),
        ("http://10.1.2.3:81", "10.1.2.3:82", "http://p:1"),
        ("http://[2001:db8::1]", "2001:db8::/32", None),
        ("http://[2001:db8::1]:8080", "[2001:db8:0::1]:8080", None),
        ("http://127.0.0.1:1", "", None),
        ("http://localhost:1", "", None),
    ],
)
def test_addresses_and_networks_are_excluded_and_loopback_always(base_url, no_proxy, expected):
    assert proxy_from_environment(base_url, {"HTTP_PROXY": "http://p:1", "NO_PROXY": no_proxy}) == expected


@pytest.mark.parametrize(
    "value", [f"http://u:{MARKER}@p:port", f"socks5://u:{MARKER}@p:1", f"http://{MARKER} :1"]
)
def test_a_malformed_proxy_is_told_without_its_password(value):
    with pytest.raises(ConfigurationError, match=r"^HTTPS_PROXY must be an? ") as caught:
        proxy_from_environment(API, {"HTTPS_PROXY": value})

    assert MARKER not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


# Properties


@given(st.text(), st.sampled_from(sorted(KEYS)))
@example("9" * 5000, "delivery.max_attempts")
@example("\x00", "http.base_url")
@example("²", "input.max_line_bytes")
def test_any_text_is_a_value_or_a_sentence(text, name):
    try:
        settings = load_settings(None, {KEYS[name].variable: text}, {})
    except ConfigurationError as error:
        assert str(error).startswith(KEYS[name].variable)
    else:
        assert settings == msgspec.json.decode(msgspec.json.encode(settings), type=Settings)


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_a_network_in_no_proxy_covers_its_addresses(address: IPv4Address, bits: int):
    environ = {"HTTP_PROXY": "http://p:1", "NO_PROXY": f"{address}/{bits}"}

    assert proxy_from_environment(f"http://{address}", environ) is None


def test_no_error_carries_what_a_variable_brought(config_file):
    path = config_file('[guard]\nmax_failures = "${HIDDEN}"\n[log]\nlevel = "${HIDDEN}"')
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, {"HIDDEN": MARKER}, {})

    assert MARKER not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert str(caught.value).count("\n") == 1
