"""Alerts and the dashboard speak of metrics that exist, and each alert says what to do.

That an alert fires when it should, and only then, is Prometheus' own word: tests/contract/charts/test_alerts.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client import Metric

from npc_runtime.gateway.errors import Reason
from tests.unit.conventions.pages import ROOT, chapter, read
from tests.unit.conventions.test_metrics import FAMILIES

FILES = ROOT / "charts" / "npc-operator" / "files"
GROUPS: list[dict[str, Any]] = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
ALERTS: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
DASHBOARD: dict[str, Any] = json.loads((FILES / "dashboard.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RUNBOOKS = read("docs/runbooks.md")

SERIES = re.compile(r"(npc_[a-z_]+)(?:\{([^}]*)\})?")
ADDED_BY_PROMETHEUS = {"namespace", "pod"}
"""Labels of the target, which every series of agents and gateways has once it was scraped."""


def sample_names(family: Metric) -> set[str]:
    """What one may ask for of a family."""
    match family.type:
        case "counter":
            return {f"{family.name}_total"}
        case "histogram":
            return {f"{family.name}{suffix}" for suffix in ("_bucket", "_count", "_sum")}
        case _:
            return {family.name}


KNOWN = {
    name: {label for sample in family.samples for label in sample.labels}
    for family in FAMILIES
    for name in sample_names(family)
}


def expressions() -> Iterator[tuple[str, str]]:
    """(whose, expression) of everything that asks Prometheus."""
    for alert in ALERTS:
        yield alert["alert"], alert["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for one in DASHBOARD["annotations"]["list"]:
        yield one["name"], one["expr"]
    for one in DASHBOARD["templating"]["list"]:
        if one["type"] == "query":
            yield one["name"], one["definition"]


@pytest.mark.parametrize(("whose", "expression"), list(expressions()))
def test_what_is_asked_of_prometheus_exists_with_those_labels(whose: str, expression: str) -> None:
    asked = SERIES.findall(expression)
    assert asked, whose
    known = set()
    for name, selector in asked:
        assert name in KNOWN, (whose, name)
        known |= KNOWN[name] | {"le"}
        labels = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", selector))
        assert labels <= KNOWN[name] | ADDED_BY_PROMETHEUS | {"le"}, (whose, name)
    for grouped in re.findall(r"(?:by|on) \(([^)]*)\)", expression):
        assert set(grouped.replace(" ", "").split(",")) <= known | ADDED_BY_PROMETHEUS, whose


def test_every_metric_of_candidates_and_of_degradation_is_on_the_dashboard() -> None:
    shown = {name for _, expression in expressions() for name, _ in SERIES.findall(expression)}
    about = {
        name
        for name in KNOWN
        if re.search(r"candidate|stable_|stand_in|decisions|degraded|resumed|eject|lines_waiting|verdict", name)
        and not name.endswith(("_count", "_sum"))
    }
    assert about <= shown


def test_every_metric_of_slices_and_of_interruptions_is_on_the_dashboard() -> None:
    shown = {name for _, expression in expressions() for name, _ in SERIES.findall(expression)}
    about = {
        name
        for name in KNOWN
        if re.search(r"_operator_(interruption|slice|capacity|fallback|wanted|hourly)", name)
        and not name.endswith(("_count", "_sum"))
    }
    assert len(about) > 10
    assert about <= shown


def test_alerts_and_panels_have_names_of_their_own() -> None:
    for names in ([alert["alert"] for alert in ALERTS], [panel["title"] for panel in PANELS]):
        assert len(names) == len(set(names))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_has_severity_summary_description_and_a_runbook_that_exists(alert: dict[str, Any]) -> None:
    assert re.fullmatch(r"Npc[A-Z][A-Za-z]+", alert["alert"])
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    told = alert["annotations"]
    assert set(told) == {"summary", "description", "runbook_url"}
    assert told["description"].endswith(".")
    page, _, anchor = told["runbook_url"].partition("#")
    assert (page, anchor) == ("docs/runbooks.md", alert["alert"].lower())
    entry = chapter(RUNBOOKS, alert["alert"])
    for part in ("**Players**", "**Look**", "**Do**"):
        assert part in entry


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_what_an_alert_says_of_itself_is_known_when_it_fires(alert: dict[str, Any]) -> None:
    """A label that the expression aggregates away would be an empty word in the summary."""
    told = " ".join(alert["annotations"].values())
    kept = {
        label
        for grouped in re.findall(r"by \(([^)]*)\)", alert["expr"])
        for label in grouped.replace(" ", "").split(",")
    }
    assert set(re.findall(r"\$labels\.([a-z_]+)", told)) <= kept


def test_no_runbook_is_of_an_alert_that_does_not_exist() -> None:
    headings = re.findall(r"^### (\S+)$", RUNBOOKS, flags=re.MULTILINE)
    assert headings == [alert["alert"] for alert in ALERTS]


def test_reasons_that_alerts_name_are_reasons_of_failed_lines() -> None:
    named = {
        word
        for alert in ALERTS
        for selector in re.findall(r'reason=~?"([^"]+)"', alert["expr"])
        for word in selector.split("|")
    }
    assert named
    assert named <= {reason.value for reason in Reason}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_and_asks_the_chosen_data_source(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"


def test_panels_do_not_lie_over_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
