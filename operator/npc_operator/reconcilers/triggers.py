"""Which keys have to look again after one fact changed: pure, cheap, and rather one key too many than one too few.

A change with `old` None (start, resync, creation) marks everything that depends on the fact. Otherwise only what can be
affected: a thousand adapters must not look again because one pod's agent fetched another megabyte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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
from npc_operator.domain.interruption.queues import QueueFact
from npc_operator.domain.interruption.tier_view import TierInterruptions
from npc_operator.domain.interruption.visibility import NodesFact
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.domain.nodepools import NodePoolsFact
from npc_operator.domain.spreading import sits
from npc_operator.loop.queue import Lane
from npc_operator.loop.store import Change, Store
from npc_operator.reconcilers import concerned, triggers_belongings, triggers_machines
from npc_operator.reconcilers.changes import (
    changed_residency,
    degraded_archetypes,
    engine_traits,
    has_turn,
    interruption_traits,
    is_gated,
    is_reshaped,
    line_traits,
    moved_archetypes,
    reach_of,
    serving_traits,
    told_archetypes,
    without_counts,
)

ORDERS = frozenset({KeyKind.AGENT, KeyKind.GATEWAY, KeyKind.ROUTES})
"""Kinds of keys that are small, and whose effect people wait for."""


def triggers(store: Store, change: Change) -> Iterable[Key]:
    """The keys to mark. The store already holds `change.new`."""
    rule = RULES.get(change.kind)
    return () if rule is None else rule(store, change)


def waits_for_pods(key: Key) -> bool:
    """Whether a run of the key waits for one of the many: engine pods fall silent by the hundred when a zone does, and
    each order to one takes its time until it has failed. Whoever decides what to do about that must not wait behind
    them."""
    return key.kind is KeyKind.AGENT


def pick_lane(store: Store, key: Key) -> Lane:
    """Which keys hurry: orders to agents and gateways, a tier whose nodes go, because it asks for their replacements,
    and a voice with a candidate that NPCs hear. Taking that back must not wait until a thousand others have looked
    again."""
    if key.kind is KeyKind.INTERRUPTIONS:
        return Lane.INTERRUPT
    if key.kind is KeyKind.TIER:
        return Lane.URGENT if concerned.is_disturbed(store, key.namespace, key.name) else Lane.NORMAL
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
    yield from concerned.pods(store, namespace)
    yield from concerned.routes(store, namespace)


def _on_tier(store: Store, change: Change) -> Iterator[Key]:
    namespace = change.namespace
    yield Key(KeyKind.TIER, namespace, change.name)
    if is_reshaped(change):
        yield Key(KeyKind.INTERRUPTIONS, namespace, change.name)
        yield Key(KeyKind.NODE_POOLS, namespace, change.name)
        yield Key(KeyKind.NAMESPACE, namespace, "")
        yield from (Key(KeyKind.TIER, namespace, name) for name in store.list(Tier, namespace))  # fallbacks meet
        yield from concerned.adapters_of(store, namespace, change.name)
        yield from concerned.agents_of(store, namespace, change.name)
        yield from concerned.regions(store, namespace)
        yield from concerned.routes(store, namespace)
    elif holds(change.old.status.conditions, READY) != holds(change.new.status.conditions, READY):
        yield from concerned.regions(store, namespace)


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
        yield from concerned.agents_of(store, namespace, tier)
    if changed:
        yield from concerned.routes(store, namespace)
        yield from concerned.next_in_line(store, namespace, changed)
    if has_turn(change.old) and not has_turn(change.new):
        yield from concerned.next_to_move(store, namespace)
    if not is_reshaped(change):
        if changed:
            yield from (Key(KeyKind.REGION, namespace, name) for name in concerned.quarantining(store, namespace))
        return
    yield from concerned.routes(store, namespace)  # its persona is part of them
    yield from concerned.regions(store, namespace)
    yield from (Key(KeyKind.TIER, namespace, tier) for tier in sorted(changed))
    yield from concerned.siblings(store, namespace, change)
    yield from concerned.crowded(store, namespace, changed)


def _on_pod(store: Store, change: Change) -> Iterator[Key]:
    namespace, pod = change.namespace, change.new or change.old
    if pod.component == names.COMPONENT_GATEWAY:
        yield Key(KeyKind.GATEWAY, namespace, change.name)
        if pod.region:
            yield Key(KeyKind.REGION, namespace, pod.region)
        if (
            change.new is None
            or change.old is None
            or concerned.takes_lines(change.old) != concerned.takes_lines(change.new)
        ):
            # What is kept for a gateway alone may go with it, and rates are shared out among those that are ready.
            yield from concerned.pods(store, namespace)
            yield from concerned.routes(store, namespace)
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
    if sits(change.old) != sits(change.new) and concerned.is_crowded(store, namespace, pod.tier):
        yield from concerned.agents_of(store, namespace, pod.tier)  # what belongs where is another now
    if change.old is None or change.new is None or serving_traits(change.old) != serving_traits(change.new):
        yield from concerned.adapters_of(store, namespace, pod.tier)
        yield from concerned.routes(store, namespace)


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
        if concerned.is_disturbed(store, namespace, pod.tier):
            yield Key(KeyKind.INTERRUPTIONS, namespace, pod.tier)
    if (None if old is None else old.interruption) != (None if new is None else new.interruption):
        yield Key(KeyKind.INTERRUPTIONS, namespace, pod.tier)
    if old is None or new is None or engine_traits(old) != engine_traits(new):
        yield Key(KeyKind.AGENT, namespace, change.name)
        yield from concerned.adapters_of(store, namespace, pod.tier)
        yield from concerned.routes(store, namespace)
        return
    moved = moved_archetypes(old, new)
    if not moved:
        return
    yield from concerned.adapters_for(store, namespace, moved)
    if changed_residency(old, new):
        yield from concerned.routes(store, namespace)
        yield Key(KeyKind.AGENT, namespace, change.name)


def _on_gateway(store: Store, change: Change) -> Iterator[Key]:
    namespace = change.namespace
    old, new = change.old, change.new
    yield from concerned.adapters_for(store, namespace, told_archetypes(old, new) | degraded_archetypes(old, new))
    if old is None or new is None or line_traits(old) != line_traits(new):
        for tier in store.list(TierInterruptions, namespace):
            if concerned.is_disturbed(store, namespace, tier):
                yield Key(KeyKind.INTERRUPTIONS, namespace, tier)
    if old is not None and new is not None and without_counts(old) == without_counts(new):
        return  # it counted answers, nothing else
    yield Key(KeyKind.GATEWAY, namespace, change.name)
    yield from concerned.regions(store, namespace)
    if old is not None and new is not None and old.stamp.epoch != new.stamp.epoch:
        # A table that had to go above another leader's is for all of them.
        yield from concerned.gateways(store, namespace)
    if old is None or new is None or old.stamp != new.stamp or old.boot_id != new.boot_id:
        yield from (
            Key(KeyKind.AGENT, namespace, pod.name)
            for pod in store.list(Pod, namespace).values()
            if pod.component == names.COMPONENT_ENGINE
        )


RULES: dict[type[Any], Callable[[Store, Change], Iterator[Key]]] = {
    Region: _on_region,
    Tier: _on_tier,
    Adapter: _on_adapter,
    Pod: _on_pod,
    AgentFact: _on_agent,
    GatewayFact: _on_gateway,
    Child: triggers_belongings.on_child,
    SecretFact: triggers_belongings.on_secret,
    CertificateFact: triggers_belongings.on_certificate,
    Unreadable: triggers_belongings.on_unreadable,
    UnkeptRoutes: triggers_belongings.on_unkept,
    IssuerFact: triggers_belongings.on_issuer,
    GateFact: triggers_belongings.on_trial,
    NodePoolsFact: triggers_machines.on_node_pools,
    NodeFact: triggers_machines.on_node,
    NodesFact: triggers_machines.on_nodes_seen,
    TierInterruptions: triggers_machines.on_interruptions,
    QueueFact: triggers_machines.on_queue,
}
