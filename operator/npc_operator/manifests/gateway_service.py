"""How game servers reach a region's gateway."""

from __future__ import annotations

from typing import Any

from npc_operator.api import names
from npc_operator.api.meta import ObjectMeta
from npc_operator.api.npcregion import NPCRegionSpec
from npc_operator.manifests.labels import controller_reference, gateway_labels, gateway_selector


def gateway_service_name(region: str, spec: NPCRegionSpec) -> str:
    return spec.gateway.service.name or names.gateway(region)


def gateway_endpoint(meta: ObjectMeta, spec: NPCRegionSpec) -> str:
    """Where game servers in the cluster call."""
    port = spec.gateway.service.port
    host = f"{gateway_service_name(meta.name, spec)}.{meta.namespace}.svc"
    return f"http://{host}" if port == 80 else f"http://{host}:{port}"


def build_gateway_service(meta: ObjectMeta, spec: NPCRegionSpec) -> dict[str, Any]:
    service = spec.gateway.service
    metadata: dict[str, Any] = {
        "name": gateway_service_name(meta.name, spec),
        "namespace": meta.namespace,
        "labels": gateway_labels(meta.name),
        "ownerReferences": [controller_reference(names.KIND_REGION, meta)],
    }
    if service.annotations:
        metadata["annotations"] = dict(service.annotations)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "type": service.type,
            "selector": gateway_selector(meta.name),
            "ports": [{"name": "http", "port": service.port, "targetPort": "http", "protocol": "TCP"}],
        },
    }
