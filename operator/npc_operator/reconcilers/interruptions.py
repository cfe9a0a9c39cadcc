"""Pods whose nodes go away: heard, decided together for each tier, and carried out.

First of all everybody else is told (`TierInterruptions` in the store): routes leave such pods out, placement brings
their adapters elsewhere, the tier makes others in their place. Then how far each pod has come is written at the pod,
then Events say it, and at last pods are evicted. A leader that ends anywhere in between is followed by one that reads
the same notes and comes to the same: nothing here is a command, and nothing is done because it was remembered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace

from npc_operator.api import names
from npc_operator.domain.engines import OVER, Engine
from npc_operator.domain.facts import NodeFact, Pod, Tier
from npc_operator.domain.interruption.crowd import Crowd, is_going
from npc_operator.domain.interruption.joining import join
from npc_operator.domain.interruption.nodebook import SAME_SECONDS, NodeBook, read_nodes
from npc_operator.domain.interruption.notices import Kind, Notice
from npc_operator.domain.interruption.rebalance import REPLACEMENT_SECONDS, Replacements, read_replacements
from npc_operator.domain.interruption.record import Record, read_record
from npc_operator.domain.interruption.sources.node import is_closed
from npc_operator.domain.interruption.tier_view import TierInterruptions, build_view
from npc_operator.domain.interruption.visibility import NODES, NodesFact
from npc_operator.domain.interruption.waves import Wave, decide_wave
from npc_operator.domain.interruption.wishes import PodInterruption
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.domain.outcomes import Done, Outcome, Retry, Wait
from npc_operator.domain.region import tier_population
from npc_operator.domain.replicas import decide_replicas
from npc_operator.domain.routes import pick_routed
from npc_operator.manifests.engine_pod import pod_tolerations
from npc_operator.ports import Clock, Kube, Meter, PortError, Recorder
from npc_operator.reconcilers import events
from npc_operator.reconcilers.changes import node_of
from npc_operator.reconcilers.departures import lines_of
from npc_operator.reconcilers.hearing import Hearing, is_about_node
from npc_operator.reconcilers.interruption_acts import Acts, Result, Wish
from npc_operator.reconcilers.interruption_costs import Costs
from npc_operator.reconcilers.routebook import RouteBook
from npc_operator.reconcilers.world import World

GOING_LOOK_SECONDS = 1.0
"""While pods go: whoever wakes this key is one fact of many, and a second is what lines may wait."""
COST_LOOK_SECONDS = 5.0
CALM_LOOK_SECONDS = 30.0
"""While something is said that does not press."""


@dataclass(slots=True)
class _Held:
    """One tier, as far as this leadership knows it."""

    uid: str
    replacements: Replacements
    nodes: NodeBook
    costs: Costs
    records: dict[str, Record | None] = field(default_factory=dict)
    """By pod uid: newer than what is written at the pod."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """A queue's reader and the loop may come at the same time."""


@dataclass(frozen=True, slots=True)
class _Look:
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


