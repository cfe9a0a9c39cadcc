"""One look at a tier's pods: what is said of each, what others can do for it, and what follows from both.

Changes nothing but what `Hearing` remembers, so it can be asked before the first real look, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from npc_operator.api import names
from npc_operator.domain.conditions import parse_rfc3339
from npc_operator.domain.engines import OVER, Engine
from npc_operator.domain.facts import NodeFact, Pod, Tier
from npc_operator.domain.interruption.crowd import Crowd, is_going
from npc_operator.domain.interruption.joining import join
from npc_operator.domain.interruption.nodebook import SAME_SECONDS, NodeBook, read_nodes, taken_since
from npc_operator.domain.interruption.notices import Kind, Notice
from npc_operator.domain.interruption.rebalance import REPLACEMENT_SECONDS, Replacements, read_replacements
from npc_operator.domain.interruption.record import Record, read_record
from npc_operator.domain.interruption.sources.node import is_closed
from npc_operator.domain.interruption.waves import Wave, decide_wave
from npc_operator.domain.interruption.wishes import PodInterruption
from npc_operator.domain.region import tier_population
from npc_operator.domain.replicas import decide_replicas
from npc_operator.domain.routes import pick_routed
from npc_operator.manifests.engine_pod import pod_tolerations
from npc_operator.reconcilers.departures import lines_of
from npc_operator.reconcilers.hearing import SILENT_SECONDS, Hearing
from npc_operator.reconcilers.interruption_costs import Costs
from npc_operator.reconcilers.routebook import RouteBook
from npc_operator.reconcilers.world import World

PART = 2000
"""Pods that are looked at in a row: some 20 ms, where nothing is said of most of them. At each break everybody else has
a turn, which on a busy machine takes longer than the part did, and the decision waits for it. Few tiers have so many,
and those that have fewer are decided about without a break."""


@dataclass(slots=True)
class Held:
    """One tier, as far as this leadership knows it."""

    uid: str
    replacements: Replacements
    nodes: NodeBook
    costs: Costs
    begun: float
    """When this leadership began to look at it, in Unix seconds."""
    records: dict[str, Record | None] = field(default_factory=dict)
    """By pod uid: newer than what is written at the pod."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """A queue's reader and the loop may come at the same time."""
    urgent: set[str] = field(default_factory=set)
    """Uids of pods that somebody waits for, until a look begins: the next one acts on them in any case."""
    failed: dict[str, str] = field(default_factory=dict)
    """By uid: why the last look that acted on a pod that somebody waits for could not."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a tier, and what follows from it."""

    engines: Mapping[str, Engine]
    """By uid: those that something is said of, and those that are on their way out."""
    wave: Wave
    going: frozenset[str]
    ready: int
    wanted: int
    nodes: NodeBook
    forgets_at: float | None
    """When the first of what is remembered does not matter any more."""


