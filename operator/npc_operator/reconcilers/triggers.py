"""Which keys have to look again after one fact changed: pure, cheap, and rather one key too many than one too few.

A change with `old` None (start, resync, creation) marks everything that depends on the fact. Otherwise only what can be
affected: a thousand adapters must not look again because one pod's agent fetched another megabyte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from heapq import nsmallest
from typing import Any

from npc_operator.api import names
from npc_operator.domain.conditions import READY, holds
from npc_operator.domain.facts import (
    Adapter,
    AgentFact,
    CertificateFact,
    Child,
    GateFact,
    GatewayFact,
    IssuerFact,
    NodeFact,
    Pod,
    Region,
    SecretFact,
    Tier,
    UnkeptRoutes,
    Unreadable,
)
from npc_operator.domain.interruption.queues import QueueFact, fact_name
from npc_operator.domain.interruption.tier_view import TierInterruptions, covering_pods, unrouted_pods
from npc_operator.domain.interruption.visibility import NodesFact
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.domain.nodepools import NodePoolsFact
from npc_operator.domain.placement import rank_importance
from npc_operator.domain.spreading import sits
from npc_operator.domain.turns import claim_turn
from npc_operator.loop.queue import Lane
from npc_operator.loop.store import Change, Store
from npc_operator.reconcilers.changes import (
    archetype_of,
    changed_residency,
    degraded_archetypes,
    engine_traits,
    has_turn,
    interruption_traits,
    is_gated,
    is_reshaped,
    line_traits,
    moved_archetypes,
    node_of,
    reach_of,
    refers_to,
    serving_traits,
    told_archetypes,
    waits_for_slot,
    waits_for_turn,
    without_counts,
)

ORDERS = frozenset({KeyKind.AGENT, KeyKind.GATEWAY, KeyKind.ROUTES})
"""Kinds of keys that are small, and whose effect people wait for."""
NEXT_IN_LINE = 16
"""Adapters that wait for a slot and look again when one may be free. One change frees one or two; the others are there
because some of these may have theirs already and not have said so yet."""


def triggers(store: Store, change: Change) -> Iterable[Key]:
    """The keys to mark. The store already holds `change.new`."""
    rule = RULES.get(change.kind)
    return () if rule is None else rule(store, change)


def pick_lane(store: Store, key: Key) -> Lane:
    """Which keys hurry: orders to agents and gateways, and a voice with a candidate that NPCs hear. Taking that back
    must not wait until a thousand others have looked again."""
    if key.kind is KeyKind.INTERRUPTIONS:
        return Lane.INTERRUPT
    if key.kind is KeyKind.ADAPTER:
        return Lane.URGENT if has_turn(store.get(Adapter, key.namespace, key.name)) else Lane.NORMAL
    return Lane.URGENT if key.kind in ORDERS else Lane.NORMAL


def _on_region(store: Store, change: Change) -> Iterator[Key]:
    namespace = change.namespace
    yield Key(KeyKind.REGION, namespace, change.name)
    if change.new is None:
        yield Key(KeyKind.ROUTES, namespace, change.name)  # to forget them: it is in no list any more
    if not is_reshaped(change):
        return
    yield Key(KeyKind.NAMESPACE, namespace, "")
    for kind, fact in ((KeyKind.REGION, Region), (KeyKind.TIER, Tier), (KeyKind.ADAPTER, Adapter)):
        yield from (Key(kind, namespace, name) for name in store.list(fact, namespace))
    yield from _pods(store, namespace)
    yield from _routes(store, namespace)


def _on_tier(store: Store, change: Change) -> Iterator[Key]:
    namespace = change.namespace
    yield Key(KeyKind.TIER, namespace, change.name)
    if is_reshaped(change):
        yield Key(KeyKind.INTERRUPTIONS, namespace, change.name)
        yield Key(KeyKind.NODE_POOLS, namespace, change.name)
        yield Key(KeyKind.NAMESPACE, namespace, "")
        yield from (Key(KeyKind.TIER, namespace, name) for name in store.list(Tier, namespace))  # fallbacks meet
        yield from _adapters_of(store, namespace, change.name)
        yield from _agents_of(store, namespace, change.name)
        yield from _regions(store, namespace)
        yield from _routes(store, namespace)
    elif holds(change.old.status.conditions, READY) != holds(change.new.status.conditions, READY):
        yield from _regions(store, namespace)


def _on_adapter(store: Store, change: Change) -> Iterator[Key]:
    namespace = change.namespace
    yield Key(KeyKind.ADAPTER, namespace, change.name)
    if is_gated(change.old) or is_gated(change.new):
        yield Key(KeyKind.GATE, namespace, change.name)
    before, after = reach_of(change.old), reach_of(change.new)
    if change.old is not None and change.new is not None:
        changed = {tier for tier in before.keys() | after.keys() if before.get(tier) != after.get(tier)}
    else:
        changed = set(before) | set(after)
    for tier in sorted(changed):
        yield from _agents_of(store, namespace, tier)
    if changed:
        yield from _routes(store, namespace)
        yield from _next_in_line(store, namespace, changed)
    if has_turn(change.old) and not has_turn(change.new):
        yield from _next_to_move(store, namespace)
    if not is_reshaped(change):
        if changed:
            yield from (Key(KeyKind.REGION, namespace, name) for name in _quarantining(store, namespace))
        return
    yield from _routes(store, namespace)  # its persona is part of them
    yield from _regions(store, namespace)
    yield from (Key(KeyKind.TIER, namespace, tier) for tier in sorted(changed))
    yield from _siblings(store, namespace, change)
    yield from _crowded(store, namespace, changed)


def _on_pod(store: Store, change: Change) -> Iterator[Key]:
    namespace, pod = change.namespace, change.new or change.old
    if pod.component == names.COMPONENT_GATEWAY:
        yield Key(KeyKind.GATEWAY, namespace, change.name)
        if pod.region:
            yield Key(KeyKind.REGION, namespace, pod.region)
        if change.new is None or change.old is None or _takes_lines(change.old) != _takes_lines(change.new):
            # What is kept for a gateway alone may go with it, and rates are shared out among those that are ready.
            yield from _pods(store, namespace)
            yield from _routes(store, namespace)
        return
    if pod.component == names.COMPONENT_GATE:
        yield Key(KeyKind.GATE, namespace, pod.adapter)
        return
    yield Key(KeyKind.AGENT, namespace, change.name)
    if pod.tier:
        yield Key(KeyKind.TIER, namespace, pod.tier)
    if pod.tier and interruption_traits(change.old) != interruption_traits(change.new):
        yield Key(KeyKind.INTERRUPTIONS, namespace, pod.tier)
    if change.new is None:
        yield Key(KeyKind.NAMESPACE, namespace, "")  # perhaps the last user of an old engine key
    if sits(change.old) != sits(change.new) and _is_crowded(store, namespace, pod.tier):
        yield from _agents_of(store, namespace, pod.tier)  # what belongs where is another now
    if change.old is None or change.new is None or serving_traits(change.old) != serving_traits(change.new):
        yield from _adapters_of(store, namespace, pod.tier)
        yield from _routes(store, namespace)


def _on_agent(store: Store, change: Change) -> Iterator[Key]:
    namespace = change.namespace
    pod = store.get(Pod, namespace, change.name)
    old, new = change.old, change.new
    if old is None or new is None or old.boot_id != new.boot_id or old.stamp.epoch != new.stamp.epoch:
        yield Key(KeyKind.AGENT, namespace, change.name)
    if pod is None:
        return
    if old is None or new is None or old.engine != new.engine or changed_residency(old, new):
        yield Key(KeyKind.TIER, namespace, pod.tier)
        if _is_disturbed(store, namespace, pod.tier):
            yield Key(KeyKind.INTERRUPTIONS, namespace, pod.tier)
    if (None if old is None else old.interruption) != (None if new is None else new.interruption):
        yield Key(KeyKind.INTERRUPTIONS, namespace, pod.tier)
    if old is None or new is None or engine_traits(old) != engine_traits(new):
        yield Key(KeyKind.AGENT, namespace, change.name)
        yield from _adapters_of(store, namespace, pod.tier)
        yield from _routes(store, namespace)
        return
    moved = moved_archetypes(old, new)
    if not moved:
        return
    yield from _adapters_for(store, namespace, moved)
    if changed_residency(old, new):
        yield from _routes(store, namespace)
        yield Key(KeyKind.AGENT, namespace, change.name)


def _on_gateway(store: Store, change: Change) -> Iterator[Key]:
    namespace = change.namespace
    old, new = change.old, change.new
    yield from _adapters_for(store, namespace, told_archetypes(old, new) | degraded_archetypes(old, new))
    if old is None or new is None or line_traits(old) != line_traits(new):
        for tier in store.list(TierInterruptions, namespace):
            if _is_disturbed(store, namespace, tier):
                yield Key(KeyKind.INTERRUPTIONS, namespace, tier)
    if old is not None and new is not None and without_counts(old) == without_counts(new):
        return  # it counted answers, nothing else
    yield Key(KeyKind.GATEWAY, namespace, change.name)
    yield from _regions(store, namespace)
    if old is not None and new is not None and old.stamp.epoch != new.stamp.epoch:
        yield from _gateways(store, namespace)  # a table that had to go above another leader's is for all of them
    if old is None or new is None or old.stamp != new.stamp or old.boot_id != new.boot_id:
        yield from (
            Key(KeyKind.AGENT, namespace, pod.name)
            for pod in store.list(Pod, namespace).values()
            if pod.component == names.COMPONENT_ENGINE
        )


def _on_child(_: Store, change: Change) -> Iterator[Key]:
    child: Child = change.new or change.old
    labels = child.manifest.get("metadata", {}).get("labels") or {}
    if child.kind == "Job":
        yield Key(KeyKind.GATE, change.namespace, labels.get(names.LABEL_ADAPTER, ""))
        return
    if labels.get(names.LABEL_COMPONENT) == names.COMPONENT_HEADROOM:
        yield Key(KeyKind.NODE_POOLS, change.namespace, labels.get(names.LABEL_TIER, ""))
        return
    if child.kind == "Secret" and child.name in (names.SECRET_INTERNAL, names.SECRET_ENGINE_KEY):
        yield Key(KeyKind.NAMESPACE, change.namespace, "")
    elif labels.get(names.LABEL_TIER):
        yield Key(KeyKind.TIER, change.namespace, labels[names.LABEL_TIER])
        if child.kind == "Deployment":
            yield Key(KeyKind.NAMESPACE, change.namespace, "")  # a finished roll may free an old engine key
    elif labels.get(names.LABEL_REGION):
        kind = KeyKind.ROUTES if child.kind == "Secret" else KeyKind.REGION
        yield Key(kind, change.namespace, labels[names.LABEL_REGION])
    for reference in child.manifest.get("metadata", {}).get("ownerReferences") or ():
        # Labels may have been taken away by others; owners are harder to lose.
        if reference.get("kind") == names.KIND_TIER:
            yield Key(KeyKind.TIER, change.namespace, reference["name"])
        elif reference.get("kind") == names.KIND_REGION and child.kind != "Secret":
            yield Key(KeyKind.REGION, change.namespace, reference["name"])


def _on_secret(store: Store, change: Change) -> Iterator[Key]:
    namespace, name = change.namespace, change.name
    if name in (names.SECRET_INTERNAL, names.SECRET_ENGINE_KEY):
        yield Key(KeyKind.NAMESPACE, namespace, "")
        yield from _regions(store, namespace)
        yield from _routes(store, namespace)
        yield from (Key(KeyKind.TIER, namespace, tier) for tier in store.list(Tier, namespace))
        return
    for region in store.list(Region, namespace).values():
        reference = region.spec.gateway.auth.secret_ref
        if reference is not None and reference.name == name:
            yield Key(KeyKind.REGION, namespace, region.meta.name)
            yield from _routes(store, namespace)
    for tier in store.list(Tier, namespace).values():
        if tier.spec.model.secret_ref is not None and tier.spec.model.secret_ref.name == name:
            yield Key(KeyKind.TIER, namespace, tier.meta.name)
    used = set()
    for adapter in store.list(Adapter, namespace).values():
        tiers = {
            variant.tier
            for variant in adapter.spec.variants
            if variant.source.secret_ref is not None and variant.source.secret_ref.name == name
        } | {
            status.tier
            for status in adapter.status.variants
            if refers_to(status.stable, name) or refers_to(status.candidate, name)
        }
        if tiers:
            yield Key(KeyKind.ADAPTER, namespace, adapter.meta.name)
            used |= tiers
    for tier_name in sorted(used):
        yield from _agents_of(store, namespace, tier_name)


def _on_certificate(store: Store, change: Change) -> Iterator[Key]:
    for region in store.list(Region, change.namespace).values():
        if region.spec.gateway.tls is not None and region.spec.gateway.tls.secret_name == change.name:
            yield Key(KeyKind.REGION, change.namespace, region.meta.name)


def _on_unreadable(_: Store, change: Change) -> Iterator[Key]:
    kind, name = change.name.split("/", 1)
    kinds = {names.KIND_REGION: KeyKind.REGION, names.KIND_TIER: KeyKind.TIER, names.KIND_ADAPTER: KeyKind.ADAPTER}
    if kind in kinds:
        yield Key(kinds[kind], change.namespace, name)
    if kind == names.KIND_TIER:
        yield Key(KeyKind.NODE_POOLS, change.namespace, name)


def _on_trial(store: Store, change: Change) -> Iterator[Key]:
    """How far the user's own test of a candidate is."""
    yield from _adapters_for(store, change.namespace, {change.name.partition("/")[0]})


