"""Kubernetes itself and its cluster autoscaler: cordons, nodes that are not heard of, kubelets that shut down, and pods
that are being deleted or will be.
"""

from __future__ import annotations

from npc_operator.domain.interruption.notices import Ignored, Kind, Notice, Parsed, Source, name_of
from npc_operator.domain.interruption.sources.reading import (
    NodeName,
    conditions_of,
    mapping,
    name_of_node,
    rfc3339,
    taints_of,
)

TAINT_AUTOSCALER = "ToBeDeletedByClusterAutoscaler"
"""Set right before the cluster autoscaler drains; its value is when, in Unix seconds."""
TAINT_CORDON = "node.kubernetes.io/unschedulable"
TAINTS_LOST = frozenset(("node.kubernetes.io/unreachable", "node.kubernetes.io/out-of-service"))
SHUTTING_DOWN = "node is shutting down"
"""In the message of Ready while a kubelet shuts its node down in good order (pkg/kubelet/nodestatus)."""
CONDITION_DISRUPTION = "DisruptionTarget"
_SOURCE = Source.KUBERNETES
_GRACE_AT_MOST = 86_400.0


def parse_node(node: object, *, seen: float) -> Parsed:
    """A Node object."""
    name = name_of_node(node)
    if name is None:
        return Ignored(_SOURCE, "NotANode", malformed=True)
    taints = {taint.key for taint in taints_of(node)}
    ready = next((condition for condition in conditions_of(node) if condition.type == "Ready"), None)
    if ready is not None and ready.status == "False" and SHUTTING_DOWN in ready.message:
        return _notice(name, Kind.TERMINATION, seen)
    if mapping(node, "metadata").get("deletionTimestamp") or TAINT_AUTOSCALER in taints:
        return _notice(name, Kind.DRAIN, seen)
    if taints & TAINTS_LOST or (ready is not None and ready.status == "Unknown"):
        return _notice(name, Kind.NODE_LOST, seen)
    if mapping(node, "spec").get("unschedulable") is True or TAINT_CORDON in taints:
        return _notice(name, Kind.CORDON, seen)
    return Ignored(_SOURCE, "Nothing")


def parse_pod(pod: object, *, seen: float) -> Parsed:
    """A Pod object: one that is being deleted, or that somebody said will be."""
    uid = name_of(mapping(pod, "metadata").get("uid"))
    if uid is None:
        return Ignored(_SOURCE, "NotAPod", malformed=True)
    ends = rfc3339(mapping(pod, "metadata").get("deletionTimestamp"))
    doomed = any(
        condition.type == CONDITION_DISRUPTION and condition.status == "True" for condition in conditions_of(pod)
    )
    if ends is None and not doomed:
        return Ignored(_SOURCE, "Nothing")
    return Notice(
        source=_SOURCE,
        kind=Kind.TERMINATION,
        node=name_of(mapping(pod, "spec").get("nodeName")),
        instance=None,
        pod_uid=uid,
        seen=seen,
        # The API server writes the end of the grace period there.
        deadline=None if ends is None else min(ends, seen + _GRACE_AT_MOST),
    )


def _notice(name: NodeName, kind: Kind, seen: float) -> Notice:
    return Notice(
        source=_SOURCE,
        kind=kind,
        node=name.node,
        instance=name.instance,
        pod_uid=None,
        seen=seen,
        deadline=None,
    )