class Looker:
    """Lives as long as one leadership."""

    def __init__(self, world: World, routes: RouteBook, hearing: Hearing) -> None:
        self._world = world
        self._routes = routes
        self._hearing = hearing
        self._routed: dict[str, tuple[object, dict[str, frozenset[str]]]] = {}

    def look(self, tier: Tier, held: Held, now: float) -> Look:
        """What is so at `now` (Unix seconds)."""
        parts = self._in_parts(tier, held, now)
        while True:
            try:
                next(parts)
            except StopIteration as end:
                return cast(Look, end.value)

    async def look_in_parts(self, tier: Tier, held: Held, now: float) -> Look:
        """The same, with others in between: thousands of pods would hold up everything else for a second. What changes
        meanwhile marks the tier again."""
        parts = self._in_parts(tier, held, now)
        while True:
            try:
                next(parts)
            except StopIteration as end:
                return cast(Look, end.value)
            await asyncio.sleep(0)

    def _in_parts(self, tier: Tier, held: Held, now: float) -> Generator[None, None, Look]:
        namespace, name = tier.meta.namespace, tier.meta.name
        engines = [engine for engine in self._world.engines(namespace, name) if engine.pod.phase not in OVER]
        stirred: dict[str, tuple[Engine, PodInterruption]] = {}
        going = {engine.pod.uid for engine in engines if engine.pod.deleting}
        nodes, replacements = held.nodes, held.replacements
        for number, engine in enumerate(engines, start=1):
            if number % PART == 0:
                yield
            pod, record = engine.pod, record_of(engine.pod, held)
            notices = self._hearing.about(engine, record, now)
            if not notices and record is None and not pod.interruption:
                continue  # as most pods of a large tier, so nothing more is made of them
            facts = self._facts(tier, engine, notices, record, now)
            said = join(facts, now)
            stirred[pod.uid] = (engine, facts)
            if facts.record is not None and facts.record.kind is Kind.REBALANCE and facts.record.replaced is not None:
                replacements = replacements.known(pod.node, facts.record.replaced)
            if said is not None and is_going(said.record, now):
                going.add(pod.uid)
                began = taken_since(facts.notices, facts.record)
                if began is not None and pod.slice == names.SLICE_SPOT and pod.node:
                    nodes = nodes.noted(pod.node, began)
        region = self._world.region_of(namespace, name)
        wanted = decide_replicas(tier.spec, None if region is None else tier_population(region.spec, name))
        many = len(engines) >= PART
        if many:
            yield
        silent = self._hearing.silent((namespace, name), engines if stirred else (), now)
        pods = self._helped(tier, engines, stirred, going, silent, wanted) if stirred else {}
        if held.begun <= now < held.begun + SILENT_SECONDS and any(map(is_unheard, engines)):
            pods = {uid: _as_written(facts) for uid, facts in pods.items()}
        if many:
            yield
        places = {uid: engine.pod.node for uid, (engine, _) in stirred.items()}
        wave = decide_wave(pods, places, replacements.current(now), now)
        remembered = max(SAME_SECONDS, tier.spec.capacity.storm.window_seconds)
        nodes = nodes.since(now - remembered)
        ends = [at + remembered for at in nodes.at.values()]
        ends += [at + REPLACEMENT_SECONDS for at in wave.replacements.at.values()]
        return Look(
            engines={uid: engine for uid, (engine, _) in stirred.items()},
            wave=wave,
            going=frozenset(going & stirred.keys()),
            ready=sum(engine.routable() and engine.pod.ready for engine in engines),
            wanted=wanted,
            nodes=nodes,
            forgets_at=min(ends, default=None),
        )

    def _facts(
        self, tier: Tier, engine: Engine, notices: tuple[Notice, ...], record: Record | None, now: float
    ) -> PodInterruption:
        """What is known of one pod alone; what others can do for it comes later."""
        asks = tier.spec.interruption.agent_metadata != "Off"
        heard = self._world.store.synced(NodeFact) and not self._hearing.is_off_the_cluster(engine.pod)
        return PodInterruption(
            notices=notices,
            known=heard and (engine.agent is not None or not asks),
            created=parse_rfc3339(engine.pod.created),
            record=record,
            deleting=engine.pod.deleting,
            node_closed=False,
            others_can_take=False,
            covered=False,
            lines=None,
            replacement_ready=False,
            rebalance_at=now,
        )

    def _helped(
        self,
        tier: Tier,
        engines: list[Engine],
        stirred: Mapping[str, tuple[Engine, PodInterruption]],
        going: set[str],
        silent: set[str],
        wanted: int,
    ) -> dict[str, PodInterruption]:
        """The pods that something is said of, with what others, and their nodes, mean for them."""
        namespace, name = tier.meta.namespace, tier.meta.name
        active = self._world.active_region(namespace)
        region = "" if active is None else active.meta.name
        doors = None if active is None else self._world.doors(namespace, region)
        crowd = Crowd(
            engines,
            going=going,
            silent=silent,
            routed=self._routed_names(namespace, name),
            wanted_names=self._world.roster(namespace).names(name),
            wanted=wanted,
        )
        pods = {}
        for uid, (engine, facts) in stirred.items():
            found = crowd.help_for(engine)
            pods[uid] = replace(
                facts,
                node_closed=self._closed(tier, engine.pod),
                others_can_take=found.others_can_take,
                covered=found.covered,
                lines=lines_of(engine.pod, region=region, doors=doors, routes=self._routes),
                replacement_ready=found.replacement_ready,
            )
        return pods

    def _closed(self, tier: Tier, pod: Pod) -> bool:
        # Where nodes may not be seen, none is known, and one that is not known is not closed.
        store = self._world.store
        if not (pod.node and store.synced(NodeFact) and store.count(NodeFact)):
            return False
        return is_closed(self._hearing.node(pod), pod_tolerations(tier.spec, pod.slice))

    def _routed_names(self, namespace: str, tier: str) -> frozenset[str]:
        aliases = self._world.roster(namespace).aliases()
        known = self._routed.get(namespace)
        if known is None or known[0] is not aliases:
            known = self._routed[namespace] = (aliases, pick_routed(aliases))
        return known[1].get(tier, frozenset())


def begin(tier: Tier, now: float) -> Held:
    """From what the tier's status says."""
    status = tier.status.interruptions
    return Held(
        uid=tier.meta.uid,
        replacements=read_replacements(status.replacements),
        nodes=read_nodes(status.nodes),
        costs=Costs(status),
        begun=now,
    )


def is_unheard(engine: Engine) -> bool:
    """Whether a pod that serves, as far as is known, was never heard by this leader."""
    return engine.agent is None and engine.routable()


def _as_written(facts: PodInterruption) -> PodInterruption:
    """For as long as a new leader hears who holds what, others take the lines that they took when the last one looked.
    It is no longer than an agent may be silent, because they may be gone."""
    record = facts.record
    return facts if record is None or record.unrouted is None else replace(facts, others_can_take=True)


def record_of(pod: Pod, held: Held) -> Record | None:
    """How far a pod had come at the last look, or as it is written."""
    return held.records[pod.uid] if pod.uid in held.records else read_record(pod.interruption)