def _on_issuer(store: Store, _: Change) -> Iterator[Key]:
    for namespace, name, region in store.items(Region):
        if region.spec.gateway.auth.service_accounts is not None:
            yield Key(KeyKind.REGION, namespace, name)
            yield from _routes(store, namespace)


def _on_node_pools(_: Store, change: Change) -> Iterator[Key]:
    yield Key(KeyKind.TIER, change.namespace, change.name)


def _on_queue(store: Store, change: Change) -> Iterator[Key]:
    """Every tier that hears from it says so."""
    for namespace, name, tier in store.items(Tier):
        if fact_name(tier.spec) == change.name:
            yield Key(KeyKind.TIER, namespace, name)


def _on_node(store: Store, change: Change) -> Iterator[Key]:
    for namespace in store.namespaces(Pod):
        tiers = {
            pod.tier
            for name in store.having(Pod, namespace, node_of, change.name)
            if (pod := store.get(Pod, namespace, name)) is not None and pod.component == names.COMPONENT_ENGINE
        }
        yield from (Key(KeyKind.INTERRUPTIONS, namespace, tier) for tier in sorted(tiers) if tier)


def _on_nodes_seen(store: Store, _: Change) -> Iterator[Key]:
    for namespace, name, _tier in store.items(Tier):
        yield Key(KeyKind.TIER, namespace, name)


