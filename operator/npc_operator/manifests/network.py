"""Who may talk to whom: engines only to be asked by their region's gateways, admin ports only by the operator (and
agents by gateways too).

The engine's own key guards /v1 alone; /metrics, /tokenize and others of vLLM stay open, so the network has to keep
strangers out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from npc_operator.api import names
from npc_operator.api.meta import ObjectMeta
from npc_operator.manifests.labels import controller_reference, engine_selector, gateway_labels, gateway_selector
from npc_runtime.wire import AGENT_HEALTH_PORT, AGENT_PORT, GATEWAY_ADMIN_PORT, GATEWAY_HEALTH_PORT, GATEWAY_PORT


@dataclass(frozen=True, slots=True)
class OperatorPeer:
    """How NetworkPolicies recognise the operator's pods."""

    namespace: str
    labels: Mapping[str, str]


def _from_operator(operator: OperatorPeer) -> dict[str, Any]:
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": operator.namespace}},
        "podSelector": {"matchLabels": dict(operator.labels)},
    }


def _admin_rule(port: int, operator: OperatorPeer | None, peers: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """An operator that runs outside the cluster has no pod to name: then TLS and the token alone guard the port."""
    rule: dict[str, Any] = {"ports": [_port(port)]}
    if operator is not None:
        rule["from"] = [_from_operator(operator), *peers]
    return rule


def engine_policy_name(region: str, tier: str) -> str:
    return f"{region}-{tier}-engine"


def build_engine_policy(
    meta: ObjectMeta, engine_ports: Mapping[str, int], operator: OperatorPeer | None
) -> list[dict[str, Any]]:
    """One policy per tier of the region (their engine ports may differ), named after region and tier."""
    gateways = {"podSelector": {"matchLabels": gateway_selector(meta.name)}}
    return [
        _policy(
            meta,
            name=engine_policy_name(meta.name, tier),
            selector=engine_selector(tier=tier),
            ingress=[
                {"from": [gateways], "ports": [_port(port)]},
                _admin_rule(AGENT_PORT, operator, (gateways,)),
                {"ports": [_port(AGENT_HEALTH_PORT)]},
            ],
        )
        for tier, port in sorted(engine_ports.items())
    ]


def build_gateway_policy(meta: ObjectMeta, operator: OperatorPeer | None) -> dict[str, Any]:
    return _policy(
        meta,
        name=names.gateway(meta.name),
        selector=gateway_selector(meta.name),
        ingress=[
            {"ports": [_port(GATEWAY_PORT), _port(GATEWAY_HEALTH_PORT)]},
            _admin_rule(GATEWAY_ADMIN_PORT, operator),
        ],
    )


def _port(port: int) -> dict[str, Any]:
    return {"protocol": "TCP", "port": port}


def _policy(meta: ObjectMeta, *, name: str, selector: dict[str, str], ingress: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": name,
            "namespace": meta.namespace,
            "labels": gateway_labels(meta.name),
            "ownerReferences": [controller_reference(names.KIND_REGION, meta)],
        },
        "spec": {"podSelector": {"matchLabels": selector}, "policyTypes": ["Ingress"], "ingress": ingress},
    }
