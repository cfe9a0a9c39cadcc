"""PodDisruptionBudgets: one per tier over both slices (two would refuse every eviction of a pod they share), one per
gateway.

One pod may always be missing, so a node's drain is never blocked for ever, not even for a tier of one replica;
AlwaysAllow lets broken pods be evicted. Engines say it as minAvailable, one below what is wanted: maxUnavailable counts
from what both Deployments ask for, and replacements and spot pods that wait for nodes are asked for beyond what is
wanted. While the market is dry they would be the one that is missing, and no pod of the tier could be evicted. Where
more are ready than are wanted, several may go at once: what they leave is the same (docs/decisions/0014).
"""

from __future__ import annotations

from typing import Any

from npc_operator.api import names
from npc_operator.api.meta import ObjectMeta
from npc_operator.manifests.labels import (
    controller_reference,
    engine_labels,
    engine_selector,
    gateway_labels,
    gateway_selector,
)


def build_engine_budget(meta: ObjectMeta, quality: str, *, wanted: int) -> dict[str, Any]:
    """`wanted`: replicas of both slices, stand-ins and replacements apart."""
    return _build(
        names.KIND_TIER,
        meta,
        f"{meta.name}-engine",
        engine_labels(tier=meta.name, quality=quality.lower()),
        {"minAvailable": max(0, wanted - 1), "selector": {"matchLabels": engine_selector(tier=meta.name)}},
    )


def build_gateway_budget(meta: ObjectMeta) -> dict[str, Any]:
    return _build(
        names.KIND_REGION,
        meta,
        names.gateway(meta.name),
        gateway_labels(meta.name),
        {"maxUnavailable": 1, "selector": {"matchLabels": gateway_selector(meta.name)}},
    )


def _build(kind: str, meta: ObjectMeta, name: str, labels: dict[str, str], spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": name,
            "namespace": meta.namespace,
            "labels": labels,
            "ownerReferences": [controller_reference(kind, meta)],
        },
        "spec": {**spec, "unhealthyPodEvictionPolicy": "AlwaysAllow"},
    }
