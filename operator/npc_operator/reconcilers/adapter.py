"""A voice: where each of its variants stands, when traffic moves, and what its status says.

Nothing is loaded here: agents get their sets from the same facts at the same time. What is decided here is what counts
as stable and who hears a candidate, and it is published before any gateway hears of it, so that a crash between the two
only repeats the second.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace

from npc_operator.api import names
from npc_operator.api.archetypeadapter import Variant, VariantStatus
from npc_operator.api.npcregion import RolloutLimits
from npc_operator.domain import reasons
from npc_operator.domain.adapter import Check, build_status, suspended_by
from npc_operator.domain.analysis.verdict import judge
from npc_operator.domain.conditions import Finding, join_messages, newborn_seconds
from npc_operator.domain.desired import pick_quarantined, pick_rollout, variant_status, wanted_revision, was_taken_back
from npc_operator.domain.doors import may_serve
from npc_operator.domain.engines import Engine
from npc_operator.domain.facts import Adapter, GatewayFact, Region, Tier
from npc_operator.domain.holdings import Held
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.domain.outcomes import Done, Outcome, Wait
from npc_operator.domain.placement import Placement, describe_displaced, describe_held_back, describe_left_out
from npc_operator.domain.rollout import Decision, RolloutFacts, StandIn, decide_rollout, freeze
from npc_operator.domain.rollout.audit import build_records
from npc_operator.ports import Meter
from npc_operator.reconcilers import events
from npc_operator.reconcilers.context import Context
from npc_operator.reconcilers.evidence import LISTENING_SECONDS
from npc_runtime.wire import served_name

audit = logging.getLogger("npc_operator.audit")

DOUBT_LOOK_SECONDS = 0.2
"""How soon to ask again whether an agent has spoken since its last order; it does so in milliseconds."""

MATTERS_OF_ORDER = frozenset({reasons.UNKNOWN_TIER, reasons.NO_REGION})
"""Faults that the next object to be applied may mend."""


async def reconcile_adapter(context: Context, key: Key) -> Outcome:
    """Decide every variant, publish once."""
    world = context.world
    if not world.synced():
        return Wait("the store is being filled", 1.0)
    adapter = world.store.get(Adapter, key.namespace, key.name)
    if adapter is None:
        context.publisher.forget(names.KIND_ADAPTER, key.namespace, key.name)
        context.turns.forget(key.namespace, key.name)
        context.crashes.forget_adapter(key.namespace, key.name)
        context.degradation.forget(key.namespace, key.name)
        context.routes.settle(key.namespace, key.name)
        return Done()
    now = context.clock.now()
    decisions = [decide_variant(context, adapter, variant, now) for variant in adapter.spec.variants]
    look = context.degradation.look(adapter)
    status = build_status(adapter, decisions, now, degraded=look.degraded)
    context.turns.note(replace(adapter, status=status), now)
    # A decision about traffic is published at once, and so is what a step waits for.
    urgent = any(decision.made for decision in decisions) or moves_on(adapter, decisions)
    told = [*describe_moves(adapter, decisions), *look.told]

    def record() -> None:
        for decision in decisions:
            keep_record(adapter, decision)
            count(context.meter, adapter, decision)

    context.routes.expect(adapter, status)
    later = await context.publisher.publish(adapter, status, urgent=urgent, more=told, tell=record)
    context.routes.settle(key.namespace, key.name)
    again = [decision.requeue_after for decision in decisions if decision.requeue_after is not None]
    again += [after for after in (later, look.again) if after is not None]
    if has_doubts(context, adapter):
        again.append(DOUBT_LOOK_SECONDS)
    return Done(requeue_after=min(again, default=None))


def decide_variant(context: Context, adapter: Adapter, variant: Variant, now: float) -> Decision:
    """The next state of one variant, from what is known now."""
    world, namespace, tier_name = context.world, adapter.meta.namespace, variant.tier
    roster = world.roster(namespace)
    part = roster.part(tier_name, adapter.meta.name)
    check = part.check if part is not None else Check()
    status = variant_status(adapter, tier_name)
    tier, region = world.store.get(Tier, namespace, tier_name), world.active_region(namespace)
    placement = roster.placement(tier_name)
    counting = [engine for engine in world.engines(namespace, tier_name) if engine.counts()]
    engines = doubt(context, pick_engines(adapter, status, placement, counting), adapter, variant)
    facts = RolloutFacts(
        archetype=adapter.spec.archetype,
        tier=tier_name,
        wanted=wanted_revision(variant),
        status=status,
        engines=engines,
        rollout=adapter.spec.rollout,
        quarantined=pick_quarantined(adapter, region),
        stand_in=pick_stand_in(adapter),
        changed_by=adapter.changed_by.digest(tier_name),
        approved_by=adapter.changed_by.approval,
        quarantined_by=find_quarantiner(adapter, variant),
    )
    if check.absent is not None:
        return be_patient(adapter, decide_rollout(replace(facts, engines=[], fault=check.absent), now), now)
    slots = 0 if tier is None else tier.spec.engine.max_cpu_loras
    if adapter.meta.name in placement.left_out:
        text = (
            describe_left_out(tier_name, [adapter.meta.name], slots)
            if status is None or status.stable is None
            else describe_displaced(tier_name, adapter.meta.name, slots)
        )
        facts = replace(facts, left_out=Finding(reasons.SLOTS_EXCEEDED, text))
    if (by := suspended_by(adapter, tier, region)) is not None:
        return freeze(collect_present_trial(context, adapter, facts, region), by, now)
    if status is None or status.stable is None:
        facts = replace(facts, serving=collect_serving(counting, adapter.spec.archetype))
    if adapter.meta.name in placement.held_back:
        if placement.full:
            text = describe_left_out(tier_name, [adapter.meta.name], slots)
            facts = replace(facts, waiting=Finding(reasons.SLOTS_EXCEEDED, text))
        else:
            text = describe_held_back(tier_name, adapter.meta.name, slots)
            facts = replace(facts, queued=Finding(reasons.SLOTS_EXCEEDED, text))
    facts = collect_trial(context, adapter, facts, region)
    return decide_rollout(replace(facts, fault=check.barred, unread=check.unread), now)


def pick_engines(
    adapter: Adapter, status: VariantStatus | None, placement: Placement, counting: list[Engine]
) -> list[Engine]:
    """Those that should have the voice; until one of them has proven what is stable, also those that still serve it."""
    if placement.where is None:
        return counting
    placed = [engine for engine in counting if placement.holds(adapter.meta.name, engine.pod.name)]
    stable = None if status is None else status.stable
    if stable is None:
        return placed
    name = served_name(adapter.spec.archetype, stable.digest)
    if any(engine.proven(name) for engine in placed):
        return placed
    others = (engine for engine in counting if not placement.holds(adapter.meta.name, engine.pod.name))
    return [*placed, *(engine for engine in others if engine.proven(name))]


def doubt(context: Context, engines: list[Engine], adapter: Adapter, variant: Variant) -> list[Engine]:
    """The engines, each without the wanted digest where its word on that is older than its orders."""
    wanted = (served_name(adapter.spec.archetype, variant.source.digest),)
    return [
        replace(engine, doubted=doubted) if (doubted := context.orders.doubted(engine, wanted)) else engine
        for engine in engines
    ]


def has_doubts(context: Context, adapter: Adapter) -> bool:
    """Whether some agent's word would count if it were newer: when it is, nothing else of it need have changed."""
    return any(
        engine.proven(name) and engine.counts() and context.orders.doubted(engine, (name,))
        for variant in adapter.spec.variants
        for name in (served_name(adapter.spec.archetype, variant.source.digest),)
        for engine in context.world.engines(adapter.meta.namespace, variant.tier)
    )


