"""Why a region is not ready: what its status says, then its gateways, its tiers and its voices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .. import vocabulary as v
from ..facts import Region, World
from .adapters import explain_adapter
from .advice import next_step
from .chain import Link, gather, sentence
from .operators import explain_unobserved
from .pods import explain_pod
from .tiers import explain_tier

VOICES = 5
"""Voices that are explained below a region; the rest are counted, `why adapter/NAME` tells of each."""


@dataclass(frozen=True, slots=True)
class RegionCase:
    """One region among everything else, at one moment."""

    region: Region
    world: World
    now: float

    @property
    def thing(self) -> str:
        return f"region {self.region.meta.name}"

    def holds_namespace(self) -> bool:
        holder = self.world.region()
        return holder is None or holder.meta.name == self.region.meta.name


def find_unobserved(case: RegionCase) -> Sequence[Link]:
    return explain_unobserved(case.thing, v.KIND_REGION, case.region.meta, case.region.conditions)


def find_conditions(case: RegionCase) -> Sequence[Link]:
    """Stalled first, because a person is needed; Ready beside it only where it says something else."""
    links = []
    seen: set[str] = set()
    for kind, bad, lead in ((v.STALLED, "True", "A person is needed"), (v.READY, "", "It is not ready")):
        condition = case.region.conditions.find(kind)
        if condition is None or condition.reason in seen:
            continue
        if condition.status == "True" if not bad else condition.status != bad:
            continue
        seen.add(condition.reason)
        meta = case.region.meta
        step = next_step(
            condition.reason,
            namespace=meta.namespace,
            short=v.SHORT[v.KIND_REGION],
            name=meta.name,
            tier=_unready_tier(case),
        )
        says = f"{lead}: {sentence(condition.message.removeprefix('not ready: '))}"
        links.append(Link(object=case.thing, reason=condition.reason, since=condition.since, says=says, next=step))
    return links


def _unready_tier(case: RegionCase) -> str:
    found = [(name, case.world.tier(name)) for name in case.region.tiers]
    return next((name for name, tier in found if tier is None or tier.conditions.ready() != "True"), "")


def find_gateways(case: RegionCase) -> Sequence[Link]:
    links: list[Link] = []
    for pod in sorted(case.world.gateways_of(case.region.meta.name), key=lambda pod: pod.meta.name):
        links += explain_pod(pod, case.world, case.now)
    return links


def find_tiers(case: RegionCase) -> Sequence[Link]:
    if not case.holds_namespace():
        return ()
    links: list[Link] = []
    for name in case.region.tiers:
        tier = case.world.tier(name)
        if tier is None:
            says = "The region names it, and there is no GpuTier of that name."
            step = next_step("UnknownTier", namespace=case.region.meta.namespace)
            links.append(Link(object=f"tier {name}", reason="UnknownTier", since="", says=says, next=step))
        else:
            links += explain_tier(tier, case.world, case.now)
    return links


def find_voices(case: RegionCase) -> Sequence[Link]:
    if not case.holds_namespace():
        return ()
    faulty: list[tuple[Link, ...]] = []
    moving: list[tuple[Link, ...]] = []
    for adapter in sorted(case.world.adapters, key=lambda one: one.meta.name):
        found = explain_adapter(adapter, case.world, case.now)
        if found:
            (moving if all(link.fine for link in found) else faulty).append(found)
    # Rollouts that go on by themselves are told where there is room: `status` lists them all.
    links = [link for found in (*faulty, *moving)[:VOICES] for link in found]
    if len(faulty) > VOICES:
        says = f"{len(faulty) - VOICES} more voices do not serve what is wanted of them."
        step = f"kubectl npc status -n {case.region.meta.namespace}"
        links.append(Link(object=case.thing, reason="MoreVoices", since="", says=says, next=step))
    return links


RULES = (find_unobserved, find_conditions, find_gateways, find_tiers, find_voices)


def explain_region(region: Region, world: World, now: float) -> tuple[Link, ...]:
    """The chain of a region; empty if everything of it serves."""
    return gather(RULES, RegionCase(region, world, now))
