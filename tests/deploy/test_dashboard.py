"""The dashboard as Grafana needs it; test_prometheus.py has its queries answered."""

import json
import re
from itertools import combinations, pairwise

import pytest
import yaml
from support.prometheus import DEPLOY, JOB

FOLDER = DEPLOY / "grafana"
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
PANELS = DASHBOARD["panels"]
ASKING = [panel for panel in PANELS if panel["type"] not in ("row", "text")]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {
    "bytes",
    "dateTimeAsIso",
    "dateTimeFromNow",
    "ops",
    "percentunit",
    "reqps",
    "s",
    "short",
    "suffix:/s",
}


def cells(panel):
    place = panel["gridPos"]
    columns, rows = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
    return {(column, row) for column in columns for row in rows}


def test_the_rows_are_the_questions_of_somebody_on_call():
    assert [panel["title"] for panel in PANELS if panel["type"] == "row"] == [
        "Is it moving?",
        "What limits it?",
        "How is the API?",
        "Retries",
        "Dead letters",
        "Resources",
        "Queue",
        "Run",
    ]


def test_panels_have_ids_of_their_own_and_places_of_their_own():
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, other in combinations(PANELS, 2):
        assert not cells(one) & cells(other), (one["title"], other["title"])
    assert {column for panel in PANELS for column, _ in cells(panel)} == set(range(24))


def test_panels_stand_below_their_row():
    tops = [panel["gridPos"]["y"] for panel in PANELS]

    assert all(above <= below for above, below in pairwise(tops))


@pytest.mark.parametrize("panel", ASKING, ids=lambda panel: panel["title"])
def test_a_panel_is_whole(panel):
    targets = panel["targets"]

    assert panel["type"] in ("timeseries", "stat", "gauge", "bargauge")
    assert panel["datasource"] == SOURCE
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert len({target["refId"] for target in targets}) == len(targets) > 0
    for target in targets:
        assert 'job=~"$job", instance=~"$instance"' in target["expr"]
        assert panel["type"] in ("stat", "gauge") or target["legendFormat"]
        assert "[5m]" not in target["expr"] or "deriv(" in target["expr"]  # a rate takes what Grafana says


def test_variables_and_annotations_ask_the_chosen_data_source():
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    text = json.dumps(DASHBOARD)

    assert list(variables) == ["datasource", "job", "instance", "workspace"]
    for name, variable in variables.items():
        assert variable["type"] == "datasource" or variable["datasource"] == SOURCE
        assert f"${name}" in text or f"${{{name}}}" in text
    assert {note["name"] for note in DASHBOARD["annotations"]["list"]} == {"Pauses", "Starts"}
    assert all(note["datasource"] == SOURCE for note in DASHBOARD["annotations"]["list"])


def test_gauges_of_a_workspace_can_be_told_apart():
    of_lanes = re.compile(
        r"(rate_per_second|rate_limit_fallback|paused_until\w+|concurrency_\w+|breaker_state|credentials_valid){"
    )
    for panel in ASKING:
        for target in panel["targets"]:
            assert bool(of_lanes.search(target["expr"])) == ("$workspace" in target["expr"]), target["expr"]


def test_what_is_provisioned_fits_together():
    (source,) = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((FOLDER / "provisioning/dashboards/permutive-worker.yml").read_text())[
        "providers"
    ]
    prometheus = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())

    assert source["type"] == "prometheus"
    assert source["isDefault"]
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    assert provider["type"] == "file"
    assert [scrape["job_name"] for scrape in prometheus["scrape_configs"]] == [JOB]
