"""A voice: where each of its variants stands, when traffic moves, and what its status says.

Nothing is loaded here: agents get their sets from the same facts at the same time. What is decided here is what counts
as stable, and it is published before any gateway hears of it, so that a crash between the two only repeats the second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from npc_operator.api import names
from npc_operator.api.archetypeadapter import Variant
from npc_operator.domain import reasons
from npc_operator.domain.adapter import Check, build_status, suspended_by
from npc_operator.domain.conditions import Finding, newborn_seconds
from npc_operator.domain.desired import variant_status, wanted_revision
from npc_operator.domain.engines import Engine
from npc_operator.domain.facts import Adapter, Tier
from npc_operator.domain.holdings import Held
from npc_operator.domain.keys import Key
from npc_operator.domain.outcomes import Done, Outcome, Wait
from npc_operator.domain.placement import describe_displaced, describe_held_back, describe_left_out
from npc_operator.domain.rollout import Decision, RolloutFacts, decide_rollout, freeze
from npc_operator.reconcilers import events
from npc_operator.reconcilers.context import Context

MATTERS_OF_ORDER = frozenset({reasons.UNKNOWN_TIER, reasons.NO_REGION})
"""Faults that the next object to be applied may mend."""


async def reconcile_adapter(context: Context, key: Key) -> Outcome:
    """Decide every variant, publish once."""
    world = context.world
    if not world.synced():
        return Wait("the store is being filled", 1.0)
    known = world.store.get(Adapter, key.namespace, key.name)
    if known is None:
        context.publisher.forget(names.KIND_ADAPTER, key.namespace, key.name)
        return Done()
    adapter = context.publisher.latest(known)
    now = context.clock.now()
    decisions = [decide_variant(context, adapter, variant, now) for variant in adapter.spec.variants]
    status = build_status(adapter, decisions, now)
    told = list(describe_moves(adapter, decisions))
    urgent = any(decision.moved_from is not None for decision in decisions)
    later = await context.publisher.publish(adapter, status, urgent=urgent, more=told)
    again = [decision.requeue_after for decision in decisions if decision.requeue_after is not None]
    return Done(requeue_after=min((*again, *(() if later is None else (later,))), default=None))


def decide_variant(context: Context, adapter: Adapter, variant: Variant, now: float) -> Decision:
    """The next state of one variant, from what is known now."""
    world, namespace, tier_name = context.world, adapter.meta.namespace, variant.tier
    roster = world.roster(namespace)
    part = roster.part(tier_name, adapter.meta.name)
    check = part.check if part is not None else Check()
    status = variant_status(adapter, tier_name)
    facts = RolloutFacts(
        archetype=adapter.spec.archetype,
        tier=tier_name,
        wanted=wanted_revision(variant),
        status=status,
        engines=[engine for engine in world.engines(namespace, tier_name) if engine.counts()],
        load_timeout_seconds=adapter.spec.rollout.load_timeout_seconds,
    )
    if check.absent is not None:
        return be_patient(adapter, decide_rollout(replace(facts, engines=[], fault=check.absent), now), now)
    tier, region = world.store.get(Tier, namespace, tier_name), world.active_region(namespace)
    slots = 0 if tier is None else tier.spec.engine.max_cpu_loras
    placement = roster.placement(tier_name)
    if adapter.meta.name in placement.left_out:
        text = (
            describe_left_out(tier_name, [adapter.meta.name], slots)
            if status is None or status.stable is None
            else describe_displaced(tier_name, adapter.meta.name, slots)
        )
        facts = replace(facts, left_out=Finding(reasons.SLOTS_EXCEEDED, text))
    if (by := suspended_by(adapter, tier, region)) is not None:
        return freeze(facts, by)
    if status is None or status.stable is None:
        facts = replace(facts, serving=collect_serving(facts.engines, adapter.spec.archetype))
    if adapter.meta.name in placement.held_back:
        if placement.full:
            text = describe_left_out(tier_name, [adapter.meta.name], slots)
            facts = replace(facts, waiting=Finding(reasons.SLOTS_EXCEEDED, text))
        else:
            text = describe_held_back(tier_name, adapter.meta.name, slots)
            facts = replace(facts, queued=Finding(reasons.SLOTS_EXCEEDED, text))
    return decide_rollout(replace(facts, fault=check.barred, unread=check.unread), now)


def collect_serving(engines: Iterable[Engine], archetype: str) -> list[tuple[str, Held]]:
    """(pod, entry) of everything of an archetype that is on some pods."""
    return [
        (engine.pod.name, held)
        for engine in engines
        if engine.agent is not None
        for held in engine.agent.adapters.of(archetype)
    ]


def be_patient(adapter: Adapter, decision: Decision, now: float) -> Decision:
    """What a just created voice misses may simply not have been applied yet: wait before calling for a person."""
    left = newborn_seconds(adapter.meta.creation_timestamp, now)
    if decision.stalled is None or decision.stalled.reason not in MATTERS_OF_ORDER or left <= 0:
        return decision
    return replace(decision, stalled=None, reconciling=decision.stalled, requeue_after=left)


def describe_moves(adapter: Adapter, decisions: list[Decision]) -> list[events.Event]:
    """Events for what changes between the published status and the next."""
    told = []
    for decision in decisions:
        tier, after = decision.status.tier, decision.status
        before = variant_status(adapter, tier)
        old = before.candidate if before is not None else None
        if decision.moved_from is not None and after.stable is not None:
            told.append(events.traffic_moved(tier, after.stable.digest, decision.moved_from, after.wanted_replicas))
        elif after.candidate is not None and (old is None or old.digest != after.candidate.digest):
            told.append(events.loading(tier, after.candidate.digest))
        elif old is not None and after.candidate is None:
            told.append(events.cancelled(tier, old.digest))
        if (
            after.history
            and after.history[0].reason == reasons.ADOPTED
            and after.history != (before.history if before else ())
        ):
            told.append(events.adopted(tier, after.history[0].digest))
    return told