def _on_interruptions(store: Store, change: Change) -> Iterator[Key]:
    """What was decided about the pods of a tier that go."""
    namespace, tier = change.namespace, change.name
    yield Key(KeyKind.TIER, namespace, tier)
    if _is_disturbed(store, namespace, tier):
        yield Key(KeyKind.INTERRUPTIONS, namespace, tier)  # whoever decided it may not be the one who looks again
    unrouted = unrouted_pods(change.old) != unrouted_pods(change.new)
    if unrouted:
        yield from _routes(store, namespace)
        yield from _adapters_of(store, namespace, tier)
    if (unrouted or covering_pods(change.old) != covering_pods(change.new)) and _is_crowded(store, namespace, tier):
        yield from _agents_of(store, namespace, tier)  # what belongs where, and what must be kept there, is another now


def _is_disturbed(store: Store, namespace: str, tier: str) -> bool:
    """Whether something is said of a pod of a tier, or was and is not over."""
    told = store.get(TierInterruptions, namespace, tier)
    return told is not None and bool(told.draining or not told.status.over)


def _on_unkept(_: Store, change: Change) -> Iterator[Key]:
    yield Key(KeyKind.REGION, change.namespace, change.name)


RULES: dict[type[Any], Callable[[Store, Change], Iterator[Key]]] = {
    Region: _on_region,
    Tier: _on_tier,
    Adapter: _on_adapter,
    Pod: _on_pod,
    AgentFact: _on_agent,
    GatewayFact: _on_gateway,
    Child: _on_child,
    SecretFact: _on_secret,
    CertificateFact: _on_certificate,
    Unreadable: _on_unreadable,
    UnkeptRoutes: _on_unkept,
    IssuerFact: _on_issuer,
    GateFact: _on_trial,
    NodePoolsFact: _on_node_pools,
    NodeFact: _on_node,
    NodesFact: _on_nodes_seen,
    TierInterruptions: _on_interruptions,
    QueueFact: _on_queue,
}


