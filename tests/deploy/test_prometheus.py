"""A real Prometheus scrapes real workers during a run: do the dashboard, the alerts and the law hold there?

One run for all tests, with the queries asked while it lasts: a worker reads a file with faults in it from an API that
throttles, another one a queue, and a run that has ended left its file.
"""

import asyncio
import json
import re
import subprocess
import urllib.error
import urllib.request
from collections import defaultdict
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import MappingProxyType

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from support.brokers import START_SECONDS, Redis, free_port, need
from support.program import program, start
from support.prometheus import DEPLOY, JOB, Prometheus, rules
from support.sandbox_process import sandbox_process

from permutive_worker.cli.demo import sample_lines

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
PREFIX = "permutive_worker_"
SCRAPES = 12
# The contract: every name, with the labels that tell its series apart.
NAMES = re.findall(
    r"\S+",
    """
jobs_read_total{source} jobs_delivered_total{type} jobs_dead_lettered_total{reason} jobs_skipped_total{reason}
jobs_returned_total{reason} jobs_pending{state} pending_bytes pending_bytes_limit requests_total{code,type}
request_errors_total{error} request_duration_seconds{type} job_latency_seconds retries_total{reason}
throttled_total{hint} ambiguous_total rate_per_second{kind} rate_limit_wait_seconds_total
paused_until_timestamp_seconds{reason} concurrency_limit concurrency_in_use breaker_state{state} credentials_valid
last_delivery_timestamp_seconds checkpoint_timestamp_seconds input_position_bytes input_size_bytes source_lag
source_redeliveries_total dead_letter_write_errors_total event_loop_lag_seconds config_last_reload_successful
run_last_success_timestamp_seconds build_info{version} progress_completed progress_total progress_errors
progress_elapsed_seconds progress_average_per_thousand_seconds""",
)
# What is no 0 before anything has happened.
BEGUN = {
    "pending_bytes_limit",
    "breaker_state",
    "credentials_valid",
    "config_last_reload_successful",
    "build_info",
    "progress_elapsed_seconds",
    "event_loop_lag_seconds",
    "source_up",
}


def expand(query):
    """As Grafana does, with all of each variable."""
    for name, value in {
        "$__rate_interval": "4s",
        "$__range": "1m",
        "$job": ".*",
        "$instance": ".*",
        "$workspace": ".*",
    }.items():
        query = query.replace(name, value)
    assert "$" not in query, query
    return query


def panel_queries():
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield f"{panel['title']}: {target['legendFormat']}", target["expr"], target["legendFormat"]


def annotation_queries():
    for note in DASHBOARD["annotations"]["list"]:
        yield note["name"], note["expr"], note["titleFormat"] + note.get("textFormat", "")


def variable_queries():
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            selector, label = re.fullmatch(
                r"label_values\((.*), (\w+)\)", variable["query"]["query"]
            ).groups()
            yield variable["name"], selector, label


SHOWN = [*panel_queries(), *annotation_queries()]


def job_lines(count):
    for number, line in enumerate(sample_lines(count)):
        yield line if number % 40 else b'{"type":"identify"}\n'


class Exporter(SimpleHTTPRequestHandler):
    """The files of a folder, in node_exporter's place."""

    extensions_map = MappingProxyType({".prom": "text/plain"})

    def log_message(self, *_):
        pass


@contextmanager
def served(folder):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Exporter, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@asynccontextmanager
async def running(*arguments, cwd):
    with (cwd / "log").open("ab") as log:
        process = await start("run", *arguments, cwd=cwd, stdout=log, stderr=log)
    try:
        yield process
    finally:
        assert process.returncode is None, (cwd / "log").read_text()
        process.terminate()
        await process.wait()


async def scraped(port):
    """What `/metrics` says, once somebody listens there."""

    def call():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            return answer.read().decode()

    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                return await asyncio.to_thread(call)
            except urllib.error.URLError:
                await asyncio.sleep(0.05)


class Observed:
    """What was asked while the workers ran."""

    async def observe(self, folder):
        async with AsyncExitStack() as stack:
            faults = ("--rate-limit=400", "--retry-after=2", "--latency=0.02", "--faults=500=0.02,reset=0.01")
            sandbox = await stack.enter_async_context(sandbox_process(*faults))
            api = ("--base-url", sandbox.url)
            (folder / "few.ndjson").write_bytes(b"\n".join(sample_lines(20)))
            ended = await program("run", *api, "--metrics-file", "run.prom", "few.ndjson", cwd=folder)
            assert ended.code == 0, ended.text
            self.file = (folder / "run.prom").read_text()
            node = stack.enter_context(served(folder))

            redis = Redis(folder)
            stack.push_async_callback(redis.stop)
            await redis.start()
            await redis.publish(list(sample_lines(5000)))
            (folder / "many.ndjson").write_bytes(b"\n".join(job_lines(40_000)))
            ports = free_port(), free_port()
            await stack.enter_async_context(
                running(*api, "--admin", str(ports[0]), "many.ndjson", cwd=folder)
            )
            queue = (*api, "--create", "--rate", "40", "--admin", str(ports[1]), redis.url)
            await stack.enter_async_context(running(*queue, cwd=folder))
            self.live = [await scraped(port) for port in ports]
            targets = [f"127.0.0.1:{port}" for port in ports]
            prometheus = Prometheus(folder, targets, {"node": (node, "/run.prom")})
            await self._ask(await stack.enter_async_context(prometheus))

    async def _ask(self, prometheus):
        began = await prometheus.number("vector(time())")
        async with asyncio.timeout(90):
            scraped_often = f'count(count_over_time({PREFIX}jobs_read_total{{job="{JOB}"}}[5m]) >= {SCRAPES})'
            while await prometheus.number(scraped_often) != 2:
                await asyncio.sleep(0.5)
        now = await prometheus.number("vector(time())")
        self.answers = {}
        for query in (expr for _, expr, _ in SHOWN):
            told = await prometheus.ask("query_range", query=expand(query), start=began, end=now, step=1)
            self.answers[query] = told["result"]
        self.values = {
            name: await prometheus.ask(f"label/{label}/values", **{"match[]": expand(selector)})
            for name, selector, label in variable_queries()
        }
        self.records = {
            rule["record"]: (await prometheus.ask("query", query=rule["record"]))["result"]
            for rule in rules("record")
        }
        self.groups = (await prometheus.ask("rules"))["groups"]
        lines = f'{{__name__=~"{PREFIX}jobs_.*", job="{JOB}"}}[5m]'
        self.lines = (await prometheus.ask("query", query=lines))["result"]


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    found = Observed()
    asyncio.run(found.observe(tmp_path_factory.mktemp("observed")))
    return found


