"""The store as the reconcilers ask it: by tier, by region, by namespace, with what is derived from it kept until it
changes.

Reads only. Everything handed out is a snapshot of frozen facts, so it may be kept across awaits; asking again gives the
present.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from npc_operator.api import names
from npc_operator.domain.analysis.evidence import Evidence
from npc_operator.domain.engines import Engine, build_engine
from npc_operator.domain.facts import (
    ISSUER,
    Adapter,
    AgentFact,
    Child,
    GateFact,
    GatewayFact,
    IssuerFact,
    Pod,
    Region,
    SecretFact,
    Tier,
    trial_name,
)
from npc_operator.domain.interruption.tier_view import TierInterruptions, is_unrouted
from npc_operator.domain.region import names_tier, pick_active_region
from npc_operator.loop.store import Change, Store
from npc_operator.reconcilers.concerned import is_rerouted
from npc_operator.reconcilers.evidence import LISTENING_SECONDS, Ledger, Mark
from npc_operator.reconcilers.roster import Roster
from npc_operator.reconcilers.voices import Voices
from npc_runtime.wire import Voice

NEEDED = (Region, Tier, Adapter, Pod)
"""Kinds of which a whole list must have been seen before anything is concluded from what is missing."""


@dataclass(frozen=True, slots=True)
class Door:
    """One gateway pod and its last word."""

    pod: Pod
    fact: GatewayFact | None


class World:
    """Typed, indexed reading of the store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._rosters: dict[str, Roster] = {}
        self._voices: dict[str, Voices] = {}
        self._engines: dict[tuple[str, str], tuple[Engine, ...]] = {}
        self._pairs: dict[tuple[str, str], Engine] = {}
        self._versions: dict[str, int] = {}
        self._ledger = Ledger(store)
        # One count for all namespaces: one that was forgotten and came back is at no version it had before.
        self._counter = itertools.count(1)
        # The store outlives every leadership: it must not keep the world of a past one alive.
        myself = weakref.ref(self)

        def note(change: Change) -> None:
            world = myself()
            if world is None:
                unsubscribe()
            else:
                world._note(change)  # noqa: SLF001 - its own listener

        unsubscribe = store.subscribe(note)
        self.close: Callable[[], None] = unsubscribe

    def synced(self) -> bool:
        """Whether what is missing may be taken as absent."""
        return all(self.store.synced(kind) for kind in NEEDED)

    def version(self, namespace: str) -> int:
        """Another one, and a greater one, after every change of what routes are made of in a namespace; 0 before the
        first."""
        return self._versions.get(namespace, 0)

    def roster(self, namespace: str) -> Roster:
        roster = self._rosters.get(namespace)
        if roster is None:
            roster = self._rosters[namespace] = Roster(self.store, namespace)
        return roster

    def voices(self, namespace: str, region: Region) -> tuple[Voice, ...]:
        """Every archetype that the region speaks with; the same object as long as nothing changed."""
        voices = self._voices.get(namespace)
        if voices is None:
            voices = self._voices[namespace] = Voices(self.store, namespace)
        return voices.of(region)

    def fallback_links(self, namespace: str) -> dict[str, str]:
        """Every tier with the tier that it names to speak in its place; empty for none."""
        return {name: tier.spec.fallback_tier or "" for name, tier in self.store.list(Tier, namespace).items()}

    def issuer(self) -> IssuerFact | None:
        """Who signs the cluster's service account tokens; None: not looked at yet."""
        return self.store.get(IssuerFact, "", ISSUER)

    def active_region(self, namespace: str) -> Region | None:
        """The region that holds the namespace."""
        return pick_active_region(self.store.list(Region, namespace).values())

    def region_of(self, namespace: str, tier: str) -> Region | None:
        """The active region, if it names the tier."""
        region = self.active_region(namespace)
        return region if region is not None and names_tier(region.spec, tier) else None

    def engines(self, namespace: str, tier: str) -> Sequence[Engine]:
        """All engine pods of a tier by name, whatever their state."""
        found = self._engines.get((namespace, tier))
        if found is None:
            agents = self.store.list(AgentFact, namespace)
            told = self.store.get(TierInterruptions, namespace, tier)
            found = tuple(
                self._engine(pod, agents.get(pod.name), is_unrouted(pod, told))
                for pod in sorted(self.store.list(Pod, namespace).values(), key=lambda pod: pod.name)
                if pod.component == names.COMPONENT_ENGINE and pod.tier == tier
            )
            self._engines[namespace, tier] = found
        return found

    def _engine(self, pod: Pod, agent: AgentFact | None, unrouted: bool) -> Engine:
        """The pair; the same object as long as nothing of it changed."""
        known = self._pairs.get((pod.namespace, pod.name))
        # Asked for all pods of a tier whenever one of them changed, so what did not change is not even made.
        if known is not None and known.pod is pod and known.agent is agent and known.unrouted is unrouted:
            return known
        made = build_engine(pod, agent, unrouted=unrouted)
        if known is not None and known.pod is made.pod and known.agent is made.agent and known.unrouted is unrouted:
            return known
        self._pairs[pod.namespace, pod.name] = made
        return made

    def doors(self, namespace: str, region: str) -> tuple[Door, ...]:
        """All gateway pods of a region by name."""
        facts = self.store.list(GatewayFact, namespace)
        return tuple(
            Door(pod, fact if (fact := facts.get(pod.name)) is not None and fact.pod_uid == pod.uid else None)
            for pod in sorted(self.store.list(Pod, namespace).values(), key=lambda pod: pod.name)
            if pod.component == names.COMPONENT_GATEWAY and pod.region == region
        )

    def evidence(
        self,
        namespace: str,
        archetype: str,
        tier: str,
        candidate: str,
        *,
        now: float,
        mark: Mark | None = None,
        listening: float = LISTENING_SECONDS,
    ) -> Evidence:
        """What all gateways saw of a candidate (a digest) until now; see Ledger.evidence."""
        return self._ledger.evidence(namespace, archetype, tier, candidate, now=now, mark=mark, listening=listening)

    def gate(self, namespace: str, archetype: str, tier: str, candidate: str) -> GateFact | None:
        """How far the user's own test of a candidate is; None while it has not begun."""
        return self.store.get(GateFact, namespace, trial_name(archetype, tier, candidate))

    def secret(self, namespace: str, name: str) -> SecretFact | None:
        """None: not looked at yet. An empty resource_version: it does not exist."""
        return self.store.get(SecretFact, namespace, name)

    def child(self, namespace: str, kind: str, name: str) -> Child | None:
        return self.store.get(Child, namespace, f"{kind}/{name}")

    def _note(self, change: Change) -> None:
        self._ledger.note(change)
        roster = self._rosters.get(change.namespace)
        if roster is not None:
            roster.note(change)
        voices = self._voices.get(change.namespace)
        if voices is not None:
            voices.note(change)
        if change.kind is Pod or change.kind is AgentFact:
            pod = change.new or change.old if change.kind is Pod else self.store.get(Pod, change.namespace, change.name)
            if change.new is None:
                self._pairs.pop((change.namespace, change.name), None)
            if pod is not None:
                self._engines.pop((change.namespace, pod.tier), None)
        if (change.new is None and change.kind is Tier) or change.kind is TierInterruptions:
            self._engines.pop((change.namespace, change.name), None)
        if change.kind is IssuerFact:
            for namespace in self._versions:
                self._versions[namespace] = next(self._counter)
            return
        if not any(self.store.list(kind, change.namespace) for kind in NEEDED):
            self._forget(change.namespace)
        elif _matters_to_routes(self.store, change):
            self._versions[change.namespace] = next(self._counter)

    def _forget(self, namespace: str) -> None:
        """Nothing of ours is in a namespace any more."""
        self._rosters.pop(namespace, None)
        self._voices.pop(namespace, None)
        self._versions.pop(namespace, None)
        for place in [place for place in self._engines if place[0] == namespace]:
            del self._engines[place]


def _matters_to_routes(store: Store, change: Change) -> bool:
    if change.kind is Region or change.kind is Tier:
        return change.old is None or change.new is None or change.old.spec != change.new.spec
    if change.kind is TierInterruptions:
        return is_rerouted(store, change)
    return change.kind in (Adapter, Pod, AgentFact, SecretFact)
