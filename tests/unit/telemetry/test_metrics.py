import math
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from permutive_worker.model import Reason
from permutive_worker.telemetry.counts import RETURNED, SKIPPED, Counts
from permutive_worker.telemetry.metrics import build_registry
from permutive_worker.telemetry.status import LaneStatus, Status

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LANE = LaneStatus("eu", 0, 0, 0, 0, 64, 0.0, 500.0, None, None, "closed", credentials_valid=True)
STATUS = Status("running", "run", NOON, 8.0, [LANE], 0, 0, 1024, 0, None, None)

# Public: dashboards and alerts of other people hold these names. Type, labels.
GOLDEN = {
    "jobs_read_total": ("counter", {"source"}),
    "jobs_delivered_total": ("counter", {"type"}),
    "jobs_dead_lettered_total": ("counter", {"reason"}),
    "jobs_skipped_total": ("counter", {"reason"}),
    "jobs_returned_total": ("counter", {"reason"}),
    "jobs_pending": ("gauge", {"state"}),
    "pending_bytes": ("gauge", set()),
    "pending_bytes_limit": ("gauge", set()),
    "requests_total": ("counter", {"code", "type"}),
    "request_errors_total": ("counter", {"error"}),
    "request_duration_seconds": ("histogram", {"type"}),
    "job_latency_seconds": ("histogram", set()),
    "retries_total": ("counter", {"reason"}),
    "throttled_total": ("counter", {"hint"}),
    "ambiguous_total": ("counter", set()),
    "wire_fallbacks_total": ("counter", set()),
    "rate_per_second": ("gauge", {"kind"}),
    "rate_limit_fallback": ("gauge", set()),
    "rate_limit_wait_seconds_total": ("counter", set()),
    "paused_until_timestamp_seconds": ("gauge", {"reason"}),
    "concurrency_limit": ("gauge", set()),
    "concurrency_in_use": ("gauge", set()),
    "breaker_state": ("gauge", {"state"}),
    "credentials_valid": ("gauge", set()),
    "last_delivery_timestamp_seconds": ("gauge", set()),
    "checkpoint_timestamp_seconds": ("gauge", set()),
    "input_position_bytes": ("gauge", set()),
    "input_size_bytes": ("gauge", set()),
    "source_lag": ("gauge", set()),
    "source_redeliveries_total": ("counter", set()),
    "source_up": ("gauge", set()),
    "dead_letter_write_errors_total": ("counter", set()),
    "event_loop_lag_seconds": ("histogram", set()),
    "config_last_reload_successful": ("gauge", set()),
    "run_last_success_timestamp_seconds": ("gauge", set()),
    "build_info": ("gauge", {"version"}),
    "progress_completed": ("gauge", set()),
    "progress_total": ("unknown", set()),
    "progress_errors": ("gauge", set()),
    "progress_elapsed_seconds": ("gauge", set()),
    "progress_average_per_thousand_seconds": ("gauge", set()),
}
PER_LANE = {
    "rate_per_second",
    "paused_until_timestamp_seconds",
    "concurrency_limit",
    "concurrency_in_use",
    "breaker_state",
    "rate_limit_fallback",
    "credentials_valid",
}


def scrape(counts: Counts, status: Status = STATUS) -> str:
    return generate_latest(build_registry(counts, lambda: status, "1.2.3")).decode()


def samples(text: str, name: str) -> list[tuple[dict[str, str], float]]:
    found = [
        (sample.labels, sample.value)
        for family in parse_text(text)
        for sample in family.samples
        if sample.name == "permutive_worker_" + name
    ]
    assert found, f"{name} was not scraped"
    return found


def value(text: str, name: str) -> float:
    return sum(number for _, number in samples(text, name))


def shape(text: str) -> dict[str, tuple[str, set[str]]]:
    return {
        (family.name + ("_total" if family.type == "counter" else "")).removeprefix("permutive_worker_"): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in parse_text(text)
        if family.name.startswith("permutive_worker_")
    }


def test_names_types_and_labels_are_the_public_ones():
    assert shape(scrape(Counts("file", ["identify"]))) == GOLDEN


def test_workspace_is_a_label_of_lane_gauges_only_and_only_with_several_lanes():
    lanes = [LANE, msgspec.structs.replace(LANE, workspace="us")]

    text = scrape(Counts("file", ["identify"]), msgspec.structs.replace(STATUS, lanes=lanes))

    labelled = {name for name, (_, labels) in shape(text).items() if "workspace" in labels}
    assert labelled == PER_LANE
    assert [labels["workspace"] for labels, _ in samples(text, "credentials_valid")] == ["eu", "us"]


def test_text_and_openmetrics_have_the_same_samples():
    counts = Counts("file", ["identify"])
    counts.kinds["identify"].answered(200, 0.02)
    registry = build_registry(counts, lambda: STATUS, "1.2.3")

    def named(families):
        return {
            (sample.name, frozenset(sample.labels.items()))
            for family in families
            for sample in family.samples
            if sample.name.startswith("permutive_worker_")
        }

    assert named(parse_text(generate_latest(registry).decode())) == named(
        parse_openmetrics(generate_openmetrics(registry).decode())
    )


