"""The fleet that the interruption rows take nodes from, as users, ReplicaSets and clouds write it. Pure.

A region has 500 engine pods on a hundred nodes of its own, so that a trial with fewer regions is a smaller world of
the same shape. Spot pods lie on the first nine tenths of the nodes, on-demand ones on the last tenth.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from hack.bench.objects import API_VERSION, made_up_digest
from npc_operator.api import names

Object = dict[str, Any]
REGIONS = 10
TIERS = {"gold": 100, "silver": 150, "bronze": 250}
"""Pods of each, in every region; a tenth of them on demand."""
NODES = 100
"""Of each region."""
ON_DEMAND_NODES = NODES // 10
INTERRUPTED = 30
"""Spot nodes of each region that are taken away, all at once."""
GATEWAYS = 2
VOICES = 20
"""Of each region, each on every tier."""
ENGINES = sum(TIERS.values())
DOOMED = ENGINES // NODES * INTERRUPTED
"""Engine pods of each region on the nodes that go: pods are dealt out evenly."""


def build_objects(regions: int = REGIONS) -> Iterator[Object]:
    """Regions, tiers and voices, as users write them."""
    for region in range(regions):
        place = {"namespace": region_namespace(region)}
        yield {
            "apiVersion": API_VERSION,
            "kind": names.KIND_REGION,
            "metadata": {**place, "name": "region"},
            "spec": {
                "tiers": [{"tier": tier, "npcs": {"min": 100, "max": 1000}} for tier in TIERS],
                "defaultTier": "gold",
                "gateway": {"replicas": GATEWAYS, "auth": {"mode": "None"}},
            },
        }
        for tier, pods in TIERS.items():
            yield {
                "apiVersion": API_VERSION,
                "kind": names.KIND_TIER,
                "metadata": {**place, "name": tier},
                "spec": {
                    "quality": tier.capitalize(),
                    "model": {"uri": "s3://bench/base", "parametersMillions": 8000},
                    "engine": {"image": "bench/engine:1", "maxCpuLoras": 64},
                    "accelerator": {"perReplica": 0},
                    "npcsPerReplica": 10,
                    "replicas": pods,
                    "maxReplicas": 2 * pods,
                    "capacity": {"onDemandBase": pods // 10},
                },
            }
        for number in range(VOICES):
            voice = f"voice-{number:03d}"
            source = {"uri": f"s3://bench/{voice}", "digest": made_up_digest(voice, region)}
            yield {
                "apiVersion": API_VERSION,
                "kind": names.KIND_ADAPTER,
                "metadata": {**place, "name": voice},
                "spec": {
                    "archetype": voice,
                    "variants": [{"tier": tier, "source": source, "rank": 8} for tier in TIERS],
                    "rollout": {"strategy": "Immediate"},
                },
            }


def deployment_names() -> tuple[str, ...]:
    """Every Deployment that the operator makes in a region."""
    engines = (f"{tier}-{one}" for tier in TIERS for one in ("on-demand", "spot"))
    return (*engines, "region-gateway")


def region_namespace(region: int) -> str:
    return f"region-{region}"


def node_name(number: int) -> str:
    return f"node-{number:04d}"


def node_names(regions: int = REGIONS) -> list[str]:
    """All of them, region by region."""
    return [node_name(number) for number in range(regions * NODES)]


def going_nodes(regions: int = REGIONS) -> list[str]:
    """Those that are taken away: spot nodes of every region."""
    return [node_name(region * NODES + number) for region in range(regions) for number in range(INTERRUPTED)]


def build_node_spec(name: str, *taints: Object) -> Object:
    """`spec` of a machine of EC2's."""
    return {"providerID": f"aws:///eu-west-1a/i-{int(name.rpartition('-')[2]):017x}", "taints": list(taints)}


def build_pod(deployment: Object, number: int, node: str) -> Object:
    """The n-th pod as a ReplicaSet and the scheduler would leave it; what is not looked at is left out."""
    metadata, template = deployment["metadata"], deployment["spec"]["template"]
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{metadata['name']}-{number}",
            "namespace": metadata["namespace"],
            "labels": {**template["metadata"]["labels"], "pod-template-hash": "bench"},
            "annotations": template["metadata"].get("annotations", {}),
            "ownerReferences": [owner],
        },
        "spec": {
            "nodeName": node,
            "containers": [
                {"name": one["name"], "image": one.get("image", "bench/any:1"), "args": one.get("args", [])}
                for one in template["spec"]["containers"]
            ],
        },
    }


def build_deployment_status(deployment: Object) -> Object:
    """What the Deployment controller says once all pods are ready."""
    count = int(deployment["spec"]["replicas"])
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), count)
    return {**counts, "observedGeneration": deployment["metadata"]["generation"]}


class Scheduler:
    """Deals pods out to their region's nodes, in turn."""

    def __init__(self) -> None:
        self._turns: dict[tuple[str, bool], Iterator[int]] = {}

    def pick(self, deployment: Object) -> str:
        """A node for one more pod of it."""
        namespace = deployment["metadata"]["namespace"]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        spot = labels.get(names.LABEL_SLICE) == names.SLICE_SPOT
        turn = next(self._turns.setdefault((namespace, spot), itertools.count()))
        first = int(namespace.rpartition("-")[2]) * NODES
        if spot:
            return node_name(first + turn % (NODES - ON_DEMAND_NODES))
        return node_name(first + NODES - ON_DEMAND_NODES + turn % ON_DEMAND_NODES)
