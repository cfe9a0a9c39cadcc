"""A tier: its two Deployments, its Service, its disruption budget, what guards its pods, and what its status says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from npc_operator.api import names
from npc_operator.domain.conditions import Finding, newborn_seconds
from npc_operator.domain.desired import Piece
from npc_operator.domain.drift import extract_owned, owned_fields
from npc_operator.domain.engines import Engine
from npc_operator.domain.facts import Tier
from npc_operator.domain.fallbacks import find_fallback_fault
from npc_operator.domain.interruption.queues import QueueFact, fact_name, queue_entries
from npc_operator.domain.interruption.visibility import NODES, NodesFact, node_entries
from npc_operator.domain.keys import Key
from npc_operator.domain.nodepools import NodePoolsFact, wanted_places
from npc_operator.domain.nodepools.report import condition_entries
from npc_operator.domain.outcomes import Done, Outcome, Retry, Wait
from npc_operator.domain.placement import Placement, describe_left_out
from npc_operator.domain.reasons import SLOTS_EXCEEDED
from npc_operator.domain.region import tier_population
from npc_operator.domain.replicas import Split, decide_replicas
from npc_operator.domain.rotation import current_engine_key
from npc_operator.domain.tier import TierFacts, build_tier_status
from npc_operator.manifests.disruption import build_engine_budget
from npc_operator.manifests.engine_deployment import build_deployment, keep_template, was_built_otherwise
from npc_operator.manifests.engine_service import build_engine_service
from npc_operator.manifests.labels import engine_selector, owner_reference, selector_text
from npc_operator.manifests.network import build_engine_policy
from npc_operator.manifests.pod_layout import EngineInputs
from npc_operator.ports import Manifest
from npc_operator.reconcilers import events
from npc_operator.reconcilers.capacity import (
    SLICES,
    Capacity,
    look_at_capacity,
    must_be_told_first,
    replicas_of,
    tell_first,
)
from npc_operator.reconcilers.children import Ensured
from npc_operator.reconcilers.context import Context, split_results
from npc_operator.reconcilers.owners import find_owners

LEAST_WAIT_SECONDS = 0.1
"""Before a look that time alone calls for: clocks are not exact, and one that comes too early sees nothing new."""


async def reconcile_tier(context: Context, key: Key) -> Outcome:
    """The decision about replicas first, and a note of it where it is a new one; then the children, then one status."""
    world, now = context.world, context.clock.now()
    if not world.synced():
        return Wait("the store is being filled", 1.0)
    tier = world.store.get(Tier, key.namespace, key.name)
    if tier is None:
        context.publisher.forget(names.KIND_TIER, key.namespace, key.name)
        return Done()
    region = world.region_of(key.namespace, key.name)
    population = None if region is None else tier_population(region.spec, key.name)
    wanted = decide_replicas(tier.spec, population)
    capacity = await look_at_capacity(
        tier, wanted, world=world, children=context.children, told=context.interruptions.of_tier(key), now=now
    )
    if capacity.split is not None and must_be_told_first(tier.status.capacity, capacity.status):
        tier = await tell_first(context.publisher, world, tier, capacity)
        if tier is None:
            return Wait("the tier changed while its capacity was decided", 1.0)
    secret = world.secret(key.namespace, names.SECRET_ENGINE_KEY)
    key_id = "" if secret is None else current_engine_key(secret.data)
    results = [Ensured(error=capacity.error)] if capacity.error else []
    if key_id and not tier.spec.suspend and tier.meta.deletion_timestamp is None:
        results += await _keep_children(context, tier, capacity, key_id, wanted=wanted)
    faults, errors = split_results(results)
    facts = observe_tier(
        context,
        tier,
        region="" if region is None else region.meta.name,
        wanted=wanted,
        capacity=capacity,
        preparing=not key_id,
        faults=faults,
        errors=errors,
    )
    later = await context.publisher.publish(tier, build_tier_status(facts, context.clock.now()))
    if errors:
        return Retry("; ".join(errors))
    if later is None and facts.newborn and (not facts.region or facts.fallback is not None):
        later = newborn_seconds(tier.meta.creation_timestamp, context.clock.now())
    wake = None if capacity.wake_at is None else max(LEAST_WAIT_SECONDS, capacity.wake_at - context.clock.now())
    return Done(requeue_after=min((one for one in (later, wake) if one is not None), default=None))


async def _keep_children(
    context: Context, tier: Tier, capacity: Capacity, key_id: str, *, wanted: int
) -> list[Ensured]:
    owner = events.object_ref(names.KIND_TIER, tier.meta)
    owners = [owner_reference(*one) for one in find_owners(context.world.store, tier.meta.namespace)]
    policy = build_engine_policy(tier.meta.namespace, context.operator, owners=owners)
    guarded = await context.children.ensure(policy, owner)
    if guarded.fault is not None or guarded.error:
        return [guarded]  # no engine pod starts, and none is replaced, that anybody could talk to
    manifests: list[dict[str, Any]] = [
        build_engine_service(tier.meta, tier.spec),
        build_engine_budget(tier.meta, tier.spec.quality, wanted=wanted),
    ]
    if capacity.split is not None:
        manifests += _build_slices(context, tier, capacity.live, capacity.split, key_id)
    return [guarded, *[await context.children.ensure(manifest, owner) for manifest in manifests]]


def _build_slices(
    context: Context, tier: Tier, lives: Mapping[str, Manifest | None], split: Split, key_id: str
) -> list[dict[str, Any]]:
    """Both Deployments, the one that grows first."""
    manifests: list[dict[str, Any]] = []
    for slice_ in SLICES:
        inputs = EngineInputs(
            meta=tier.meta,
            spec=tier.spec,
            slice_=slice_,
            engine_key_id=key_id,
            agent_image=context.images.fleet,
            engine_image=context.images.engine,
            pull_policy=context.images.pull_policy,
        )
        live = lives[slice_]
        built = build_deployment(inputs, replicas=split.of(slice_), live=live)
        if live is not None and was_built_otherwise(inputs, live):
            owned = owned_fields(live, manager=names.MANAGER_CHILDREN) or {}
            built = keep_template(built, extract_owned(live, owned)["spec"]["template"], live)
        manifests.append(built)
    return manifests if split.on_demand >= replicas_of(lives[names.SLICE_ON_DEMAND]) else manifests[::-1]


def observe_tier(
    context: Context,
    tier: Tier,
    *,
    region: str,
    wanted: int,
    capacity: Capacity,
    preparing: bool,
    faults: tuple[Finding, ...],
    errors: tuple[str, ...],
) -> TierFacts:
    """Everything the tier's status is made of, as it is known now."""
    world, namespace, name = context.world, tier.meta.namespace, tier.meta.name
    engines = world.engines(namespace, name)
    roster = world.roster(namespace)
    deployments = {}
    for slice_ in SLICES:
        child = world.child(namespace, "Deployment", names.slice_deployment(name, slice_))
        if child is not None:
            deployments[slice_] = child.status
    reference = tier.spec.model.secret_ref
    left_out = roster.placement(name).left_out
    slots = tier.spec.engine.max_cpu_loras
    active = world.active_region(namespace)
    fallback = find_fallback_fault(
        name,
        world.fallback_links(namespace),
        region="" if active is None else active.meta.name,
        named=frozenset() if active is None else {entry.tier for entry in active.spec.tiers},
    )
    return TierFacts(
        tier=tier,
        region=region,
        wanted=wanted,
        split=capacity.desired,
        capacity=capacity.status,
        interruptions=capacity.interruptions.status,
        engines=engines,
        deployments=deployments,
        preparing=preparing,
        model_secret=None if reference is None else world.secret(namespace, reference.name),
        faults=faults,
        errors=errors,
        adapters=roster.count(name),
        resident_adapters=count_resident(engines, roster.pieces(name), roster.placement(name)),
        left_out=Finding(SLOTS_EXCEEDED, describe_left_out(name, sorted(left_out), slots)) if left_out else None,
        fallback=fallback,
        selector=selector_text(engine_selector(tier=name)),
        newborn=newborn_seconds(tier.meta.creation_timestamp, context.clock.now()) > 0,
        node_pools=(
            *condition_entries(
                world.store.get(NodePoolsFact, namespace, name),
                tier.status.conditions,
                wanted=bool(wanted_places(tier.spec)) or names.ANNOTATION_NODE_POOLS in tier.meta.annotations,
            ),
            *queue_entries(tier.spec, world.store.get(QueueFact, "", fact_name(tier.spec)), tier.status.conditions),
            *node_entries(world.store.get(NodesFact, "", NODES), tier.status.conditions),
        ),
    )


def count_resident(engines: Sequence[Engine], pieces: Iterable[Piece], placement: Placement) -> int:
    """How many adapters are proven on every ready pod that should have them: by what they serve, or are about to serve
    first."""
    ready = [engine for engine in engines if engine.counts() and engine.pod.ready]
    known = [(engine.pod.name, proven) for engine in ready if (proven := engine.resident()) is not None]
    count = 0
    for piece in pieces:
        leading = piece.stable or piece.candidate
        if leading is None:
            continue
        homes = [proven for pod, proven in known if placement.holds(piece.adapter, pod)]
        count += bool(homes) and all(leading.served_name in proven for proven in homes)
    return count