# --- who is concerned ---


def _regions(store: Store, namespace: str) -> Iterator[Key]:
    return (Key(KeyKind.REGION, namespace, name) for name in store.list(Region, namespace))


def _routes(store: Store, namespace: str) -> Iterator[Key]:
    """The route table, the Secret made of it, and the gateways that should have it."""
    yield from (Key(KeyKind.ROUTES, namespace, name) for name in store.list(Region, namespace))
    yield from _gateways(store, namespace)


def _takes_lines(pod: Pod) -> bool:
    return pod.ready and not pod.deleting


def _quarantining(store: Store, namespace: str) -> Iterator[str]:
    """Regions whose quarantine has to say what it affects."""
    return (name for name, region in store.list(Region, namespace).items() if region.spec.quarantined_digests)


def _gateways(store: Store, namespace: str) -> Iterator[Key]:
    for pod in store.list(Pod, namespace).values():
        if pod.component == names.COMPONENT_GATEWAY:
            yield Key(KeyKind.GATEWAY, namespace, pod.name)


def _pods(store: Store, namespace: str) -> Iterator[Key]:
    for pod in store.list(Pod, namespace).values():
        kind = KeyKind.GATEWAY if pod.component == names.COMPONENT_GATEWAY else KeyKind.AGENT
        yield Key(kind, namespace, pod.name)


