"""What goes on with the machines under a tier: who brings them, who hears of their end, which go, and what stands in.

None of it is a fault while the tier is ready, and all of it is what somebody asks about when spot nodes go.
"""

from __future__ import annotations

from collections.abc import Sequence

from .. import vocabulary as v
from ..facts import Tier
from .advice import next_step
from .chain import Link, sentence

MACHINES = {
    "NodePoolsReady": "Its nodes are not brought as wanted",
    "InterruptionQueueReady": "Its queue of notices is not read as wanted",
    "NodesVisible": "Nodes are not looked at",
}
"""Conditions that say what to install or to grant, with what each means while it is False. `Ready` is independent of
them."""


def explain_capacity(tier: Tier) -> Sequence[Link]:
    """On-demand pods that stand in for spot."""
    capacity = tier.capacity
    if capacity is None or capacity.mode == "Normal":
        return ()
    says = f"Its capacity is in mode {capacity.mode}: {sentence(capacity.message)}"
    return [_link(tier, capacity.reason, capacity.since, says)]


def explain_interruption(tier: Tier) -> Sequence[Link]:
    """Pods whose nodes go, and what that cost until now."""
    told = tier.interruption
    if told is None or (told.over and not told.pods):
        return ()
    says = f"{brief_interruption(tier)}."
    if not told.over:
        says += (
            f" Until now: {told.lost} lines lost, {told.rerouted} re-routed, {told.downgraded} downgraded, "
            f"{told.below} s below target."
        )
    step = f"wait; what is done about each pod: kubectl get events -n {tier.meta.namespace} --field-selector "
    step += "involvedObject.kind=Pod"
    since = "" if told.over else told.since
    return [Link(object=f"tier {tier.meta.name}", reason="Interrupted", since=since, says=says, next=step, fine=True)]


def explain_machines(tier: Tier) -> Sequence[Link]:
    """What is missing, so that nodes are brought, or that their end is heard of sooner."""
    found = [one for one in tier.conditions.all if one.type in MACHINES and one.status == "False"]
    return [_link(tier, one.reason, one.since, f"{MACHINES[one.type]}: {sentence(one.message)}") for one in found]


def brief_interruption(tier: Tier) -> str:
    """One clause about pods whose nodes go; empty if there are none and what went is made good."""
    told = tier.interruption
    if told is None or (told.over and not told.pods):
        return ""
    if not told.pods:
        return "Pods went with their nodes, and fewer are ready than wanted"
    return f"Nodes of {told.pods} of its pods go or may go; pods that take no new lines any more: {told.unrouted}"


def brief(tier: Tier) -> str:
    """For a table: that nothing is wrong with a tier and yet not all is as usual; empty if it is."""
    capacity = tier.capacity
    stands_in = "" if capacity is None or capacity.mode == "Normal" else f"{capacity.mode}: {capacity.message}"
    return "; ".join(filter(None, (stands_in.rstrip(". "), brief_interruption(tier))))


def _link(tier: Tier, reason: str, since: str, says: str) -> Link:
    meta = tier.meta
    step = next_step(reason, namespace=meta.namespace, short=v.SHORT[v.KIND_TIER], name=meta.name, tier=meta.name)
    return Link(object=f"tier {meta.name}", reason=reason, since=since, says=says, next=step, fine=True)
