"""Which keys have to look again after news of machines: of nodes, of who brings them, of queues that speak of their
end, and of what was decided about pods that go with them.
"""

from __future__ import annotations

from collections.abc import Iterator

from npc_operator.api import names
from npc_operator.domain.facts import Pod, Tier
from npc_operator.domain.interruption.queues import fact_name
from npc_operator.domain.interruption.tier_view import covering_pods
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.loop.store import Change, Store
from npc_operator.reconcilers import concerned
from npc_operator.reconcilers.changes import node_of


def on_node(store: Store, change: Change) -> Iterator[Key]:
    for namespace in store.namespaces(Pod):
        tiers = {
            pod.tier
            for name in store.having(Pod, namespace, node_of, change.name)
            if (pod := store.get(Pod, namespace, name)) is not None and pod.component == names.COMPONENT_ENGINE
        }
        yield from (Key(KeyKind.INTERRUPTIONS, namespace, tier) for tier in sorted(tiers) if tier)


def on_nodes_seen(store: Store, _: Change) -> Iterator[Key]:
    for namespace, name, _tier in store.items(Tier):
        yield Key(KeyKind.TIER, namespace, name)


def on_interruptions(store: Store, change: Change) -> Iterator[Key]:
    """What was decided about the pods of a tier that go."""
    namespace, tier = change.namespace, change.name
    yield Key(KeyKind.TIER, namespace, tier)
    if concerned.is_disturbed(store, namespace, tier):
        yield Key(KeyKind.INTERRUPTIONS, namespace, tier)  # whoever decided it may not be the one who looks again
    rerouted = concerned.is_rerouted(store, change)
    if rerouted:
        yield from concerned.routes(store, namespace)
        yield from concerned.adapters_of(store, namespace, tier)
    moved = rerouted or covering_pods(change.old) != covering_pods(change.new)
    if moved and concerned.is_crowded(store, namespace, tier):
        # What belongs where, and what must be kept there, is another now.
        yield from concerned.agents_of(store, namespace, tier)


def on_queue(store: Store, change: Change) -> Iterator[Key]:
    """Every tier that hears from it says so."""
    for namespace, name, tier in store.items(Tier):
        if fact_name(tier.spec) == change.name:
            yield Key(KeyKind.TIER, namespace, name)


def on_node_pools(_: Store, change: Change) -> Iterator[Key]:
    yield Key(KeyKind.TIER, change.namespace, change.name)