def _agents_of(store: Store, namespace: str, tier: str) -> Iterator[Key]:
    for pod in store.list(Pod, namespace).values():
        if pod.component == names.COMPONENT_ENGINE and pod.tier == tier:
            yield Key(KeyKind.AGENT, namespace, pod.name)


def _adapters_of(store: Store, namespace: str, tier: str) -> Iterator[Key]:
    for adapter in store.list(Adapter, namespace).values():
        if any(variant.tier == tier for variant in adapter.spec.variants):
            yield Key(KeyKind.ADAPTER, namespace, adapter.meta.name)


def _adapters_for(store: Store, namespace: str, archetypes: Set[str]) -> Iterator[Key]:
    for archetype in sorted(archetypes):
        for name in store.having(Adapter, namespace, archetype_of, archetype):
            yield Key(KeyKind.ADAPTER, namespace, name)


def _siblings(store: Store, namespace: str, change: Change) -> Iterator[Key]:
    """Others that want the same archetype: one of them may hold it now."""
    if change.old is not None and change.new is not None:
        return
    adapter: Adapter = change.new or change.old
    for name in store.having(Adapter, namespace, archetype_of, adapter.spec.archetype):
        if name != adapter.meta.name:
            yield Key(KeyKind.ADAPTER, namespace, name)


def _next_in_line(store: Store, namespace: str, tiers: Set[str]) -> Iterator[Key]:
    """Those that get the slots which one adapter's change may have freed: the first that wait, not all thousand."""
    waiting = [
        adapter
        for name in store.having(Adapter, namespace, waits_for_slot, True)
        if (adapter := store.get(Adapter, namespace, name)) is not None
        and any(status.tier in tiers for status in adapter.status.variants)
    ]
    for adapter in nsmallest(
        NEXT_IN_LINE, waiting, key=lambda one: (rank_importance(one.spec.importance), one.meta.name)
    ):
        yield Key(KeyKind.ADAPTER, namespace, adapter.meta.name)


def _next_to_move(store: Store, namespace: str) -> Iterator[Key]:
    """Those that get the turn which one archetype's rollout gave back."""
    waiting = [
        adapter
        for name in store.having(Adapter, namespace, waits_for_turn, True)
        if (adapter := store.get(Adapter, namespace, name)) is not None
    ]
    for claim in nsmallest(NEXT_IN_LINE, map(claim_turn, waiting)):
        yield Key(KeyKind.ADAPTER, namespace, claim.name)


def _crowded(store: Store, namespace: str, tiers: Set[str]) -> Iterator[Key]:
    """Where slots are short, one adapter's change decides about the others."""
    for name in sorted(tiers):
        if _is_crowded(store, namespace, name):
            yield from _adapters_of(store, namespace, name)


def _is_crowded(store: Store, namespace: str, name: str) -> bool:
    """Whether a tier may have fewer slots than adapters and one more want."""
    tier = store.get(Tier, namespace, name)
    return tier is not None and len(store.list(Adapter, namespace)) + 1 >= tier.spec.engine.max_cpu_loras
