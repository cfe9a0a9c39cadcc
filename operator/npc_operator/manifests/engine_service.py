"""A tier's headless Service: names for its pods (and scrape targets); the gateway itself calls pods by address."""

from __future__ import annotations

from typing import Any

from npc_operator.api import names
from npc_operator.api.gputier import GpuTierSpec
from npc_operator.api.meta import ObjectMeta
from npc_operator.manifests.labels import controller_reference, engine_labels, engine_selector
from npc_runtime.wire import AGENT_HEALTH_PORT, AGENT_PORT


def service_name(tier: str) -> str:
    return f"{tier}-engine"


def build_engine_service(meta: ObjectMeta, spec: GpuTierSpec) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": service_name(meta.name),
            "namespace": meta.namespace,
            "labels": engine_labels(tier=meta.name, quality=spec.quality.lower()),
            "ownerReferences": [controller_reference(names.KIND_TIER, meta)],
        },
        "spec": {
            "clusterIP": "None",
            "selector": engine_selector(tier=meta.name),
            "ports": [
                {"name": "engine", "port": spec.engine.port, "targetPort": "engine", "protocol": "TCP"},
                {"name": "agent", "port": AGENT_PORT, "targetPort": "agent", "protocol": "TCP"},
                {"name": "agent-health", "port": AGENT_HEALTH_PORT, "targetPort": "agent-health", "protocol": "TCP"},
            ],
        },
    }
