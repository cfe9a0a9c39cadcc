"""What those who take machines away write onto a Node, each in their own way, and taking it back.

- ``nth``: AWS Node Termination Handler with TAINT_NODE: its taint with the event as value, and a cordon. The node does
  not say when; AWS gives 120 s.
- ``karpenter``: the taint of its disruption and termination controllers. It says no time either.
- ``gke``: the taint of Google's node termination handler; 30 s.
- ``aks``: the condition that Azure's node problem detector sets for a Preempt event, which carries the time, and the
  cordon and taint of node auto-drain; 30 s.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Literal, get_args

from hack.cluster.bulk import Call, send_all
from hack.cluster.errors import ClusterError
from hack.cluster.kubeapi import ApiError, KubeApi

Source = Literal["nth", "karpenter", "gke", "aks"]
SOURCES: tuple[Source, ...] = get_args(Source)

NTH_TAINT = "aws-node-termination-handler/spot-itn"
KARPENTER_TAINT = "karpenter.sh/disrupted"
GKE_TAINT = "cloud.google.com/impending-node-termination"
AKS_TAINT = "remediator.kubernetes.azure.com/unschedulable"
AKS_CONDITION = "VMEventScheduled"
_TAINTS = frozenset({NTH_TAINT, KARPENTER_TAINT, GKE_TAINT, AKS_TAINT})
_TAINT_VALUE_LIMIT = 63
_TRIES = 10
_STRATEGIC = "application/strategic-merge-patch+json"
_MERGE = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Signs:
    """What a Node gets: taints, a cordon, conditions."""

    taints: tuple[Mapping[str, str], ...]
    cordon: bool = False
    conditions: tuple[Mapping[str, str], ...] = field(default=())


def signs(source: Source, *, node: str, now: datetime, deadline: datetime) -> Signs:
    """The signs of one notice, given at ``now``, that the machine goes at ``deadline``."""
    if source == "nth":
        event = f"spot-itn-{hashlib.sha256(f'{node} {deadline.isoformat()}'.encode()).hexdigest()}"
        return Signs(({"key": NTH_TAINT, "value": event[:_TAINT_VALUE_LIMIT], "effect": "NoSchedule"},), cordon=True)
    if source == "karpenter":
        return Signs(({"key": KARPENTER_TAINT, "effect": "NoSchedule"},))
    if source == "gke":
        return Signs(({"key": GKE_TAINT, "effect": "NoSchedule"},))
    event = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{node} {deadline.isoformat()}")).upper()
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {
        "type": AKS_CONDITION,
        "status": "True",
        "reason": AKS_CONDITION,
        "message": f"Preempt Scheduled: {format_datetime(deadline, usegmt=True)}. DurationInSeconds: -1. "
        f"For more information, see https://aka.ms/aks/scheduledevents EventId: {event}",
        "lastTransitionTime": stamp,
        "lastHeartbeatTime": stamp,
    }
    return Signs(({"key": AKS_TAINT, "effect": "NoSchedule"},), cordon=True, conditions=(condition,))


def give(api: KubeApi, node: str, source: Source, *, seconds: float) -> datetime:
    """Write a notice of ``seconds`` onto the node; returns when the machine is to go.

    :raises ClusterError: when there is no such node, or the API server refuses.
    """
    if seconds < 0:
        raise ClusterError(f"a notice of {seconds:g} s has passed already")
    now = datetime.now(UTC)
    deadline = datetime.fromtimestamp(now.timestamp() + seconds, UTC)
    given = signs(source, node=node, now=now, deadline=deadline)
    # The time first: who looks as soon as the taint is there finds it.
    if given.conditions:
        body = {"status": {"conditions": list(given.conditions)}}
        api.call("PATCH", f"/api/v1/nodes/{node}/status", body, _STRATEGIC)
    keys = {taint["key"] for taint in given.taints}

    def marked(spec: Mapping[str, Any]) -> dict[str, Any]:
        return _added(given, [taint for taint in spec.get("taints") or [] if taint["key"] not in keys])

    _change_spec(api, node, marked)
    return deadline


def give_all(api: KubeApi, nodes: Sequence[str], source: Source, *, seconds: float) -> datetime:
    """One wave: a notice for each of these nodes, as close together as a few connections can; returns their deadline.

    For fake nodes, whose taints nobody else writes: what others were there is replaced.

    :raises ClusterError: when there is no such node, or the API server refuses.
    """
    now = datetime.now(UTC)
    deadline = datetime.fromtimestamp(now.timestamp() + seconds, UTC)
    given = {node: signs(source, node=node, now=now, deadline=deadline) for node in nodes}
    send_all(
        api,
        (
            Call("PATCH", f"/api/v1/nodes/{node}/status", {"status": {"conditions": list(of.conditions)}}, _STRATEGIC)
            for node, of in given.items()
            if of.conditions
        ),
    )
    send_all(
        api,
        (Call("PATCH", f"/api/v1/nodes/{node}", {"spec": _added(of)}, _MERGE) for node, of in given.items()),
    )
    return deadline


def _added(given: Signs, others: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
    """What of a Node's spec a notice changes, beside these other taints."""
    return {"taints": [*others, *given.taints]} | ({"unschedulable": True} if given.cordon else {})


def withdraw(api: KubeApi, node: str) -> bool:
    """Take every notice off the node, and its cordon; False when there was none.

    :raises ClusterError: when there is no such node, or the API server refuses.
    """
    found = api.get(f"/api/v1/nodes/{node}")
    if not is_noticed(found):
        return False
    if _has_condition(found):
        gone = {"status": {"conditions": [{"$patch": "delete", "type": AKS_CONDITION}]}}
        api.call("PATCH", f"/api/v1/nodes/{node}/status", gone, _STRATEGIC)

    def clean(spec: Mapping[str, Any]) -> dict[str, Any]:
        left = [taint for taint in spec.get("taints") or [] if taint["key"] not in _TAINTS]
        return {"taints": left or None, "unschedulable": None}

    _change_spec(api, node, clean)
    return True


def is_noticed(node: Mapping[str, Any]) -> bool:
    """Whether a Node object bears anything that :func:`withdraw` takes off; taints of other kinds are its own."""
    taints = node["spec"].get("taints") or []
    return bool(
        node["spec"].get("unschedulable") or any(taint["key"] in _TAINTS for taint in taints) or _has_condition(node)
    )


def _has_condition(node: Mapping[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions") or []
    return any(condition["type"] == AKS_CONDITION for condition in conditions)


def _change_spec(api: KubeApi, node: str, change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
    """Taints are one list for all who write them, so a write holds only for the version it was made from."""
    path = f"/api/v1/nodes/{node}"
    for tries_left in reversed(range(_TRIES)):
        found = api.get(path)
        body = {"metadata": {"resourceVersion": found["metadata"]["resourceVersion"]}, "spec": change(found["spec"])}
        try:
            api.call("PATCH", path, body, _MERGE)
        except ApiError as error:
            if error.status != 409 or not tries_left:
                raise
        else:
            return