def test_series_known_in_advance_start_at_0():
    text = scrape(Counts("stdin", ["identify", "segmentation"]))

    assert samples(text, "jobs_read_total") == [({"source": "stdin"}, 0)]
    assert {(labels["code"], labels["type"]) for labels, number in samples(text, "requests_total")} == {
        (code, kind)
        for code in ("200", "201", "400", "401", "403", "429", "500", "503")
        for kind in ("identify", "segmentation")
    }
    assert [labels["reason"] for labels, _ in samples(text, "jobs_dead_lettered_total")] == list(Reason)
    for name, (kind, _) in GOLDEN.items():
        if kind == "counter":
            assert value(text, name) == 0, name


def test_an_unusual_status_gets_its_own_code():
    counts = Counts("file", ["identify"])
    counts.kinds["identify"].answered(418, 0.02)

    assert ({"code": "418", "type": "identify"}, 1) in samples(scrape(counts), "requests_total")


def test_what_is_unknown_is_nan_and_what_never_happened_is_0():
    text = scrape(Counts("stdin", ["identify"]))

    for name in ("progress_total", "input_size_bytes", "source_lag"):
        assert math.isnan(value(text, name)), name
    for name in ("last_delivery_timestamp_seconds", "checkpoint_timestamp_seconds"):
        assert value(text, name) == 0, name
    assert value(text, "config_last_reload_successful") == 1


def test_a_histogram_is_cumulative():
    counts = Counts("file", ["identify"])
    for seconds in (0.005, 0.02, 0.02, 99.0):
        counts.kinds["identify"].duration.observe(seconds)

    text = scrape(counts)

    buckets = {labels["le"]: number for labels, number in samples(text, "request_duration_seconds_bucket")}
    assert (buckets["0.005"], buckets["0.01"], buckets["0.025"], buckets["30.0"]) == (1, 1, 3, 3)
    assert buckets["+Inf"] == 4 == value(text, "request_duration_seconds_count")
    assert value(text, "request_duration_seconds_sum") == pytest.approx(99.045)


@pytest.mark.parametrize("reason", ["retry_after", "halt"])
def test_a_pause_says_until_when_and_why(reason):
    lane = msgspec.structs.replace(LANE, paused_until=NOON, pause_reason=reason, breaker="half_open")

    text = scrape(Counts("file", ["identify"]), msgspec.structs.replace(STATUS, lanes=[lane]))

    paused = {labels["reason"]: number for labels, number in samples(text, "paused_until_timestamp_seconds")}
    assert paused == {"retry_after": 0, "halt": 0} | {reason: NOON.timestamp()}
    assert {labels["state"]: number for labels, number in samples(text, "breaker_state")} == {
        "closed": 0,
        "open": 0,
        "half_open": 1,
    }


def test_progress_has_the_meanings_of_the_permutive_api_package():
    counts = Counts("file", ["identify"])
    counts.read = 10
    counts.kinds["identify"].delivered = 2
    counts.dead_lettered[Reason.INVALID] = 1
    counts.skipped["blank"] = 1

    text = scrape(counts, msgspec.structs.replace(STATUS, total=16))

    assert value(text, "progress_completed") == 4
    assert value(text, "progress_errors") == 1
    assert value(text, "progress_total") == 16
    assert value(text, "progress_average_per_thousand_seconds") == 2000


numbers = st.integers(0, 10**12)


@settings(max_examples=30)
@given(ready=numbers, settling=numbers, delivered=numbers, data=st.data())
def test_every_line_read_is_in_exactly_one_place(ready, settling, delivered, data):
    """The law of conservation, in what is scraped, whatever the numbers and over several lanes."""
    counts = Counts("file", ["identify", "event"])
    counts.kinds["identify"].delivered = counts.kinds["event"].delivered = delivered
    for places, keys in (
        (counts.dead_lettered, Reason),
        (counts.skipped, SKIPPED),
        (counts.returned, RETURNED),
    ):
        places.update({key: data.draw(numbers) for key in keys})
    lanes = [
        msgspec.structs.replace(LANE, workspace=workspace, ready=ready, backoff=1, blocked=2, in_flight=3)
        for workspace in ("eu", "us")
    ]
    status = msgspec.structs.replace(STATUS, lanes=lanes, settling=settling)
    counts.read = counts.ended + 2 * (ready + 1 + 2 + 3) + settling

    text = scrape(counts, status)

    assert value(text, "jobs_read_total") == pytest.approx(
        sum(
            value(text, name)
            for name in (
                "jobs_delivered_total",
                "jobs_dead_lettered_total",
                "jobs_skipped_total",
                "jobs_returned_total",
                "jobs_pending",
            )
        ),
        abs=0,
    )


def test_one_scrape_looks_once():
    looks = []

    def look():
        looks.append(1)
        return STATUS

    generate_latest(build_registry(Counts("file", ["identify"]), look, "1.2.3"))

    assert len(looks) == 1


def test_two_workers_in_one_process_do_not_clash_and_describe_the_process():
    texts = [scrape(Counts(source, ["identify"])) for source in ("file", "stdin")]

    assert all("process_resident_memory_bytes" in text and "python_info" in text for text in texts)
    assert all("python_gc_collections_total" in text for text in texts)


def test_every_metric_says_what_it_is():
    for family in parse_text(scrape(Counts("file", ["identify"]))):
        assert family.documentation.strip(), family.name
