"""What was asked about, by name or by kind and name, and the whole explanation of it."""

from __future__ import annotations

from dataclasses import dataclass

from ..facts import Adapter, Pod, Region, Tier, World
from ..rollouts import short
from .adapters import explain_adapter
from .chain import Explanation, Link, explanation
from .degraded import explain_listeners
from .operators import explain_operator
from .pods import explain_pod
from .regions import explain_region
from .tiers import explain_tier

KINDS = {
    "region": "region",
    "npcregion": "region",
    "npcregions": "region",
    "npcr": "region",
    "tier": "tier",
    "gputier": "tier",
    "gputiers": "tier",
    "gput": "tier",
    "adapter": "adapter",
    "archetypeadapter": "adapter",
    "archetypeadapters": "adapter",
    "npca": "adapter",
    "pod": "pod",
    "pods": "pod",
    "po": "pod",
}
"""What people write before the slash."""

Thing = Region | Tier | Adapter | Pod


class TargetError(Exception):
    """What was asked about is unclear or is not there. `found` says that there is too much, not too little."""

    def __init__(self, message: str, *, ambiguous: bool = False) -> None:
        super().__init__(message)
        self.ambiguous = ambiguous


@dataclass(frozen=True, slots=True)
class Target:
    """One object, found."""

    kind: str
    thing: Thing

    def __str__(self) -> str:
        return f"{self.kind} {self.thing.meta.name}"


def find_target(text: str, world: World) -> Target:
    """The one object that `text` names: `gold`, `tier/gold`, `gput/gold`; an archetype stands for its adapter.

    Raises TargetError if there is none or more than one.
    """
    prefix, slash, name = text.partition("/")
    if not slash:
        prefix, name = "", text
    elif prefix.lower() not in KINDS:
        raise TargetError(f"{prefix!r} is no kind: use region/, tier/, adapter/ or pod/", ambiguous=True)
    kind = KINDS.get(prefix.lower(), "")
    found = [target for target in _all(world) if target.thing.meta.name == name and kind in ("", target.kind)]
    if not found and kind in ("", "adapter"):
        found = [Target("adapter", one) for one in world.adapters if one.archetype == name]
    if not found:
        what = f"{kind} {name}" if kind else f"region, tier, adapter or pod called {name}"
        raise TargetError(f"there is no {what} in namespace {world.namespace}")
    if len(found) > 1:
        choices = ", ".join(f"{one.kind}/{one.thing.meta.name}" for one in found)
        raise TargetError(f"{name} may be any of {choices}: say which", ambiguous=True)
    return found[0]


def _all(world: World) -> list[Target]:
    return [
        *(Target("region", one) for one in world.regions),
        *(Target("tier", one) for one in world.tiers),
        *(Target("adapter", one) for one in world.adapters),
        *(Target("pod", one) for one in world.pods),
    ]


def explain(target: Target, world: World, now: float) -> Explanation:
    """The whole chain: what keeps statuses from being true first, then the object's own causes."""
    links = (*explain_operator(world, now), *_own(target.thing, world, now))
    serves = target.thing.ready() if isinstance(target.thing, Pod) else True
    if serves and all(link.fine for link in links):
        links = (*links, _serves(target))
    return explanation(str(target), links)


def explain_namespace(world: World, now: float) -> Explanation:
    """The chain of everything in a namespace, as `why` without a name tells it."""
    links = explain_operator(world, now)
    for region in sorted(world.regions, key=lambda one: one.meta.created):
        links = (*links, *explain_region(region, world, now))
    if not world.regions:
        says = "There is no NPCRegion here, so nothing speaks."
        step = "install one with the npc-region chart, or look elsewhere: kubectl get npcr -A"
        name = f"namespace {world.namespace}"
        links = (*links, Link(object=name, reason="NoRegion", since="", says=says, next=step))
    elif all(link.fine for link in links):
        links = (*links, *(_serves(Target("region", one)) for one in world.regions))
    return explanation(f"namespace {world.namespace}", links)


def _own(thing: Thing, world: World, now: float) -> tuple[Link, ...]:
    match thing:
        case Region():
            return explain_region(thing, world, now)
        case Tier():
            return (*explain_tier(thing, world, now), *explain_listeners(thing, world))
        case Adapter():
            return explain_adapter(thing, world, now)
        case Pod():
            return explain_pod(thing, world, now)


def _serves(target: Target) -> Link:
    """That nothing is wrong, with what is known."""
    says: str
    since: str
    match target.thing:
        case Region() as region:
            counts = f"{region.ready_tiers} tiers, {region.gateway_ready} gateways, {region.archetypes} archetypes"
            says, since = f"It serves: {counts}.", _ready_since(region)
        case Tier() as tier:
            says = f"It serves: {tier.ready} of {tier.wanted} wanted pods are ready."
            since = _ready_since(tier)
        case Adapter() as adapter:
            tiers = ", ".join(f"{one.tier} {short(one.stable)} ({one.resident}/{one.wanted})" for one in adapter.states)
            says = f"It serves: {tiers or 'nothing is known of its tiers'}."
            since = _ready_since(adapter)
        case Pod() as pod:
            says = f"It serves on node {pod.node}."
            condition = pod.condition("Ready")
            since = condition.since if condition is not None else ""
    return Link(object=str(target), reason="Serving", since=since, says=says, fine=True)


def _ready_since(thing: Region | Tier | Adapter) -> str:
    condition = thing.conditions.find("Ready")
    return condition.since if condition is not None else ""
