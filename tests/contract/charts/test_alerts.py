"""Prometheus' own word on the alerts: each fires when it should, says what it should, and is silent otherwise."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cluster import api
from tests.contract.charts.helm import CHARTS, Helm, names, one

FILES = CHARTS / "npc-operator" / "files"
RULES: dict[str, Any] = yaml.safe_load((FILES / "alerts.yaml").read_text())
ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
MONITORING = ("--api-versions", "monitoring.coreos.com/v1")

VOICE = {"namespace": "eu", "archetype": "vampire", "tier": "gold"}


TIER = {"namespace": "eu", "tier": "bronze"}


def voice(name: str, values: str, **labels: str) -> dict[str, str]:
    """A series of the vampire on gold, one value a minute (`0+60x10`: 0 and ten steps of 60)."""
    return series(name, values, **VOICE, **labels)


def tier(name: str, values: str, **labels: str) -> dict[str, str]:
    """A series of the operator about bronze."""
    return series(name, values, **TIER, **labels)


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    said = ", ".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{name}{{{said}}}", "values": values}


@dataclass(frozen=True, kw_only=True)
class Case:
    """What Prometheus knows, and what it makes of it `at` a time; no `labels`: nothing fires.

    One that fires does so `at` that minute for the first time: a minute before there is nothing yet.
    """

    alert: str
    at: str
    before: str = ""
    known: list[dict[str, str]]
    labels: Mapping[str, str] | None = None
    summary: str = ""
    name: str = field(default="")


def fires(alert: str, first: int, summary: str, *known: dict[str, str], **labels: str) -> Case:
    """`first` is the minute from which on it fires: what is known begins at minute 0."""
    return Case(
        alert=alert,
        at=f"{first}m",
        before=f"{first - 1}m",
        known=list(known),
        labels=labels,
        summary=summary,
        name=f"{alert} fires",
    )


def silent(alert: str, at: str, why: str, *known: dict[str, str]) -> Case:
    return Case(alert=alert, at=at, known=list(known), name=f"{alert} is silent: {why}")


CASES = [
    # --- rollouts ---
    fires(
        "NpcCandidateTakenBack",
        1,
        "vampire on gold: the newest adapter was taken back (CandidateErrors)",
        voice("npc_operator_candidate_rejected", "_ 1x5", reason="CandidateErrors", pod="npc-operator-1"),
        **VOICE,
        reason="CandidateErrors",
    ),
    silent(
        "NpcCandidateTakenBack",
        "7m",
        "the spec names another digest since",
        voice("npc_operator_candidate_rejected", "1x1 stale", reason="CandidateErrors"),
    ),
    fires(
        "NpcCandidateHeldOffByGateway",
        2,
        "vampire on gold: a gateway took the candidate off, and no operator made that final",
        voice("npc_gateway_candidate_withdrawn", "0 1x5", pod="gateway-1"),
        voice("npc_gateway_candidate_withdrawn", "0x6", pod="gateway-2"),
        **VOICE,
    ),
    silent(
        "NpcCandidateHeldOffByGateway",
        "3m",
        "the operator took it back within a minute",
        voice("npc_gateway_candidate_withdrawn", "0 1 stale", pod="gateway-1"),
    ),
    fires(
        "NpcBadCandidateHeardLong",
        10,
        "eu: a bad candidate was heard for more than a minute",
        series("npc_operator_first_bad_to_verdict_seconds_count", "0x9 2x20", namespace="eu"),
        series("npc_operator_first_bad_to_verdict_seconds_bucket", "0x9 1x20", namespace="eu", le="60.0"),
        namespace="eu",
    ),
    silent(
        "NpcBadCandidateHeardLong",
        "30m",
        "every verdict fell within the minute",
        series("npc_operator_first_bad_to_verdict_seconds_count", "0x9 5x20", namespace="eu"),
        series("npc_operator_first_bad_to_verdict_seconds_bucket", "0x9 5x20", namespace="eu", le="60.0"),
    ),
    fires(
        "NpcManyRollbacks",
        2,
        "eu: 3 candidates were taken back within an hour",
        series(
            "npc_operator_decisions_total",
            "0x1 2x28",
            namespace="eu",
            decision="RolledBack",
            reason="CandidateErrors",
        ),
        series("npc_operator_decisions_total", "0x1 1x28", namespace="eu", decision="RolledBack", reason="GateFailed"),
        namespace="eu",
    ),
    silent(
        "NpcManyRollbacks",
        "30m",
        "many steps and one rollback are a good day",
        series("npc_operator_decisions_total", "0x1 40x28", namespace="eu", decision="Stepped", reason=""),
        series("npc_operator_decisions_total", "0x1 1x28", namespace="eu", decision="RolledBack", reason="GateFailed"),
    ),
    fires(
        "NpcRolloutStuck",
        30,
        "vampire on gold: the rollout has been Checking for half an hour",
        voice("npc_operator_candidate_phase", "1x60", phase="Checking"),
        **VOICE,
        phase="Checking",
    ),
    silent(
        "NpcRolloutStuck",
        "45m",
        "it goes on",
        voice("npc_operator_candidate_phase", "1x20 stale", phase="Checking"),
        voice("npc_operator_candidate_phase", "_x21 1x40", phase="Watching"),
    ),
    fires(
        "NpcRolloutHolds",
        720,
        "vampire on gold: the rollout has held for half a day",
        voice("npc_operator_candidate_phase", "1x800", phase="Holding"),
        **VOICE,
    ),
    silent(
        "NpcRolloutHolds",
        "13h",
        "it was approved in the morning",
        voice("npc_operator_candidate_phase", "1x600 stale", phase="Holding"),
    ),
    fires(
        "NpcRolloutsQueue",
        120,
        "eu: 2 archetypes have waited two hours for their turn",
        voice("npc_operator_candidate_phase", "1x200", phase="Waiting"),
        series(
            "npc_operator_candidate_phase", "1x200", namespace="eu", archetype="vampire", tier="iron", phase="Waiting"
        ),
        series("npc_operator_candidate_phase", "1x200", namespace="eu", archetype="elf", tier="gold", phase="Waiting"),
        namespace="eu",
    ),
    silent(
        "NpcRolloutsQueue",
        "150m",
        "its turn came",
        voice("npc_operator_candidate_phase", "1x100 stale", phase="Waiting"),
    ),
    fires(
        "NpcCandidateUnread",
        11,
        "vampire on gold: 20% of the candidate's answers are not read",
        voice("npc_gateway_candidate_answers_total", "0+60x40"),
        voice("npc_gateway_candidate_unjudged_answers_total", "0+12x40"),
        **VOICE,
    ),
    silent(
        "NpcCandidateUnread",
        "25m",
        "now and then one is not",
        voice("npc_gateway_candidate_answers_total", "0+60x40"),
        voice("npc_gateway_candidate_unjudged_answers_total", "0+1x40"),
    ),
    # --- lines ---
    fires(
        "NpcVoiceStoodIn",
        1,
        "vampire on gold: its adapter is quarantined, LastGood speaks",
        voice("npc_operator_stand_in", "1x5", serving="LastGood"),
        **VOICE,
        serving="LastGood",
    ),
    silent(
        "NpcVoiceStoodIn",
        "3m",
        "worse has an alert of its own",
        voice("npc_operator_stand_in", "1x5", serving="Nothing"),
    ),
    fires(
        "NpcVoiceLost",
        1,
        "vampire on gold: its adapter is quarantined, and there are only scripted lines or nothing",
        voice("npc_operator_stand_in", "1x5", serving="Scripted"),
        **VOICE,
        serving="Scripted",
    ),
    silent("NpcVoiceLost", "3m", "the last good one speaks", voice("npc_operator_stand_in", "1x5", serving="LastGood")),
    fires(
        "NpcLinesScripted",
        3,
        "vampire on gold: 5% of its lines are scripted",
        voice("npc_gateway_requests_total", "0+100x20", code="200"),
        voice("npc_gateway_degraded_lines_total", "0+5x20", level="Scripted"),
        **VOICE,
    ),
    silent(
        "NpcLinesScripted",
        "15m",
        "a lower tier answers",
        voice("npc_gateway_requests_total", "0+100x20", code="200"),
        voice("npc_gateway_degraded_lines_total", "0+50x20", level="Tier"),
    ),
    fires(
        "NpcLinesDegraded",
        11,
        "vampire on gold: 40% of its lines come from a lower level",
        voice("npc_gateway_requests_total", "0+100x30", code="200"),
        voice("npc_gateway_degraded_lines_total", "0+30x30", level="Tier"),
        voice("npc_gateway_degraded_lines_total", "0+10x30", level="BaseModel"),
        **VOICE,
    ),
    silent(
        "NpcLinesDegraded",
        "8m",
        "it has not lasted",
        voice("npc_gateway_requests_total", "0+100x30", code="200"),
        voice("npc_gateway_degraded_lines_total", "0+30x5 150x25", level="Tier"),
    ),
    fires(
        "NpcLinesFail",
        3,
        "vampire on gold: 3% of its lines fail",
        voice("npc_gateway_requests_total", "0+97x20", code="200"),
        voice("npc_gateway_requests_total", "0+3x20", code="502"),
        voice("npc_gateway_errors_total", "0+2x20", reason="EngineFailed"),
        voice("npc_gateway_errors_total", "0+1x20", reason="EngineInterrupted"),
        **VOICE,
    ),
    silent(
        "NpcLinesFail",
        "15m",
        "what callers do wrong is theirs",
        voice("npc_gateway_requests_total", "0+100x20", code="400"),
        voice("npc_gateway_errors_total", "0+60x20", reason="BadRequest"),
        voice("npc_gateway_errors_total", "0+40x20", reason="ClientGone"),
    ),
    fires(
        "NpcLinesShed",
        6,
        "Tier bronze of eu refuses 25% of its lines",
        series("npc_gateway_requests_total", "0+75x20", namespace="eu", archetype="rat", tier="bronze", code="200"),
        series("npc_gateway_requests_total", "0+25x20", namespace="eu", archetype="rat", tier="bronze", code="429"),
        series("npc_gateway_errors_total", "0+25x20", namespace="eu", archetype="rat", tier="bronze", reason="Shed"),
        namespace="eu",
        tier="bronze",
    ),
    silent(
        "NpcLinesShed",
        "15m",
        "a caller's own rate is another matter",
        voice("npc_gateway_requests_total", "0+100x20", code="429"),
        voice("npc_gateway_errors_total", "0+100x20", reason="RateLimited"),
    ),
    fires(
        "NpcPodsLeftOut",
        10,
        "eu: gateways have left pods out for ten minutes",
        series("npc_gateway_ejected_pods", "2x20", namespace="eu", pod="gateway-1"),
        namespace="eu",
    ),
    silent(
        "NpcPodsLeftOut",
        "8m",
        "it may be back soon",
        series("npc_gateway_ejected_pods", "1x9 0x10", namespace="eu", pod="gateway-1"),
    ),
    fires(
        "NpcAgentsUnheard",
        10,
        "Gateway gateway-1 of eu does not hear 2 agents",
        series("npc_gateway_endpoints", "3x20", namespace="eu", pod="gateway-1"),
        series("npc_gateway_agents_in_contact", "1x20", namespace="eu", pod="gateway-1"),
        namespace="eu",
        pod="gateway-1",
    ),
    silent(
        "NpcAgentsUnheard",
        "10m",
        "a pod came and is starting",
        series("npc_gateway_endpoints", "1x5 2x15", namespace="eu", pod="gateway-1"),
        series("npc_gateway_agents_in_contact", "1x11 2x10", namespace="eu", pod="gateway-1"),
    ),
    # --- spot ---
    fires(
        "NpcSpotStorm",
        1,
        "Tier bronze of eu: spot nodes go one after the other, and everything moves on demand",
        tier("npc_operator_capacity_mode", "_x1 1x5", mode="Storm", pod="npc-operator-1"),
        **TIER,
    ),
    silent(
        "NpcSpotStorm",
        "10m",
        "a node went, and an on-demand pod stands in",
        tier("npc_operator_capacity_mode", "1x5 stale", mode="Normal"),
        tier("npc_operator_capacity_mode", "_x6 1x10", mode="Fallback"),
    ),
    silent(
        "NpcSpotStorm",
        "40m",
        "it was held long enough",
        tier("npc_operator_capacity_mode", "1x30 stale", mode="Storm"),
        tier("npc_operator_capacity_mode", "_x31 1x20", mode="Fallback"),
    ),
    fires(
        "NpcFallbackLong",
        125,
        "Tier bronze of eu: on-demand pods have stood in for spot for two hours, 3 of them now",
        tier("npc_operator_fallback_replicas", "0x4 1x50 3x100", pod="npc-operator-1"),
        **TIER,
    ),
    fires(
        "NpcFallbackLong",
        120,
        "Tier bronze of eu: on-demand pods have stood in for spot for two hours, 2 of them now",
        tier("npc_operator_fallback_replicas", "2x80 stale", pod="npc-operator-1"),
        tier("npc_operator_fallback_replicas", "_x83 2x100", pod="npc-operator-2"),
        **TIER,
    ),
    silent(
        "NpcFallbackLong",
        "110m",
        "it was not so for two hours yet",
        tier("npc_operator_fallback_replicas", "1x200"),
    ),
    silent(
        "NpcFallbackLong",
        "200m",
        "spot was back between two interruptions",
        tier("npc_operator_fallback_replicas", "1x100 0x10 1x100"),
    ),
    silent(
        "NpcFallbackLong",
        "200m",
        "spot came back after an hour and a half",
        tier("npc_operator_fallback_replicas", "1x90 0x120"),
    ),
    # --- operator ---
    fires(
        "NpcOperatorAway",
        2,
        "No operator leads",
        series("npc_operator_leader", "0x10", pod="npc-operator-1"),
        series("npc_operator_leader", "0x10", pod="npc-operator-2"),
    ),
    fires("NpcOperatorAway", 2, "No operator leads", series("up", "1x10", job="something-else")),
    silent(
        "NpcOperatorAway",
        "10m",
        "one of two leads, also while they hand over",
        series("npc_operator_leader", "1x4 0x6", pod="npc-operator-1"),
        series("npc_operator_leader", "0x5 1x5", pod="npc-operator-2"),
    ),
    fires(
        "NpcOperatorPanics",
        5,
        "Reconciles of Tier ended by an unexpected exception",
        series("npc_operator_panics_total", "0x4 2x6", kind="Tier"),
        kind="Tier",
    ),
    silent("NpcOperatorPanics", "30m", "that was long ago", series("npc_operator_panics_total", "0 2x30", kind="Tier")),
    fires(
        "NpcInterruptionQueueNotRead",
        5,
        "An interruption queue has not been read for five minutes (QueueForbidden)",
        series("npc_operator_interruption_queues", "1x10", reason="QueueForbidden"),
        series("npc_operator_interruption_queues", "2x10", reason="QueueRead"),
        reason="QueueForbidden",
    ),
    silent(
        "NpcInterruptionQueueNotRead",
        "10m",
        "it was only for a moment",
        series("npc_operator_interruption_queues", "1x2 _x8", reason="QueueUnreachable"),
    ),
    silent(
        "NpcInterruptionQueueNotRead",
        "10m",
        "all are read",
        series("npc_operator_interruption_queues", "2x10", reason="QueueRead"),
    ),
]


def expected(case: Case) -> list[dict[str, Any]]:
    """What Prometheus must say: the labels with the severity, and the texts with the labels put in."""
    if case.labels is None:
        return []
    rule = ALERTS[case.alert]
    told = dict(rule["annotations"])
    told["summary"] = case.summary
    labels = dict(case.labels)
    told["description"] = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], str(told["description"]))
    return [{"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": told}]


def _looked(case: Case, at: str, told: list[dict[str, Any]]) -> dict[str, Any]:
    return {"eval_time": at, "alertname": case.alert, "exp_alerts": told}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(api.binary("promtool")), *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent() -> None:
    assert {case.alert for case in CASES if case.labels is not None} == set(ALERTS)
    assert {case.alert for case in CASES if case.labels is None} == set(ALERTS)


def test_prometheus_accepts_the_rules() -> None:
    done = promtool("check", "rules", str(FILES / "alerts.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_from_the_minute_on_that_they_should_and_say_what_they_should(tmp_path: Path) -> None:
    written = {
        "rule_files": [str(FILES / "alerts.yaml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "name": case.name,
                "interval": "1m",
                "input_series": case.known,
                "alert_rule_test": [
                    *([_looked(case, case.before, [])] if case.before else ()),
                    _looked(case, case.at, expected(case)),
                ],
            }
            for case in CASES
        ],
    }
    path = tmp_path / "alerts_test.yaml"
    path.write_text(yaml.safe_dump(written, sort_keys=False))
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_understands_what_the_dashboard_asks(tmp_path: Path) -> None:
    dashboard = json.loads((FILES / "dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    asked += [entry["expr"] for entry in dashboard["annotations"]["list"]]
    assert len(asked) > 20
    rules = [
        {"record": f"dashboard:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(asked)
    ]
    path = tmp_path / "dashboard.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = promtool("check", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_chart_brings_the_rules_with_links_to_where_the_runbooks_are(helm: Helm) -> None:
    wanted = {
        "metrics": {
            "prometheusRule": {
                "enabled": True,
                "labels": {"release": "prometheus"},
                "runbooks": "https://wiki.example.com/npc/runbooks",
            }
        }
    }
    assert names(helm.render("npc-operator", {}, *MONITORING), "PrometheusRule") == []
    assert names(helm.render("npc-operator", wanted), "PrometheusRule") == []
    rule = one(helm.render("npc-operator", wanted, *MONITORING), "PrometheusRule")
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    rendered = {one["alert"]: one for group in rule["spec"]["groups"] for one in group["rules"]}
    assert set(rendered) == set(ALERTS)
    for name, alert in rendered.items():
        link = alert["annotations"].pop("runbook_url")
        assert link == f"https://wiki.example.com/npc/runbooks#{name.lower()}"
        mine = {key: text for key, text in ALERTS[name]["annotations"].items() if key != "runbook_url"}
        assert alert == {**ALERTS[name], "annotations": mine}


def test_the_chart_brings_the_dashboard_where_grafana_finds_it(helm: Helm) -> None:
    assert names(helm.render("npc-operator"), "ConfigMap") == []
    found = one(helm.render("npc-operator", {"metrics": {"dashboard": {"enabled": True}}}), "ConfigMap")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(found["data"]["npc-fleet.json"]) == json.loads((FILES / "dashboard.json").read_text())


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor"])
def test_the_operators_series_keep_the_namespace_of_the_voice(helm: Helm, kind: str) -> None:
    chosen = {"ServiceMonitor": "serviceMonitor", "PodMonitor": "podMonitor"}[kind]
    monitor = one(helm.render("npc-operator", {"metrics": {chosen: {"enabled": True}}}, *MONITORING), kind)
    ends = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
    assert [end["honorLabels"] for end in ends] == [True]
