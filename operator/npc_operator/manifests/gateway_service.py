"""How game servers reach a region's gateway."""

from __future__ import annotations

from typing import Any

from npc_operator.api import names
from npc_operator.api.meta import ObjectMeta
from npc_operator.api.npcregion import NPCRegionSpec
from npc_operator.manifests.gateway_deployment import data_protocol
from npc_operator.manifests.labels import controller_reference, gateway_labels, gateway_selector

USUAL_PORTS = {"http": 80, "https": 443}


def gateway_service_name(region: str, spec: NPCRegionSpec) -> str:
    return spec.gateway.service.name or names.gateway(region)


def gateway_endpoint(meta: ObjectMeta, spec: NPCRegionSpec) -> str:
    """Where game servers in the cluster call."""
    port, scheme = spec.gateway.service.port, data_protocol(spec)
    host = f"{gateway_service_name(meta.name, spec)}.{meta.namespace}.svc"
    return f"{scheme}://{host}" if port == USUAL_PORTS[scheme] else f"{scheme}://{host}:{port}"


def build_gateway_service(meta: ObjectMeta, spec: NPCRegionSpec) -> dict[str, Any]:
    service, protocol = spec.gateway.service, data_protocol(spec)
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
            "ports": [
                {
                    "name": protocol,
                    "port": service.port,
                    "targetPort": protocol,
                    "protocol": "TCP",
                    # Load balancers and meshes would otherwise guess it by the port's number.
                    "appProtocol": protocol,
                }
            ],
        },
    }
