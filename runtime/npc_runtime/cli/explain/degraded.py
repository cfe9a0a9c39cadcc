"""Why players hear less than a voice's own adapter: what answers instead, and the tiers that should and do not.

At which level a voice speaks, and why, the operator says in its status; here the tiers on the way down to that level
are looked at as they are now, each with its own causes.
"""

from __future__ import annotations

from collections.abc import Iterator

from .. import vocabulary as v
from ..facts import Adapter, Degradation, Tier, World
from .advice import next_step
from .chain import Link, sentence
from .tiers import explain_tier

REASON = "Degraded"
LEVELS = {
    "Tier": "its adapter on another tier",
    "BaseModel": "the base model with its persona's prompt",
    "Scripted": "scripted lines",
}
"""What answers, best first."""
NAMED = 5
"""Voices that a tier names; the rest are counted."""


def explain_degraded(adapter: Adapter, world: World, now: float) -> tuple[Link, ...]:
    """Each tier on which less than the adapter answers, followed by what is wrong on the way there."""
    links: list[Link] = []
    for one in adapter.degraded:
        below = [link for tier in _way_down(one, world) for link in _explain_rung(tier, world, now)]
        links += [_voice_link(adapter, one, world, below), *below]
    return tuple(links)


def explain_listeners(tier: Tier, world: World) -> tuple[Link, ...]:
    """What the players who ask on a tier notice of its state: a tier may be ready, and too slow for its objectives."""
    found = sorted(
        (
            (one, adapter.meta.name)
            for adapter in world.adapters
            for one in adapter.degraded
            if one.tier == tier.meta.name
        ),
        key=lambda each: (-_rank(each[0].level), each[1]),
    )
    if not found:
        return ()
    names = ", ".join(f"{name} ({one.level})" for one, name in found[:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return (
        Link(
            object=f"tier {tier.meta.name}",
            reason=REASON,
            since=min(one.since for one, _ in found),
            says=f"Players who ask on it hear less than the adapters here, of these voices: {names}{more}.",
            next=f"kubectl npc why adapter/{found[0][1]} -n {world.namespace}",
        ),
    )


def _rank(level: str) -> int:
    """How far down; a newer operator's level is as bad as the worst."""
    return list(LEVELS).index(level) if level in LEVELS else len(LEVELS)


def _voice_link(adapter: Adapter, one: Degradation, world: World, below: list[Link]) -> Link:
    told = one.message or f"answered by {LEVELS.get(one.level, one.level)}"
    return Link(
        object=f"adapter {adapter.meta.name}",
        reason=REASON,
        since=one.since,
        says=f"Asked on tier {one.tier} it speaks at level {one.level}: {sentence(told)}",
        next=_advise(adapter, one, world, below),
    )


def _advise(adapter: Adapter, one: Degradation, world: World, below: list[Link]) -> str:
    """The first that helps: a variant, the tier, the pods that lack the adapter, more of them."""
    namespace, name = adapter.meta.namespace, adapter.meta.name
    if world.tier(one.tier) is None:
        return next_step("UnknownTier", namespace=namespace)
    if all(variant.tier != one.tier for variant in adapter.variants):
        return (
            f"give it a variant for tier {one.tier}, or let its NPCs ask on another tier: "
            f"kubectl edit npca {name} -n {namespace}"
        )
    if below:
        watch = f"kubectl npc status -n {namespace} --watch"
        return f"mend what is said of {below[0].object}, and the voice comes back by itself: {watch}"
    state = adapter.state(one.tier)
    if state is None or not state.stable or state.resident < state.wanted:
        pods = f"kubectl npc matrix --archetype {adapter.archetype} --tier {one.tier} -n {namespace}"
        return f"see which pods have it: {pods}"
    return (
        f"give tier {one.tier} more pods, or its lines more time (spec.objectives): "
        f"kubectl edit gput {one.tier} -n {namespace}"
    )


def _way_down(one: Degradation, world: World) -> Iterator[str]:
    """The tiers that would have been better: the one that was asked, and, below the level Tier, its fallbacks."""
    passed: set[str] = set()
    name = one.tier
    while name and name not in passed:
        yield name
        passed.add(name)
        found = world.tier(name)
        name = found.fallback if found is not None and one.level != "Tier" else ""


def _explain_rung(name: str, world: World, now: float) -> tuple[Link, ...]:
    tier = world.tier(name)
    if tier is None:
        return ()  # the voice's own link says so, or the tier that names it as its fallback
    links, condition = explain_tier(tier, world, now), tier.conditions.find(v.READY)
    if condition is None or condition.reason != "ScaledToZero":
        return links
    step = f"raise spec.replicas or spec.minReplicas: kubectl edit gput {name} -n {world.namespace}"
    says = f"It is scaled to 0: {sentence(condition.message)}"
    return (Link(object=f"tier {name}", reason=condition.reason, since=condition.since, says=says, next=step), *links)
