"""Notices are written onto a Node as their givers write them, and taken back without a trace."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from hack.cluster import notices
from hack.cluster.beside import Beside
from hack.cluster.errors import ClusterError
from hack.cluster.kubeapi import ApiError
from hack.cluster.notices import AKS_CONDITION, AKS_TAINT, GKE_TAINT, KARPENTER_TAINT, NTH_TAINT, SOURCES, Source
from npc_operator.domain.interruption import notices as sources
from npc_operator.domain.interruption.notices import Kind, Notice
from npc_operator.domain.interruption.sources import parse_node

OWN = {"key": "studio/own", "value": "yes", "effect": "NoSchedule"}
READY = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "it is"}
TAINTS: dict[Source, str] = {"nth": NTH_TAINT, "karpenter": KARPENTER_TAINT, "gke": GKE_TAINT, "aks": AKS_TAINT}
SAYS: dict[Source, tuple[sources.Source, Kind]] = {
    "nth": (sources.Source.NODE_TERMINATION_HANDLER, Kind.INTERRUPTION),
    "karpenter": (sources.Source.KARPENTER, Kind.DRAIN),
    "gke": (sources.Source.GKE, Kind.INTERRUPTION),
    "aks": (sources.Source.AKS, Kind.INTERRUPTION),
}


@pytest.fixture
def node(beside: Beside) -> Iterator[str]:
    name = f"node-{uuid.uuid4().hex[:8]}"
    manifest = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"taints": [OWN]}}
    beside.api.call("POST", "/api/v1/nodes", manifest | {"status": {"conditions": [READY]}})
    yield name
    beside.api.delete(f"/api/v1/nodes/{name}")


def seen(beside: Beside, node: str) -> dict[str, Any]:
    found: dict[str, Any] = beside.api.get(f"/api/v1/nodes/{node}")
    return found


def keys(node: dict[str, Any]) -> set[str]:
    """Taints that are not the control plane's own."""
    return {taint["key"] for taint in node["spec"].get("taints", []) if "node.kubernetes.io" not in taint["key"]}


@pytest.mark.parametrize("source", SOURCES)
def test_a_notice_is_there_beside_what_was_there_and_its_withdrawal_leaves_only_that(
    beside: Beside, node: str, source: Source
) -> None:
    before = datetime.now(UTC)
    deadline = notices.give(beside.api, node, source, seconds=120)
    assert 119 < (deadline - before).total_seconds() < 150
    found = seen(beside, node)
    assert keys(found) == {OWN["key"], TAINTS[source]}
    assert found["spec"].get("unschedulable", False) is (source in ("nth", "aks"))
    types = {condition["type"] for condition in found["status"]["conditions"]}
    assert (AKS_CONDITION in types) is (source == "aks")
    assert notices.withdraw(beside.api, node)
    found = seen(beside, node)
    assert keys(found) == {OWN["key"]}
    assert not found["spec"].get("unschedulable")
    assert {condition["type"] for condition in found["status"]["conditions"]} == {"Ready"}
    assert not notices.withdraw(beside.api, node)


@pytest.mark.parametrize(("source", "says"), SAYS.items())
def test_the_operator_reads_a_notice_as_what_it_plays(
    beside: Beside, node: str, source: Source, says: tuple[sources.Source, Kind]
) -> None:
    deadline = notices.give(beside.api, node, source, seconds=39)
    read = [item for item in parse_node(seen(beside, node), seen=0.0) if isinstance(item, Notice)]
    about = [(item.source, item.kind) for item in read if item.kind is not Kind.CORDON]
    assert about == [says]
    assert {item.node for item in read} == {node}
    if source == "aks":  # the only one that tells the node when
        assert read[0].deadline == int(deadline.timestamp())


def test_a_second_notice_of_the_same_source_replaces_the_first_and_another_joins_it(beside: Beside, node: str) -> None:
    for source in ("nth", "nth", "karpenter"):
        notices.give(beside.api, node, source, seconds=25)
    taints = [taint["key"] for taint in seen(beside, node)["spec"]["taints"]]
    assert taints.count(NTH_TAINT) == 1
    assert taints.count(KARPENTER_TAINT) == 1


def test_a_notice_for_a_node_that_is_not_there_and_one_that_is_over_are_refused(beside: Beside, node: str) -> None:
    with pytest.raises(ApiError, match="404"):
        notices.give(beside.api, "nobody", "gke", seconds=30)
    with pytest.raises(ClusterError, match="has passed already"):
        notices.give(beside.api, node, "gke", seconds=-1)
    assert keys(seen(beside, node)) == {OWN["key"]}
