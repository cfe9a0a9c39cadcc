"""Labels and owner references that every child carries: the common Kubernetes ones, and ours, which selectors and
NetworkPolicies rely on.

Selectors use as few labels as identify the pods, because a Deployment's selector can never change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from npc_operator.api import names
from npc_operator.api.meta import ObjectMeta

APP_NAME = {
    names.COMPONENT_ENGINE: "npc-engine",
    names.COMPONENT_GATEWAY: "npc-gateway",
    names.COMPONENT_GATE: "npc-gate",
    names.COMPONENT_SECRET: "npc-internal",
    names.COMPONENT_HEADROOM: "npc-headroom",
}


def common_labels(*, component: str, instance: str) -> dict[str, str]:
    """The recommended labels, for every child."""
    return {
        names.LABEL_NAME: APP_NAME[component],
        names.LABEL_INSTANCE: instance,
        names.LABEL_COMPONENT: component,
        names.LABEL_PART_OF: names.PART_OF,
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
    }


def engine_labels(*, tier: str, quality: str, slice_: str | None = None) -> dict[str, str]:
    """Labels of a tier's children; with a slice those of its Deployment and pods."""
    labels = {
        **common_labels(component=names.COMPONENT_ENGINE, instance=tier),
        names.LABEL_TIER: tier,
        names.LABEL_QUALITY: quality,
    }
    if slice_ is not None:
        labels[names.LABEL_SLICE] = slice_
    return labels


def engine_selector(*, tier: str, slice_: str | None = None) -> dict[str, str]:
    """What picks a tier's pods, of one slice or of both."""
    selector = {names.LABEL_COMPONENT: names.COMPONENT_ENGINE, names.LABEL_TIER: tier}
    if slice_ is not None:
        selector[names.LABEL_SLICE] = slice_
    return selector


def gateway_labels(region: str) -> dict[str, str]:
    return {**common_labels(component=names.COMPONENT_GATEWAY, instance=region), names.LABEL_REGION: region}


def gateway_selector(region: str) -> dict[str, str]:
    return {names.LABEL_COMPONENT: names.COMPONENT_GATEWAY, names.LABEL_REGION: region}


def selector_text(selector: Mapping[str, str]) -> str:
    """A label selector as kubectl and the scale subresource write it."""
    return ",".join(f"{key}={value}" for key, value in sorted(selector.items()))


def controller_reference(kind: str, meta: ObjectMeta) -> dict[str, Any]:
    """The one owner that a child belongs to and goes away with."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": kind,
        "name": meta.name,
        "uid": meta.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def owner_reference(kind: str, meta: ObjectMeta) -> dict[str, Any]:
    """One of several owners: the child goes when the last of them is gone."""
    return {"apiVersion": names.API_VERSION, "kind": kind, "name": meta.name, "uid": meta.uid}
