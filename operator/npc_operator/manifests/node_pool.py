"""The Karpenter NodePool of one slice of a tier.

It lies in no namespace, so it cannot have an owner: labels say whose it is, and the tier's finalizer removes it. The
node class is the user's, referred to and never written. Nodes of the on-demand slice are never consolidated while pods
run there: moving the floor's pods to save money would break the floor for as long as an engine starts.
"""

from __future__ import annotations

from typing import Any

from npc_operator.api import names
from npc_operator.api.gputier import GpuTierSpec
from npc_operator.api.meta import ObjectMeta
from npc_operator.api.nodepools import DisruptionBudget, Karpenter, NodeRequirement
from npc_operator.manifests.labels import engine_labels

API_VERSION = "karpenter.sh/v1"
KIND = "NodePool"
CAPACITY_TYPE = "karpenter.sh/capacity-type"
"""Karpenter's own label, which it sets on every node and honours in every requirement."""
SPOT, ON_DEMAND = "spot", "on-demand"
DEFAULT_BUDGET = DisruptionBudget()
KEEP_ON_DEMAND = {"nodes": "0", "reasons": ["Underutilized"]}


def pool_selector(namespace: str, tier: str) -> str:
    """What finds the NodePools of a tier, those of an earlier tier of the same name included."""
    return ",".join(
        f"{key}={value}"
        for key, value in (
            (names.LABEL_MANAGED_BY, names.MANAGED_BY),
            (names.LABEL_NAMESPACE, namespace),
            (names.LABEL_TIER, tier),
        )
    )


def build_node_pool(meta: ObjectMeta, spec: GpuTierSpec, wanted: Karpenter, slice_: str) -> dict[str, Any]:
    """The NodePool as it is applied; what the user left to Karpenter is left out."""
    ours = _whose(meta, spec, slice_)
    node: dict[str, Any] = {
        "nodeClassRef": wanted.node_class_ref.model_dump(),
        "requirements": _requirements(spec, wanted, slice_),
        "expireAfter": wanted.expire_after,
    }
    if wanted.taints:
        node["taints"] = [taint.model_dump(exclude_defaults=True) | {"effect": taint.effect} for taint in wanted.taints]
    if wanted.termination_grace_period is not None:
        node["terminationGracePeriod"] = wanted.termination_grace_period
    pool: dict[str, Any] = {
        "disruption": {
            "consolidationPolicy": wanted.disruption.consolidation_policy,
            "consolidateAfter": wanted.disruption.consolidate_after,
            "budgets": _budgets(wanted, slice_),
        },
        "template": {"metadata": {"labels": {**wanted.labels, **_node_labels(meta, spec, slice_)}}, "spec": node},
    }
    if wanted.limits:
        pool["limits"] = dict(wanted.limits)
    if wanted.weight is not None:
        pool["weight"] = wanted.weight
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": names.node_pool(meta.namespace, meta.name, slice_), "labels": ours},
        "spec": pool,
    }


def _whose(meta: ObjectMeta, spec: GpuTierSpec, slice_: str) -> dict[str, str]:
    return {
        **engine_labels(tier=meta.name, quality=spec.quality.lower(), slice_=slice_),
        names.LABEL_NAMESPACE: meta.namespace,
        names.LABEL_TIER_UID: meta.uid,
    }


def _node_labels(meta: ObjectMeta, spec: GpuTierSpec, slice_: str) -> dict[str, str]:
    """On the nodes: whose they are, and the capacity type in the user's words where those are not Karpenter's."""
    labels = {names.LABEL_NAMESPACE: meta.namespace, names.LABEL_TIER: meta.name, names.LABEL_SLICE: slice_}
    label = spec.capacity_type_label.label()
    if label.key != CAPACITY_TYPE:
        value = label.spot_value if slice_ == names.SLICE_SPOT else label.on_demand_value
        if value is not None:
            labels[label.key] = value
    return labels


def _requirements(spec: GpuTierSpec, wanted: Karpenter, slice_: str) -> list[dict[str, Any]]:
    """The capacity type first, then the user's, then every label that the tier's pods select nodes by and that the user
    did not speak of: a node without it would never be used."""
    kind = SPOT if slice_ == names.SLICE_SPOT else ON_DEMAND
    spoken = {one.key for one in wanted.requirements} | set(wanted.labels)
    return [
        {"key": CAPACITY_TYPE, "operator": "In", "values": [kind]},
        *(_requirement(one) for one in wanted.requirements),
        *(
            {"key": key, "operator": "In", "values": [value]}
            for key, value in sorted(spec.scheduling.node_selector.items())
            if key not in spoken
        ),
    ]


def _requirement(one: NodeRequirement) -> dict[str, Any]:
    built: dict[str, Any] = {"key": one.key, "operator": one.operator}
    if one.values:
        built["values"] = list(one.values)
    if one.min_values is not None:
        built["minValues"] = one.min_values
    return built


def _budgets(wanted: Karpenter, slice_: str) -> list[dict[str, Any]]:
    budgets = [_budget(one) for one in wanted.disruption.budgets or (DEFAULT_BUDGET,)]
    return [*budgets, KEEP_ON_DEMAND] if slice_ == names.SLICE_ON_DEMAND else budgets


def _budget(one: DisruptionBudget) -> dict[str, Any]:
    built: dict[str, Any] = {"nodes": one.nodes}
    if one.schedule is not None and one.duration is not None:
        built |= {"schedule": one.schedule, "duration": one.duration}
    if one.reasons:
        built["reasons"] = list(one.reasons)
    return built
