"""Who may talk to whom: engines only to be asked by their region's gateways, admin ports only by the operator (and
agents by gateways too).

The engine's own key guards /v1 alone; /metrics, /tokenize and others of vLLM stay open, so the network has to keep
strangers out. One policy guards all engine pods of a namespace and belongs to every region and tier there: it is
there before the first pod, whether a region names its tier or not, and until the last owner is gone, because the pods
of a tier that was deleted drain for a while.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from npc_operator.api import names
from npc_operator.api.meta import ObjectMeta
from npc_operator.manifests.labels import common_labels, controller_reference, gateway_labels, gateway_selector
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


def _admin_rule(port: int, operator: OperatorPeer | None) -> dict[str, Any]:
    """An operator that runs outside the cluster has no pod to name: then TLS and the token alone guard the port."""
    rule: dict[str, Any] = {"ports": [_port(port)]}
    if operator is not None:
        rule["from"] = [_from_operator(operator)]
    return rule


def build_engine_policy(
    namespace: str, operator: OperatorPeer | None, *, owners: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Gateways and gates of the namespace may reach every port: those of engines differ, and both have the keys."""
    gateways = {"podSelector": _of_component(names.COMPONENT_GATEWAY, having=names.LABEL_REGION)}
    gates = {"podSelector": _of_component(names.COMPONENT_GATE, having=names.LABEL_ADAPTER)}
    return _policy(
        {
            "name": names.ENGINE_POLICY,
            "namespace": namespace,
            "labels": common_labels(component=names.COMPONENT_ENGINE, instance=names.ENGINE_POLICY),
            "ownerReferences": [dict(owner) for owner in owners],
        },
        selector=_of_component(names.COMPONENT_ENGINE, having=names.LABEL_TIER),
        ingress=[
            {"from": [gateways, gates]},
            _admin_rule(AGENT_PORT, operator),
            {"ports": [_port(AGENT_HEALTH_PORT)]},
        ],
    )


def _of_component(component: str, *, having: str) -> dict[str, Any]:
    """Our pods of a component; `having` is a label that only ours have, since others name components like we do."""
    return {
        "matchLabels": {names.LABEL_COMPONENT: component},
        "matchExpressions": [{"key": having, "operator": "Exists"}],
    }


def build_gateway_policy(meta: ObjectMeta, operator: OperatorPeer | None) -> dict[str, Any]:
    return _policy(
        {
            "name": names.gateway(meta.name),
            "namespace": meta.namespace,
            "labels": gateway_labels(meta.name),
            "ownerReferences": [controller_reference(names.KIND_REGION, meta)],
        },
        selector={"matchLabels": gateway_selector(meta.name)},
        ingress=[
            {"ports": [_port(GATEWAY_PORT), _port(GATEWAY_HEALTH_PORT)]},
            _admin_rule(GATEWAY_ADMIN_PORT, operator),
        ],
    )


def _port(port: int) -> dict[str, Any]:
    return {"protocol": "TCP", "port": port}


def _policy(metadata: dict[str, Any], *, selector: dict[str, Any], ingress: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": {"podSelector": selector, "policyTypes": ["Ingress"], "ingress": ingress},
    }
