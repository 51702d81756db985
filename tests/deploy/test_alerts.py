"""The alert and recording rules, by Prometheus' own tool; test_prometheus.py has them at a live worker."""

import re
import subprocess

import pytest
import yaml
from support.brokers import need
from support.prometheus import DEPLOY, rules

FOLDER = DEPLOY / "prometheus"
CASES = sorted((FOLDER / "tests").glob("*.yml"))


def promtool(*arguments):
    ended = subprocess.run(
        [need("promtool"), *map(str, arguments)], capture_output=True, text=True, check=False, cwd=FOLDER
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def checks():
    """Of every case: what is asked of which alert, and whether it fires."""
    for path in CASES:
        for case in yaml.safe_load(path.read_text())["tests"]:
            for check in case["promql_expr_test"]:
                if found := re.match(r'ALERTS\{alertname="(\w+)", severity="(\w+)"', check["expr"]):
                    yield found.groups(), bool(check["exp_samples"])


def test_promtool_takes_the_configuration_and_the_rules():
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml", "rules.yml")


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_not_when_they_should_not(path):
    promtool("test", "rules", path)


@pytest.mark.parametrize("fires", [True, False])
def test_every_alert_has_a_case(fires):
    alerts = {(rule["alert"], rule["labels"]["severity"]) for rule in rules("alert")}

    assert alerts == {alert for alert, did in checks() if did == fires}


def test_every_recording_rule_has_a_case():
    text = (FOLDER / "tests" / "rules.yml").read_text()

    for rule in rules("record"):
        assert f"expr: {rule['record']}\n" in text, rule["record"]


@pytest.mark.parametrize(
    "rule", [*rules("alert")], ids=lambda rule: f"{rule['alert']} {rule['labels']['severity']}"
)
def test_an_alert_says_what_who_and_where_to_read_on(rule):
    told = rule["annotations"]

    assert rule["labels"]["severity"] in ("page", "ticket")
    assert set(told) == {"summary", "description", "runbook_url"}
    assert "$labels." in told["summary"]
    assert told["runbook_url"] == f"deploy/README.md#{rule['alert'].lower()}"


def test_alerts_need_no_recording_rules():
    """Whoever loads only one of the files must not be left without alerts."""
    for rule in rules("alert"):
        assert not re.search(r"\b\w+:\w+", re.sub('"[^"]*"', "", rule["expr"])), rule["alert"]
