"""How many replicas both slices of a tier get now: what is known of its pods, the decision, and the note of it in the
tier's status, which is written before anybody acts on it.

Whoever leads next goes on from that note. One that is not acted on does no harm: the next look comes to the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from npc_operator.api import names
from npc_operator.api.capacity import CapacityStatus
from npc_operator.domain.capacity import (
    CapacityFacts,
    SliceFact,
    decide_capacity,
    look_at_slice,
    pace,
    read_capacity,
    write_capacity,
)
from npc_operator.domain.engines import Engine
from npc_operator.domain.facts import Tier
from npc_operator.domain.interruption.record import is_marked, read_record
from npc_operator.domain.interruption.tier_view import TierInterruptions
from npc_operator.domain.keys import Key
from npc_operator.domain.replicas import Split, split_replicas
from npc_operator.ports import Manifest, PortError
from npc_operator.reconcilers import events
from npc_operator.reconcilers.children import Children
from npc_operator.reconcilers.publisher import Publisher
from npc_operator.reconcilers.world import World

SLICES = (names.SLICE_ON_DEMAND, names.SLICE_SPOT)


class InterruptionsView(Protocol):
    """Who knows which pods of a tier go away with their nodes."""

    def of_tier(self, key: Key) -> TierInterruptions: ...


@dataclass(frozen=True, slots=True)
class Capacity:
    """One look at a tier's slices, and what follows from it."""

    live: Mapping[str, Manifest | None]
    """The Deployments by slice; a slice of which nobody knows is missing."""
    split: Split | None
    """What both should have; None: leave them alone."""
    desired: Split
    """What both should have, or have where they are left alone: for the status."""
    status: CapacityStatus
    interruptions: TierInterruptions
    wake_at: float | None = None
    error: str = ""
    """Why a Deployment is not known."""


async def look_at_capacity(
    tier: Tier, wanted: int, *, world: World, children: Children, told: TierInterruptions, now: float
) -> Capacity:
    """Decide about both slices of a tier. A suspended one, and one that is being deleted, is left as it is."""
    live: dict[str, Manifest | None] = {}
    error = ""
    for slice_ in SLICES:
        name = names.slice_deployment(tier.meta.name, slice_)
        try:
            live[slice_] = await children.present(tier.meta.namespace, "apps/v1", "Deployment", name)
        except PortError as failed:
            # Neither its replicas nor the images that its pods run are known.
            error = error or f"Deployment {name}: {failed}"
    desired = {slice_: replicas_of(found) for slice_, found in live.items()}
    floor = split_replicas(wanted, tier.spec.capacity)
    has = Split(*(desired.get(slice_, floor.of(slice_)) for slice_ in SLICES))
    if tier.spec.suspend or tier.meta.deletion_timestamp is not None:
        return Capacity(live, None, has, tier.status.capacity, told, error=error)
    engines = world.engines(tier.meta.namespace, tier.meta.name)

    def look(slice_: str) -> SliceFact | None:
        if slice_ not in desired:
            return None
        return look_at_slice(engines, slice_, desired=desired[slice_], leaving=told.leaving)

    facts = CapacityFacts(
        wanted=wanted,
        max_replicas=tier.spec.max_replicas,
        capacity=tier.spec.capacity,
        spot=look(names.SLICE_SPOT),
        on_demand=look(names.SLICE_ON_DEMAND),
        interruptions=told.recent,
        struck=told.struck,
        state=read_capacity(tier.status.capacity),
    )
    decision = decide_capacity(facts, now)
    split = None if decision.split is None else pace(decision.split, facts)
    if split is not None:
        split = _hold_back(split, desired, engines, told)
    return Capacity(live, split, split or has, write_capacity(decision), told, wake_at=decision.wake_at, error=error)


def _hold_back(split: Split, desired: Mapping[str, int], engines: Sequence[Engine], told: TierInterruptions) -> Split:
    """The split with no slice smaller than it is, as long as one of its pods that leave is not marked: whoever makes
    that Deployment smaller could end a pod that stays. The mark is written within moments, and its coming makes the
    tier look again; where it cannot be written, one pod too many is the lesser evil."""
    held = {
        engine.pod.slice
        for engine in engines
        if engine.pod.uid in told.leaving and not is_marked(read_record(engine.pod.interruption))
    }
    return Split(
        *(max(split.of(slice_), desired.get(slice_, 0)) if slice_ in held else split.of(slice_) for slice_ in SLICES)
    )


def replicas_of(live: Manifest | None) -> int:
    """What a live Deployment has been asked for; 0 where there is none."""
    replicas: Any = ((live or {}).get("spec") or {}).get("replicas")
    return int(replicas or 0)


MEMORY = ("mode", "extra_on_demand", "storm_until", "last_reversal", "last_return")
"""Of the note, what a successor has to know before anybody acts: without it, it would do otherwise. The rest says how
long something lasts, and may be younger than it is."""


def must_be_told_first(before: CapacityStatus, after: CapacityStatus) -> bool:
    """Whether a decision may only be acted on once it is in the status. The first one that changes nothing need not
    be: whoever finds no note comes to the same."""
    if before.mode is None:
        return after.mode is not None and (after.mode, after.extra_on_demand) != ("Normal", 0)
    return any(getattr(before, name) != getattr(after, name) for name in MEMORY)


async def tell_first(publisher: Publisher, world: World, tier: Tier, capacity: Capacity) -> Tier | None:
    """Write a decision into the status, at once. Returns the tier with it; None where it is not there, or the tier is
    another one meanwhile, so that nobody may act. Raises PortError."""
    status = tier.status.model_copy(
        update={"capacity": capacity.status, "interruptions": capacity.interruptions.status}
    )
    more = describe_change(tier.status.capacity, capacity.status)
    await publisher.publish(tier, status, urgent=True, more=more)
    known = world.store.get(Tier, tier.meta.namespace, tier.meta.name)
    if known is None or known.meta.uid != tier.meta.uid or known.spec != tier.spec:
        return None
    return known if known.status.capacity == capacity.status else None


def describe_change(before: CapacityStatus, after: CapacityStatus) -> tuple[events.Event, ...]:
    """Events for a change of mode."""
    if after.mode is None or before.mode == after.mode:
        return ()
    match after.mode:
        case "Storm":
            return (events.storm_began(after.message),)
        case "Fallback":
            return (events.storm_over(after.message),) if before.mode == "Storm" else (events.fell_back(after.message),)
        case "Returning":
            return (events.return_began(after.message),)
        case "Normal":
            return () if before.mode is None else (events.returned_to_spot(),)