def collect_trial(context: Context, adapter: Adapter, facts: RolloutFacts, region: Region | None) -> RolloutFacts:
    """With what is known of the wanted digest as a candidate."""
    status = facts.status
    stable = status.stable.digest if status is not None and status.stable is not None else ""
    if stable in ("", facts.wanted.digest) or was_taken_back(status, facts.wanted.digest):
        return facts  # nothing is, or can be, on its way in steps
    rollout = pick_rollout(status, facts.wanted)
    place = (adapter.meta.namespace, adapter.meta.name, facts.tier)
    limits = RolloutLimits() if region is None else region.spec.rollout_limits
    turn = context.turns.ask(adapter, most=limits.max_concurrent, now=context.clock.now())
    facts = replace(facts, ceiling_percent=limits.ceiling_percent, turn=turn)
    if rollout is None or not rollout.since:
        context.crashes.forget(place)
    if facts.rollout.strategy == "Immediate" and rollout is None:
        return facts
    world, namespace, digest = context.world, adapter.meta.namespace, facts.wanted.digest
    mark = ("", 0) if rollout is None else (rollout.since, rollout.step)
    evidence = world.evidence(
        namespace,
        facts.archetype,
        facts.tier,
        digest,
        now=context.clock.monotonic(),
        mark=mark,
        # A step that is shorter ends before anybody is heard for so long.
        listening=min(LISTENING_SECONDS, facts.rollout.step_seconds),
    )
    crashes = 0
    if rollout is not None and rollout.since:
        engines = world.engines(namespace, facts.tier)
        known, seconds = rollout.crashes, context.clock.monotonic()
        crashes = context.crashes.count(place, facts.name(digest), engines, known=known, now=seconds)
    return replace(
        facts,
        gate=world.gate(namespace, facts.archetype, facts.tier, digest),
        evidence=evidence,
        verdict=judge(evidence, facts.rollout.analysis),
        unwatched=find_unwatched(context, region, facts) if rollout is not None and rollout.since else None,
        crashes=crashes,
    )


