"""What a tier is told of the interruptions among its pods: all that the decision about its replicas needs of them.

Made anew at every look (`reconcilers.interruptions`) and never kept beyond it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Literal

from npc_operator.api import names
from npc_operator.api.interruption import InterruptionStatus
from npc_operator.domain.facts import Pod
from npc_operator.domain.interruption.nodebook import NodeBook
from npc_operator.domain.interruption.notices import Kind
from npc_operator.domain.interruption.record import Record, read_record
from npc_operator.domain.interruption.wishes import Steps

SliceName = str
"""`api.names.SLICE_ON_DEMAND` or `api.names.SLICE_SPOT`."""
Stage = Literal["Noticed", "Unrouted", "Drained", "Evicted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainingPod:
    """One engine pod of which it is said that it, or its node, goes away. Times are Unix seconds."""

    uid: str
    pod: str
    node: str
    slice: SliceName
    kind: Kind
    since: float
    deadline: float | None
    stage: Stage
    replaced: bool
    """One more pod is wanted in its place: it counts in `TierInterruptions.replacing`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierInterruptions:
    """The interruptions of one tier."""

    recent: tuple[float, ...] = ()
    """When each distinct node with a spot pod of the tier began to go, at least back to `storm.windowSeconds` ago;
    Unix seconds, oldest first."""
    struck: int = 0
    """Spot pods that are still on those nodes, whatever becomes of them: a node may have several."""
    replacing: Mapping[SliceName, int] = field(default_factory=dict)
    """Pods by slice that are there beyond the wanted number, because one that is still there (and not being deleted)
    goes away: the Deployment still counts it. Gone as soon as the old pod is being deleted, or stays after all."""
    leaving: frozenset[str] = frozenset()
    """Uids of the pods that `replacing` counts."""
    unrouted: frozenset[str] = frozenset()
    """Uids of the pods that no new line may go to."""
    covering: frozenset[str] = frozenset()
    """Names of the pods whose adapters must become resident on others."""
    draining: tuple[DrainingPod, ...] = ()
    """Every pod that something is said of, by name."""
    status: InterruptionStatus = field(default_factory=InterruptionStatus)
    """For `GpuTierStatus.interruptions`, as it is."""


def is_unrouted(pod: Pod, told: TierInterruptions | None) -> bool:
    """Whether no new line may go to a pod. As long as this leader has not looked at its tier, what the last one wrote
    down counts: a new leader sends no line to a machine that goes."""
    if told is not None:
        return pod.uid in told.unrouted
    record = read_record(pod.interruption)
    return record is not None and record.unrouted is not None


def unrouted_pods(told: TierInterruptions | None, tier: str, pods: Iterable[Pod]) -> frozenset[str]:
    """Uids of the pods of a tier that no new line may go to; `pods`: those of its namespace."""
    if told is not None:
        return told.unrouted
    return frozenset(pod.uid for pod in pods if pod.tier == tier and is_unrouted(pod, told))


def covering_pods(told: TierInterruptions | None) -> frozenset[str]:
    """Names of the pods whose adapters must become resident on others."""
    return frozenset() if told is None else told.covering


def build_view(
    pods: Mapping[str, Pod],
    steps: Mapping[str, Steps],
    *,
    nodes: NodeBook,
    status: InterruptionStatus,
    acts: bool,
) -> TierInterruptions:
    """What a tier is told of its pods, by uid, and of what is wished for each. `acts`: pods may be made and ended."""
    leaving = {uid for uid, pod in pods.items() if acts and steps[uid].replacement == "Now" and not pod.deleting}
    replacing: dict[str, int] = {}
    for uid in leaving:
        replacing[pods[uid].slice] = replacing.get(pods[uid].slice, 0) + 1
    return TierInterruptions(
        recent=nodes.times(),
        struck=sum(pod.slice == names.SLICE_SPOT and pod.node in nodes.at for pod in pods.values()),
        replacing=replacing,
        leaving=frozenset(leaving),
        unrouted=frozenset(uid for uid in pods if steps[uid].unroute),
        covering=frozenset(pods[uid].name for uid in pods if steps[uid].cover),
        draining=_describe(pods, steps, leaving),
        status=status,
    )


def _describe(pods: Mapping[str, Pod], steps: Mapping[str, Steps], leaving: Set[str]) -> tuple[DrainingPod, ...]:
    found = []
    for uid, pod in pods.items():
        record = steps[uid].record
        if record is not None:
            found.append(
                DrainingPod(
                    uid=uid,
                    pod=pod.name,
                    node=pod.node,
                    slice=pod.slice,
                    kind=record.kind,
                    since=record.since,
                    deadline=record.deadline,
                    stage=_stage(record),
                    replaced=uid in leaving,
                )
            )
    return tuple(sorted(found, key=lambda one: one.pod))


def _stage(record: Record) -> Stage:
    if record.evicted is not None:
        return "Evicted"
    if record.drained is not None:
        return "Drained"
    return "Noticed" if record.unrouted is None else "Unrouted"
