"""PodDisruptionBudgets: one per tier over both slices (two would refuse every eviction of a pod they share), one per
gateway.

maxUnavailable 1 never blocks a node's drain for ever, not even for a tier of one replica; AlwaysAllow lets broken pods
be evicted.
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


def build_engine_budget(meta: ObjectMeta, quality: str) -> dict[str, Any]:
    return _build(
        names.KIND_TIER,
        meta,
        f"{meta.name}-engine",
        engine_labels(tier=meta.name, quality=quality.lower()),
        engine_selector(tier=meta.name),
    )


def build_gateway_budget(meta: ObjectMeta) -> dict[str, Any]:
    return _build(
        names.KIND_REGION, meta, names.gateway(meta.name), gateway_labels(meta.name), gateway_selector(meta.name)
    )


def _build(kind: str, meta: ObjectMeta, name: str, labels: dict[str, str], selector: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": name,
            "namespace": meta.namespace,
            "labels": labels,
            "ownerReferences": [controller_reference(kind, meta)],
        },
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector},
        },
    }