def collect_present_trial(
    context: Context, adapter: Adapter, facts: RolloutFacts, region: Region | None
) -> RolloutFacts:
    """With what is known of the candidate that has traffic, whatever the spec has come to name."""
    status = facts.status
    if status is None or status.candidate is None or status.rollout is None or not status.rollout.since:
        return facts
    return replace(
        collect_trial(context, adapter, replace(facts, wanted=status.candidate), region), wanted=facts.wanted
    )


def find_unwatched(context: Context, region: Region | None, facts: RolloutFacts) -> Finding | None:
    """Gateways that may have lines of the candidate to answer while nobody hears what becomes of them."""
    doors = () if region is None else context.world.doors(region.meta.namespace, region.meta.name)
    silent = [
        f"{door.pod.name} on node {door.pod.node or 'unknown'}"
        for door in doors
        if (door.fact is None or not door.fact.reachable)
        and may_serve(door.pod, heard=door.fact is not None)
        and not context.routes.is_gone(door)
    ]
    heard = [door for door in doors if door.fact is not None and door.fact.reachable]
    mute = [door.pod.name for door in heard if not tells_of(door.fact, facts)]
    if heard and not silent and not mute:
        return None
    who = f"gateway {join_messages(silent)} is not heard" if silent else "no gateway is heard"
    if mute and not silent:
        who = f"gateway {join_messages(mute)} tells nothing of this try (it has older routes or is of an older version)"
    text = f"tier {facts.tier}: {who}, so nobody can say what all answers of {facts.name(facts.wanted.digest)} are like"
    return Finding(reasons.GATEWAY_SILENT, f"{text}; it goes no further until then")


def tells_of(fact: GatewayFact | None, facts: RolloutFacts) -> bool:
    """Whether a gateway says what it saw of the wanted digest in its present try: nothing, too, is said."""
    attempt = 0 if facts.status is None else facts.status.attempt
    what = (facts.archetype, facts.tier, facts.wanted.digest, attempt)
    said = () if fact is None else fact.rollouts
    return any((one.archetype, one.tier, one.candidate, one.attempt) == what for one in said)


def pick_stand_in(adapter: Adapter) -> StandIn:
    """What gateways answer with when none of the voice's adapters may be used."""
    if adapter.spec.persona.system_prompt:
        return "BaseModel"
    return "Scripted" if adapter.spec.persona.scripted_lines else "Nothing"


def find_quarantiner(adapter: Adapter, variant: Variant) -> str:
    """Who put a digest of a variant into quarantine; empty where that was the region, or nobody can tell."""
    status = variant_status(adapter, variant.tier)
    used = {variant.source.digest}
    if status is not None:
        used |= {revision.digest for revision in (status.stable, status.candidate) if revision is not None}
    return adapter.changed_by.quarantine if used & set(adapter.spec.quarantined_digests) else ""


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


def moves_on(adapter: Adapter, decisions: Iterable[Decision]) -> bool:
    """Whether a rollout is in another phase than its status says."""
    for decision in decisions:
        before = variant_status(adapter, decision.status.tier)
        old = None if before is None else before.rollout
        if old is not None and decision.status.rollout is not None and old.phase != decision.status.rollout.phase:
            return True
    return False


def keep_record(adapter: Adapter, decision: Decision) -> None:
    """The audit trail, one line for each decision."""
    key = Key(KeyKind.ADAPTER, adapter.meta.namespace, adapter.meta.name)
    for record in build_records(adapter, decision.status.tier, decision.made):
        text = f"{record['decision']} on tier {record['tier']}"
        audit.info(text, extra={"key": key, "audit": record})


def count(meter: Meter, adapter: Adapter, decision: Decision) -> None:
    """The same, for dashboards and alerts."""
    for entry in decision.made:
        why, after = "", None
        if entry.reason == reasons.ROLLED_BACK:
            why = decision.status.rejected.reason if decision.status.rejected is not None else ""
            after = decision.after_first_bad
        meter.decided(adapter.meta.namespace, entry.reason, why, after_first_bad=after)


def describe_moves(adapter: Adapter, decisions: list[Decision]) -> Iterator[events.Event]:
    """Events for what changes between the published status and the next."""
    for decision in decisions:
        tier, after = decision.status.tier, decision.status
        before = variant_status(adapter, tier)
        old = before.candidate if before is not None else None
        for entry in decision.made:
            yield events.decided(tier, entry, after)
        if after.candidate is not None and (old is None or old.digest != after.candidate.digest):
            yield events.loading(tier, after.candidate.digest)
        elif old is not None and after.candidate is None and not decision.made:
            yield events.cancelled(tier, old.digest)
        was = None if before is None or before.rollout is None else before.rollout.phase
        if after.rollout is not None and after.rollout.phase != was and after.rollout.phase == "Probing":
            yield events.probing(tier, after.message)