class Interruptions:
    """All tiers of one leadership. Implements ports.Listener."""

    def __init__(
        self, world: World, routes: RouteBook, *, kube: Kube, recorder: Recorder, meter: Meter, clock: Clock
    ) -> None:
        self._world = world
        self._clock = clock
        self._meter = meter
        self._recorder = recorder
        self._hearing = Hearing(world.store)
        self._routes = routes
        self._acts = Acts(kube=kube, recorder=recorder, meter=meter, clock=clock)
        self._held: dict[tuple[str, str], _Held] = {}
        self._routed: dict[str, tuple[object, dict[str, frozenset[str]]]] = {}
        for namespace, name, _ in world.store.items(TierInterruptions):
            world.store.drop(TierInterruptions, namespace, name)  # of an earlier leadership of this process

    def of_tier(self, key: Key) -> TierInterruptions:
        """What a tier has to know. Before the first look at it: what the notes at its pods say."""
        told = self._world.store.get(TierInterruptions, key.namespace, key.name)
        tier = self._world.store.get(Tier, key.namespace, key.name)
        if told is not None or tier is None:
            return told or TierInterruptions()
        held, now = _begin(tier), self._clock.now()
        return _tell(tier, held, self._look(tier, held, now))

    async def hear(self, notice: Notice, *, namespaces: frozenset[str] | None = None) -> None:
        """ports.Listener: what a queue said of a machine."""
        store = self._world.store
        if not (self._world.synced() and store.synced(NodeFact)):
            raise PortError("which pods are on which machine is not known yet", reason="NotSynced")
        nodes = store.get(NodesFact, "", NODES)
        if nodes is not None and nodes.hidden:
            raise PortError("nodes may not be seen, so nobody knows which pods are on that machine", reason="NotSynced")
        machines = () if notice.instance is None else store.having(NodeFact, "", instance_of, notice.instance)
        if not machines:
            return
        self._hearing.hold(notice, namespaces)
        tiers = {
            (namespace, pod.tier)
            for namespace in list(store.namespaces(Pod))
            if namespaces is None or namespace in namespaces
            for machine in machines
            for pod in engines_on(self._world, namespace, machine)
        }
        for namespace, tier in sorted(tiers):
            pods = {pod.uid for machine in machines for pod in engines_on(self._world, namespace, machine)}
            outcome = await self.reconcile(Key(KeyKind.INTERRUPTIONS, namespace, tier), first=pods)
            if isinstance(outcome, Retry):
                raise PortError(outcome.error, reason="NotWritten")

    async def reconcile(self, key: Key, *, first: Set[str] = frozenset()) -> Outcome:
        """One look at a tier, and one step for each of its pods that goes, those of the uids `first` in any case."""
        world = self._world
        if not world.synced():
            return Wait("the store is being filled", 1.0)
        tier = world.store.get(Tier, key.namespace, key.name)
        if tier is None:
            self._held.pop((key.namespace, key.name), None)
            world.store.drop(TierInterruptions, key.namespace, key.name)
            return Done()
        held = self._held.get((key.namespace, key.name))
        if held is None or held.uid != tier.meta.uid:
            held = self._held[key.namespace, key.name] = _begin(tier)
        async with held.lock:
            return await self._work(tier, held, first)

    async def _work(self, tier: Tier, held: _Held, first: Set[str]) -> Outcome:
        now = self._clock.now()
        look = self._look(tier, held, now)
        held.replacements, held.nodes = look.wave.replacements, look.nodes
        before = {uid: _record_of(engine.pod, held) for uid, engine in look.engines.items()}
        self._keep_records(tier, held, look)
        self._account(tier, held, look, now)
        self._world.store.put(TierInterruptions, tier.meta.namespace, tier.meta.name, _tell(tier, held, look))
        done = Result()
        if _may_act(tier):
            wishes = [Wish(engine.pod, before[uid], look.wave.steps[uid]) for uid, engine in look.engines.items()]
            done = await self._acts.carry_out(wishes, first=first)
        if done.errors:
            return Retry("; ".join(done.errors[:3]))
        return Done(requeue_after=self._wait(held, look, now, done))

    def _wait(self, held: _Held, look: _Look, now: float, done: Result) -> float | None:
        times = [] if look.wave.wake_at is None else [max(0.05, look.wave.wake_at - now)]
        if done.more:
            times.append(0.0)
        if done.blocked or look.going:
            times.append(GOING_LOOK_SECONDS)
        if held.costs.open:
            times.append(COST_LOOK_SECONDS)
        if look.engines:
            times.append(CALM_LOOK_SECONDS)
        if look.forgets_at is not None:
            times.append(max(1.0, look.forgets_at - now))
        return min(times, default=None)

    # --- seeing and deciding ---

    def _look(self, tier: Tier, held: _Held, now: float) -> _Look:
        namespace, name = tier.meta.namespace, tier.meta.name
        engines = [engine for engine in self._world.engines(namespace, name) if engine.pod.phase not in OVER]
        stirred: dict[str, tuple[Engine, PodInterruption]] = {}
        going = {engine.pod.uid for engine in engines if engine.pod.deleting}
        nodes, replacements = held.nodes, held.replacements
        for engine in engines:
            pod, facts = engine.pod, self._facts(tier, engine, held, now)
            said = join(facts, now)
            if said is None and facts.record is None and not pod.interruption:
                continue
            stirred[pod.uid] = (engine, facts)
            if facts.record is not None and facts.record.kind is Kind.REBALANCE and facts.record.replaced is not None:
                replacements = replacements.known(pod.node, facts.record.replaced)
            if said is not None and is_going(said.record, now):
                going.add(pod.uid)
                if pod.slice == names.SLICE_SPOT and pod.node and any(map(is_about_node, facts.notices)):
                    nodes = nodes.noted(pod.node, said.record.since)
        region = self._world.region_of(namespace, name)
        wanted = decide_replicas(tier.spec, None if region is None else tier_population(region.spec, name))
        pods = self._helped(tier, engines, stirred, going, wanted) if stirred else {}
        places = {uid: engine.pod.node for uid, (engine, _) in stirred.items()}
        wave = decide_wave(pods, places, replacements.current(now), now)
        remembered = max(SAME_SECONDS, tier.spec.capacity.storm.window_seconds)
        nodes = nodes.since(now - remembered)
        ends = [at + remembered for at in nodes.at.values()]
        ends += [at + REPLACEMENT_SECONDS for at in wave.replacements.at.values()]
        return _Look(
            engines={uid: engine for uid, (engine, _) in stirred.items()},
            wave=wave,
            going=frozenset(going & stirred.keys()),
            ready=sum(engine.routable() and engine.pod.ready for engine in engines),
            wanted=wanted,
            nodes=nodes,
            forgets_at=min(ends, default=None),
        )

    def _facts(self, tier: Tier, engine: Engine, held: _Held, now: float) -> PodInterruption:
        """What is known of one pod alone; what others can do for it comes later."""
        record = _record_of(engine.pod, held)
        asks = tier.spec.interruption.agent_metadata != "Off"
        return PodInterruption(
            notices=self._hearing.about(engine, record, now),
            known=self._world.store.synced(NodeFact) and (engine.agent is not None or not asks),
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

    # --- remembering and telling ---

    def _keep_records(self, tier: Tier, held: _Held, look: _Look) -> None:
        here = {engine.pod.uid: engine.pod for engine in self._world.engines(tier.meta.namespace, tier.meta.name)}
        gone = held.records.keys() - here.keys()
        for uid in gone:
            del held.records[uid]
        self._hearing.forget(gone)
        self._acts.forget(gone)
        for uid, steps in look.wave.steps.items():
            held.records[uid] = steps.record

    def _account(self, tier: Tier, held: _Held, look: _Look, now: float) -> None:
        namespace, name = tier.meta.namespace, tier.meta.name
        region = self._world.region_of(namespace, name)
        doors = (
            ()
            if region is None or not (look.going or held.costs.open)
            else self._world.doors(namespace, region.meta.name)
        )
        bill = held.costs.look(name, doors, ready=look.ready, target=look.wanted, leaving=len(look.going), now=now)
        if bill.lost or bill.rerouted or bill.downgraded or bill.seconds:
            self._meter.interruption_cost(
                namespace,
                name,
                lost=bill.lost,
                rerouted=bill.rerouted,
                downgraded=bill.downgraded,
                seconds_below_target=bill.seconds,
            )
        if bill.over is not None:
            ref = events.object_ref(names.KIND_TIER, tier.meta)
            events.emit(self._recorder, ref, events.interruption_over(bill.over.words()))


def instance_of(node: NodeFact) -> str | None:
    return node.instance


def engines_on(world: World, namespace: str, node: str) -> Iterable[Pod]:
    """The engine pods of a namespace that are on a node."""
    for name in world.store.having(Pod, namespace, node_of, node):
        pod = world.store.get(Pod, namespace, name)
        if pod is not None and pod.component == names.COMPONENT_ENGINE:
            yield pod


def _begin(tier: Tier) -> _Held:
    """From what the tier's status says."""
    status = tier.status.interruptions
    return _Held(
        uid=tier.meta.uid,
        replacements=read_replacements(status.replacements),
        nodes=read_nodes(status.nodes),
        costs=Costs(status),
    )


def _record_of(pod: Pod, held: _Held) -> Record | None:
    return held.records[pod.uid] if pod.uid in held.records else read_record(pod.interruption)


def _may_act(tier: Tier) -> bool:
    return not tier.spec.suspend and tier.meta.deletion_timestamp is None


def _tell(tier: Tier, held: _Held, look: _Look) -> TierInterruptions:
    pods = {uid: engine.pod for uid, engine in look.engines.items()}
    steps, books = look.wave.steps, look.wave.replacements
    status = held.costs.tell(
        pods=len(pods),
        unrouted=sum(steps[uid].unroute for uid in pods),
        nodes=look.nodes.write(),
        replacements=books.write() if books.at else "",
    )
    return build_view(pods, steps, recent=look.nodes.times(), status=status, acts=_may_act(tier))
