"""pause and resume: spec.suspend of a region, a tier or an adapter."""

from __future__ import annotations

from .. import vocabulary as v
from ..facts import Adapter, Pod, Region, Tier
from ..plain import Json
from .plan import Change, Plan, with_kind

_PAUSED = {
    v.KIND_REGION: "its gateways go on with the routes they have; nothing of the region's routes and gateways changes",
    v.KIND_TIER: "its pods go on serving; none is made, replaced or scaled",
    v.KIND_ADAPTER: "what is resident goes on serving, a rollout stays at its step; a quarantine still holds",
}
KINDS = {"region": v.KIND_REGION, "tier": v.KIND_TIER, "adapter": v.KIND_ADAPTER}
"""Kinds that can be paused, as targets name them."""


def plan_suspension(raw: Json, kind: str, thing: Region | Tier | Adapter | Pod, *, suspend: bool) -> Plan:
    """Set spec.suspend. Taking back what was set leaves nothing behind but false, the default."""
    target = with_kind(raw, kind)
    before = not isinstance(thing, Pod) and thing.suspend
    if before == suspend:
        return Plan(target=target, notes=(f"spec.suspend is {'true' if suspend else 'false'} already",))
    note = _PAUSED[kind] if suspend else "the operator goes on from what it finds"
    return Plan(
        target=target,
        spec={"suspend": suspend},
        changes=(Change(path=("spec", "suspend"), before=before, after=suspend),),
        notes=(note,),
    )
