"""pause and resume: spec.suspend of a region, a tier or an adapter, and what else does not move because of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .. import vocabulary as v
from ..facts import Adapter, Pod, Region, Tier
from ..plain import Json
from .plan import Change, Plan, with_kind

_PROTECTED = "a quarantine still holds, and a bad candidate is taken back all the same"
_PAUSED = {
    v.KIND_REGION: f"its gateways go on with the routes they have, and no rollout moves on; {_PROTECTED}",
    v.KIND_TIER: f"its pods go on serving; none is made, replaced or scaled, no rollout moves on; {_PROTECTED}",
    v.KIND_ADAPTER: f"what is resident goes on serving, a rollout stays at its step; {_PROTECTED}",
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What decides besides an adapter whether it moves; None and nothing where the caller may not look."""

    region: Region | None = None
    tiers: tuple[Tier, ...] = ()
    unread: tuple[str, ...] = ()
    """What could not be looked at, as sentences."""

    @property
    def banned(self) -> tuple[str, ...]:
        """Digests that the region quarantines."""
        return self.region.quarantined if self.region is not None else ()


NOTHING_KNOWN = Around()


def find_pauses(adapter: Adapter, around: Around) -> Mapping[str, tuple[str, ...]]:
    """Tier -> what is paused and holds it there, as targets of `resume`; only tiers that are held."""
    everywhere = [f"adapter/{adapter.meta.name}"] if adapter.suspend else []
    region = around.region
    everywhere += [f"region/{region.meta.name}"] if region is not None and region.suspend else []
    paused = {one.meta.name for one in around.tiers if one.suspend}
    held = {one.tier: (*everywhere, *([f"tier/{one.tier}"] if one.tier in paused else ())) for one in adapter.variants}
    return {tier: by for tier, by in held.items() if by}


def tell_pauses(tiers: Iterable[str], pauses: Mapping[str, tuple[str, ...]], namespace: str) -> Iterable[str]:
    """That nothing moves on these tiers before somebody resumes what is paused."""
    held = [tier for tier in tiers if tier in pauses]
    if held:
        by = dict.fromkeys(one for tier in held for one in pauses[tier])
        commands = "; ".join(f"kubectl npc resume {one} -n {namespace}" for one in by)
        yield f"{', '.join(held)}: paused by {', '.join(by)}, so nothing moves before: {commands}"
