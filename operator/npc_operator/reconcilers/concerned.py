"""Who is concerned by a change: keys of one kind, by what they have to do with a tier, an archetype or a slot. Rules in
`triggers` and beside it say when, these say who.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from heapq import nsmallest

from npc_operator.api import names
from npc_operator.domain.facts import Adapter, Pod, Region, Tier
from npc_operator.domain.interruption.tier_view import TierInterruptions, unrouted_pods
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.domain.placement import rank_importance
from npc_operator.domain.turns import claim_turn
from npc_operator.loop.store import Change, Store
from npc_operator.reconcilers.changes import archetype_of, waits_for_slot, waits_for_turn

NEXT_IN_LINE = 16
"""Adapters that wait for a slot and look again when one may be free. One change frees one or two; the others are there
because some of these may have theirs already and not have said so yet."""


def regions(store: Store, namespace: str) -> Iterator[Key]:
    return (Key(KeyKind.REGION, namespace, name) for name in store.list(Region, namespace))


def routes(store: Store, namespace: str) -> Iterator[Key]:
    """The route table, the Secret made of it, and the gateways that should have it."""
    yield from (Key(KeyKind.ROUTES, namespace, name) for name in store.list(Region, namespace))
    yield from gateways(store, namespace)


def gateways(store: Store, namespace: str) -> Iterator[Key]:
    for pod in store.list(Pod, namespace).values():
        if pod.component == names.COMPONENT_GATEWAY:
            yield Key(KeyKind.GATEWAY, namespace, pod.name)


def pods(store: Store, namespace: str) -> Iterator[Key]:
    for pod in store.list(Pod, namespace).values():
        kind = KeyKind.GATEWAY if pod.component == names.COMPONENT_GATEWAY else KeyKind.AGENT
        yield Key(kind, namespace, pod.name)


def agents_of(store: Store, namespace: str, tier: str) -> Iterator[Key]:
    for pod in store.list(Pod, namespace).values():
        if pod.component == names.COMPONENT_ENGINE and pod.tier == tier:
            yield Key(KeyKind.AGENT, namespace, pod.name)


def adapters_of(store: Store, namespace: str, tier: str) -> Iterator[Key]:
    for adapter in store.list(Adapter, namespace).values():
        if any(variant.tier == tier for variant in adapter.spec.variants):
            yield Key(KeyKind.ADAPTER, namespace, adapter.meta.name)


def adapters_for(store: Store, namespace: str, archetypes: Set[str]) -> Iterator[Key]:
    for archetype in sorted(archetypes):
        for name in store.having(Adapter, namespace, archetype_of, archetype):
            yield Key(KeyKind.ADAPTER, namespace, name)


def siblings(store: Store, namespace: str, change: Change) -> Iterator[Key]:
    """Others that want the same archetype: one of them may hold it now."""
    if change.old is not None and change.new is not None:
        return
    adapter: Adapter = change.new or change.old
    for name in store.having(Adapter, namespace, archetype_of, adapter.spec.archetype):
        if name != adapter.meta.name:
            yield Key(KeyKind.ADAPTER, namespace, name)


def next_in_line(store: Store, namespace: str, tiers: Set[str]) -> Iterator[Key]:
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


def next_to_move(store: Store, namespace: str) -> Iterator[Key]:
    """Those that get the turn which one archetype's rollout gave back."""
    waiting = [
        adapter
        for name in store.having(Adapter, namespace, waits_for_turn, True)
        if (adapter := store.get(Adapter, namespace, name)) is not None
    ]
    for claim in nsmallest(NEXT_IN_LINE, map(claim_turn, waiting)):
        yield Key(KeyKind.ADAPTER, namespace, claim.name)


def quarantining(store: Store, namespace: str) -> Iterator[str]:
    """Regions whose quarantine has to say what it affects."""
    return (name for name, region in store.list(Region, namespace).items() if region.spec.quarantined_digests)


def crowded(store: Store, namespace: str, tiers: Set[str]) -> Iterator[Key]:
    """Where slots are short, one adapter's change decides about the others."""
    for name in sorted(tiers):
        if is_crowded(store, namespace, name):
            yield from adapters_of(store, namespace, name)


def is_crowded(store: Store, namespace: str, name: str) -> bool:
    """Whether a tier may have fewer slots than adapters and one more want."""
    tier = store.get(Tier, namespace, name)
    return tier is not None and len(store.list(Adapter, namespace)) + 1 >= tier.spec.engine.max_cpu_loras


def is_disturbed(store: Store, namespace: str, tier: str) -> bool:
    """Whether something is said of a pod of a tier, or was and is not over."""
    told = store.get(TierInterruptions, namespace, tier)
    return told is not None and bool(told.draining or not told.status.over)


def is_rerouted(store: Store, change: Change) -> bool:
    """Whether lines go to other pods of a tier after this news of its interruptions."""
    pods = store.list(Pod, change.namespace).values()
    return unrouted_pods(change.old, change.name, pods) != unrouted_pods(change.new, change.name, pods)


def takes_lines(pod: Pod) -> bool:
    return pod.ready and not pod.deleting