@pytest.mark.parametrize(("query", "legend"), [pytest.param(*more, id=name) for name, *more in SHOWN])
def test_a_query_of_the_dashboard_has_an_answer_with_the_labels_it_names(observed, query, legend):
    found = observed.answers[query]

    assert found, query
    for series in found:
        assert set(re.findall(r"{{(\w+)}}", legend)) <= set(series["metric"]), (legend, series["metric"])
        if not legend.startswith("{{"):  # a name for one line: so there is one
            assert len(found) == 1 or "{{" in legend, [series["metric"] for series in found]


def test_every_variable_finds_its_values(observed):
    assert observed.values["job"] == ["node", JOB]
    assert len(observed.values["instance"]) == 3
    assert observed.values["workspace"] == []  # there is one only, which needs no label; All means any


def test_every_recording_rule_has_a_value(observed):
    for name, found in observed.records.items():
        assert JOB in {series["metric"].get("job") for series in found}, name


def test_prometheus_evaluates_every_rule(observed):
    evaluated = [rule for group in observed.groups for rule in group["rules"]]

    assert len(evaluated) == len([*rules("alert"), *rules("record")])
    assert {(rule["health"], rule.get("lastError")) for rule in evaluated} == {("ok", None)}


def test_no_alert_is_on_its_way_in_a_run_that_goes_well(observed):
    states = {
        rule["name"]: rule["state"] for group in observed.groups for rule in group["rules"] if "state" in rule
    }

    # The API of this run throttles, and one line in forty is bad.
    told = {"PermutiveWorkerThrottledHeavily", "PermutiveWorkerDeadLetterRatioHigh"}
    assert {name for name, state in states.items() if state != "inactive"} <= told


def test_every_name_in_a_query_is_scraped_from_a_live_worker(observed):
    live = {sample.name for text in observed.live for family in parse(text) for sample in family.samples}
    queries = [rule["expr"] for rule in (*rules("alert"), *rules("record"))]
    queries += [query for _, query, _ in SHOWN] + [selector for _, selector, _ in variable_queries()]

    used = {name for query in queries for name in re.findall(rf"\b(?:{PREFIX}|process_|python_)\w+", query)}

    assert len(used) > 40
    assert used <= live


def test_every_line_is_somewhere_in_every_scrape(observed):
    """The law, from the raw samples: those of one scrape have one time."""
    scrapes = defaultdict(lambda: defaultdict(float))
    for series in observed.lines:
        name = series["metric"]["__name__"].removeprefix(f"{PREFIX}jobs_")
        for at, number in series["values"]:
            scrapes[series["metric"]["instance"], at][name] += float(number)

    assert len(scrapes) >= 2 * SCRAPES
    for told in scrapes.values():
        ends = ("delivered_total", "dead_lettered_total", "skipped_total", "returned_total", "pending")
        assert told["read_total"] == sum(told[end] for end in ends), dict(told)
    for instance in {instance for instance, _ in scrapes}:
        delivered = {told["delivered_total"] for (of, _), told in scrapes.items() if of == instance}
        assert len(delivered) > 3, delivered  # it moved meanwhile


@pytest.mark.parametrize("which", ["a worker over files", "a worker beside a queue", "the file of a run"])
def test_promtool_finds_nothing_to_say_against_the_metrics(observed, which):
    text = {
        "a worker over files": observed.live[0],
        "a worker beside a queue": observed.live[1],
        "the file of a run": observed.file,
    }[which]

    told = subprocess.run(
        [need("promtool"), "check", "metrics"], check=False, input=text, capture_output=True, text=True
    )

    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


async def test_every_metric_of_the_contract_is_there_at_0_from_the_start(tmp_path):
    """The API is not reached yet, so that nothing has happened."""
    (tmp_path / "jobs.ndjson").write_bytes(b"".join(line + b"\n" for line in sample_lines(3)))
    port = free_port()
    async with running(
        "--admin", str(port), "--base-url", f"http://127.0.0.1:{free_port()}", "jobs.ndjson", cwd=tmp_path
    ):
        text = await scraped(port)

    seen = defaultdict(set)
    for family in parse(text):
        for sample in family.samples:
            if not sample.name.startswith(PREFIX):
                continue
            name = re.sub("_(bucket|sum|count)$", "", sample.name.removeprefix(PREFIX))
            seen[name] |= set(sample.labels) - {"le"}
            if name not in BEGUN and name not in ("input_size_bytes", "progress_total", "source_lag"):
                assert sample.value == 0, sample
    told = {}
    for metric in NAMES:
        name, _, labels = metric.rstrip("}").partition("{")
        told[name] = set(filter(None, labels.split(",")))
    assert told.items() <= seen.items()
