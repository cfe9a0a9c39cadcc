"""Metric names and labels of all three processes, as dashboards and alerts rely on them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import Metric

from npc_operator.clients.capacity_metrics import CapacityCollector
from npc_operator.clients.metrics import Metrics as OperatorMetrics
from npc_operator.clients.rollout_metrics import RolloutCollector
from npc_operator.domain.facts import Adapter, Tier
from npc_operator.domain.keys import Key, KeyKind
from npc_runtime.agent.errors import Reason
from npc_runtime.agent.facts import Stage
from npc_runtime.agent.metrics import ARCHETYPE_LIMIT
from npc_runtime.agent.metrics import Metrics as AgentMetrics
from npc_runtime.agent.report import Content
from npc_runtime.gateway.app import Gateway
from npc_runtime.gateway.errors import Reason as GatewayReason
from npc_runtime.gateway.metrics import GatewayCollector
from npc_runtime.gateway.metrics import Metrics as GatewayMetrics
from npc_runtime.gateway.plane import Counts
from npc_runtime.gateway.rollouts.metrics import CandidateCollector
from npc_runtime.gateway.rollouts.tally import Seen
from npc_runtime.wire import AdapterPhase, AdapterReport, Stamp
from tests.support.builders import adapter_fact, digest, tier_fact

BOUNDED = {
    # closed sets in the code
    *(
        "kind",
        "mode",
        "slice",
        "decision",
        "level",
        "outcome",
        "verb",
        "reason",
        "receiver",
        "result",
        "type",
        "code",
        "phase",
        "stage",
        "scheme",
        "route",
        "serving",
        "step",
        "cost",
        "sender",
    ),
    # what people deploy: capped (agent) or following the route table (gateway)
    *("archetype", "tier"),
    # one series per process, not per sample
    *("namespace", "region", "pod"),
    # Prometheus' own
    "le",
}

FAMILY = re.compile(r"npc_(operator|agent|gateway)(_[a-z]+)*")
FOREIGN_UNITS = re.compile(r"_(ms|millis|milliseconds|micros|minutes|hours|kb|mb|kib|mib|percent|pct)(_|$)")


def operator_families() -> Iterator[Metric]:
    metrics = OperatorMetrics()
    metrics.reconciled(Key(KeyKind.TIER, "eu", "gold"), "Panic", 0.1)
    metrics.wrote("apply", "Deployment")
    metrics.failed("get", "Secret", "Forbidden")
    metrics.pushed("agent", "accepted")
    metrics.event_lost("TooMany")
    metrics.watch_restarted()
    metrics.decided("eu", "RolledBack", "CandidateErrors", after_first_bad=1.5)
    metrics.interrupted("n", "t", "Drain")
    metrics.interruption_step("n", "Unrouted", 1.0)
    metrics.interruption_cost("n", "t", lost=1, rerouted=1, downgraded=1, seconds_below_target=1.0)
    metrics.node_word_ignored("AKS/UnknownEvent")
    metrics.queues.counted("Interruption", "Acted", "")
    metrics.queues.aged("Interruption", 1.5)
    metrics.queues.troubles = lambda: ("", "QueueForbidden")
    metrics.readings.watch_ages = lambda: {"GpuTier": 1.0}
    metrics.readings.facts = lambda: {"Tier": 1}
    yield from metrics.registry.collect()
    yield from RolloutCollector(lambda: [a_voice()]).collect()
    yield from CapacityCollector(lambda: [a_tier()]).collect()


def a_tier() -> Tier:
    """One that fell back, and knows its prices."""
    status = {
        "observedGeneration": 1,
        "capacity": {"mode": "Fallback", "extraOnDemand": 2},
        "slices": {"onDemand": {"desired": 3, "ready": 3}, "spot": {"desired": 5, "ready": 2}},
    }
    return tier_fact(spec={"prices": {"onDemandPerHour": "1.2", "spotPerHour": "0.4"}}, status=status)


def a_voice() -> Adapter:
    """One that has a candidate, one taken back and a stand-in at once, so that every family has a sample."""
    status = {
        "tier": "gold",
        "serving": "LastGood",
        "candidate": {"digest": digest("b"), "uri": "s3://adapters/b", "rank": 8},
        "rollout": {"phase": "Watching", "percent": 25},
        "rejected": {"digest": digest("c"), "time": "2026-11-21T17:00:00Z", "reason": "CandidateErrors"},
    }
    return adapter_fact("vampire", status={"variants": [status]})


def agent_metrics() -> AgentMetrics:
    return AgentMetrics(namespace="eu", region="eu", tier="gold", pod="gold-1")


def agent_families() -> Iterator[Metric]:
    metrics = agent_metrics()
    metrics.step(Stage.FETCH, 0.1)
    metrics.proof("vampire")
    metrics.failure("vampire", Reason.DIGEST_MISMATCH)
    metrics.fetched("s3://bucket/a", 1)
    metrics.inspected(1)
    metrics.order(Stamp(epoch=1, generation=1))
    metrics.lag(0.1)
    metrics.request("desired", 200)
    metrics.metadata_failed("Unheard")
    resident = AdapterReport(served_name="vampire--1", archetype="vampire", digest="", phase=AdapterPhase.RESIDENT)
    metrics.show(Content(adapters=(resident,)))
    yield from metrics.registry.collect()


def gateway_families() -> Iterator[Metric]:
    counted = GatewayMetrics()
    series = counted.series("vampire", "gold")
    series.count_answer(200)
    series.count_error(GatewayReason.NO_RESIDENT)
    series.count_degraded("Tier")
    series.first_token.observe(0.1)
    series.duration.observe(0.1)
    # What a gateway reads when it is asked, without one that listens.
    gateway = cast(
        "Any",
        SimpleNamespace(
            _counts=Counts(),
            _endpoints=lambda: 0,
            agents_in_contact=0,
            routes=SimpleNamespace(stamp=Stamp(epoch=1, generation=1)),
        ),
    )
    yield from GatewayCollector(
        lambda: counted,
        gauges=Gateway._gauges(gateway),
        counters=Gateway._counters(gateway),
        ejections=lambda: {"gold": 1},
        waiting=lambda: {"gold": 1},
    ).collect()
    candidate = Seen(archetype="vampire", tier="gold", stable="sha256:a", candidate="sha256:b")
    yield from CandidateCollector(lambda: [candidate]).collect()


def families() -> list[Metric]:
    found = [*operator_families(), *agent_families(), *gateway_families()]
    return [family for family in found if not family.name.startswith("process_")]


FAMILIES = families()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_metric_is_called_after_its_process_in_base_units(family: Metric) -> None:
    assert FAMILY.fullmatch(family.name)
    assert family.documentation.endswith((".", ")."))
    assert not FOREIGN_UNITS.search(family.name)
    for sample in family.samples:
        if family.type == "counter" and not sample.name.endswith("_created"):
            assert sample.name == f"{family.name}_total"
        if family.type in ("gauge", "histogram"):
            assert not sample.name.endswith("_total")
    if family.type == "histogram":
        assert family.name.endswith("_seconds")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_its_labels_are_bounded_and_name_no_npc_and_no_player(family: Metric) -> None:
    assert {label for sample in family.samples for label in sample.labels} <= BOUNDED


def test_the_agent_gives_only_so_many_archetypes_a_series_of_their_own() -> None:
    metrics = agent_metrics()
    for number in range(ARCHETYPE_LIMIT + 50):
        metrics.proof(f"archetype-{number}")
    proofs = next(family for family in metrics.registry.collect() if family.name == "npc_agent_proofs")
    totals = {sample.labels["archetype"]: sample.value for sample in proofs.samples if sample.name.endswith("_total")}
    assert len(totals) == ARCHETYPE_LIMIT + 1
    assert totals["_other"] == 50


def test_the_gateway_forgets_the_series_of_archetypes_that_left_its_table() -> None:
    counted = GatewayMetrics()
    counted.series("vampire", "gold").count_answer(200)
    counted.series("zombie", "gold").count_answer(200)
    counted.keep_only({("vampire", "gold")})
    assert [key for key, _ in counted.items()] == [("", ""), ("vampire", "gold")]
