"""Pods whose nodes go away: heard, decided together for each tier, and carried out.

First of all everybody else is told (`TierInterruptions` in the store): routes leave such pods out, placement brings
their adapters elsewhere, the tier makes others in their place. Then how far each pod has come is written at the pod,
then Events say it, and at last pods are evicted. A leader that ends anywhere in between is followed by one that reads
the same notes and comes to the same: nothing here is a command, and nothing is done because it was remembered.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Set

from npc_operator.api import names
from npc_operator.domain.engines import OVER
from npc_operator.domain.facts import NodeFact, Pod, Tier
from npc_operator.domain.interruption.heardbook import is_heard, read_heard, write_heard
from npc_operator.domain.interruption.notices import Notice
from npc_operator.domain.interruption.queues import NOT_NOTED, UNKNOWN_MACHINE
from npc_operator.domain.interruption.record import read_record
from npc_operator.domain.interruption.tier_view import TierInterruptions, build_view
from npc_operator.domain.interruption.visibility import NODES, NodesFact
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.domain.outcomes import Done, Outcome, Retry, Wait
from npc_operator.ports import Clock, Kube, Meter, PortError, Recorder, Unsettled
from npc_operator.reconcilers import events
from npc_operator.reconcilers.changes import node_of
from npc_operator.reconcilers.hearing import Hearing
from npc_operator.reconcilers.interruption_acts import Acts, Result, Wish
from npc_operator.reconcilers.interruption_look import Held, Look, Looker, begin, record_of
from npc_operator.reconcilers.routebook import RouteBook
from npc_operator.reconcilers.world import World

logger = logging.getLogger(__name__)

GOING_LOOK_SECONDS = 1.0
"""While pods go: whoever wakes this key is one fact of many, and a second is what lines may wait."""
ERROR_LOOK_SECONDS = 2.0
"""After a write that failed, while pods go."""
COST_LOOK_SECONDS = 5.0
CALM_LOOK_SECONDS = 30.0
"""While something is said that does not press."""


class Interruptions:
    """All tiers of one leadership. Implements ports.Listener."""

    def __init__(
        self, world: World, routes: RouteBook, *, kube: Kube, recorder: Recorder, meter: Meter, clock: Clock
    ) -> None:
        self._world = world
        self._clock = clock
        self._meter = meter
        self._recorder = recorder
        self._hearing = Hearing(world.store, strange=meter.node_word_ignored)
        self._looker = Looker(world, routes, self._hearing)
        self._acts = Acts(kube=kube, recorder=recorder, meter=meter, clock=clock)
        self._held: dict[tuple[str, str], Held] = {}
        for namespace, name, _ in world.store.items(TierInterruptions):
            world.store.drop(TierInterruptions, namespace, name)  # of an earlier leadership of this process

    def of_tier(self, key: Key) -> TierInterruptions:
        """What a tier has to know. Before the first look at it: what the notes at its pods say."""
        told = self._world.store.get(TierInterruptions, key.namespace, key.name)
        tier = self._world.store.get(Tier, key.namespace, key.name)
        if told is not None or tier is None:
            return told or TierInterruptions()
        held, now = self._begin(tier), self._clock.now()
        return self._tell(tier, held, self._looker.look(tier, held, now), now)

    async def hear(self, notice: Notice, *, namespaces: frozenset[str] | None = None) -> None:
        """ports.Listener: what a queue said of a machine."""
        store = self._world.store
        if not (self._world.synced() and store.synced(NodeFact)):
            raise PortError("which pods are on which machine is not known yet", reason="NotSynced")
        nodes = store.get(NodesFact, "", NODES)
        if nodes is not None and nodes.hidden:
            raise PortError("nodes may not be seen, so nobody knows which pods are on that machine", reason="NotSynced")
        self._hearing.hold(notice, namespaces)
        machines = () if notice.instance is None else store.having(NodeFact, "", instance_of, notice.instance)
        if not machines:
            raise Unsettled("no node of that machine is listed", reason=UNKNOWN_MACHINE)
        tiers = {
            (namespace, pod.tier)
            for namespace in list(store.namespaces(Pod))
            if namespaces is None or namespace in namespaces
            for machine in machines
            for pod in engines_on(self._world, namespace, machine)
        }
        for namespace, tier in sorted(tiers):
            pods = {pod.uid for machine in machines for pod in engines_on(self._world, namespace, machine)}
            _, errors = await self._step(Key(KeyKind.INTERRUPTIONS, namespace, tier), pods)
            if errors:
                raise PortError("; ".join(errors[:3]), reason="NotWritten")
        for namespace, name in sorted(tiers):
            found = store.get(Tier, namespace, name)
            if found is not None and found.spec.suspend and not is_heard(found.status.interruptions.heard, notice):
                # Its status is written by whoever looks after the tier; when this is said again, it is there.
                raise Unsettled("what was said is not in the tier's status yet", reason=NOT_NOTED)

    async def reconcile(self, key: Key) -> Outcome:
        """One look at a tier, and one step for each of its pods that goes."""
        if not self._world.synced():
            return Wait("the store is being filled", 1.0)
        wait, errors = await self._step(key, frozenset())
        if not errors:
            return Done(requeue_after=wait)
        error = "; ".join(errors[:3])
        if wait is None or wait > ERROR_LOOK_SECONDS:
            return Retry(error)
        # A backoff that grows would let pods go unlooked at while their time runs out.
        logger.warning("not all is done about pods that go: %s", error, extra={"key": str(key)})
        return Done(requeue_after=ERROR_LOOK_SECONDS)

    async def _step(self, key: Key, first: Set[str]) -> tuple[float | None, list[str]]:
        """Look and act, on the pods of the uids `first` in any case: by a look of one's own, or by one that began
        meanwhile, because a queue's messages come by the hundred when a zone goes. Returns after how many seconds to
        come again, and what could not be done."""
        world = self._world
        tier = world.store.get(Tier, key.namespace, key.name)
        if tier is None:
            gone = self._held.pop((key.namespace, key.name), None)
            if gone is not None:
                self._hearing.forget(gone.records)
                self._hearing.forget_tier((key.namespace, key.name))
                self._acts.forget(gone.records)
            world.store.drop(TierInterruptions, key.namespace, key.name)
            return None, []
        held = self._held.get((key.namespace, key.name))
        if held is None or held.uid != tier.meta.uid:
            held = self._held[key.namespace, key.name] = self._begin(tier)
        held.urgent |= first
        async with held.lock:
            if first and not held.urgent & first:
                return None, [held.failed[uid] for uid in sorted(first) if uid in held.failed]
            urgent = frozenset(held.urgent)
            held.urgent.clear()
            try:
                wait, errors = await self._work(key, held, urgent)
            except BaseException:
                held.urgent |= urgent  # nobody may think that this look acted on them
                raise
        return wait, errors if not first else [held.failed[uid] for uid in sorted(first) if uid in held.failed]

    async def _work(self, key: Key, held: Held, first: Set[str]) -> tuple[float | None, list[str]]:
        now, tier = self._clock.now(), self._present(key, held)
        look = None if tier is None else await self._looker.look_in_parts(tier, held, now)
        tier = self._present(key, held)
        if tier is None or look is None:
            return None, []  # deleted meanwhile: what was known of it is dropped already, or will be
        held.replacements, held.nodes = look.wave.replacements, look.nodes
        before = {uid: record_of(engine.pod, held) for uid, engine in look.engines.items()}
        self._keep_records(tier, held, look)
        self._account(tier, held, look, now)
        self._world.store.put(TierInterruptions, tier.meta.namespace, tier.meta.name, self._tell(tier, held, look, now))
        done = Result()
        if _may_act(tier):
            wishes = [Wish(engine.pod, before[uid], look.wave.steps[uid]) for uid, engine in look.engines.items()]
            done = await self._acts.carry_out(wishes, first=first)
        held.failed = {uid: error for uid, error in held.failed.items() if uid not in first}
        held.failed |= {uid: error for uid, error in done.failed.items() if uid in first}
        return self._wait(held, look, now, done), list(done.failed.values())

    def _present(self, key: Key, held: Held) -> Tier | None:
        """The tier as it is now: while others acted on its pods it may have been suspended, or deleted."""
        tier = self._world.store.get(Tier, key.namespace, key.name)
        return tier if tier is not None and tier.meta.uid == held.uid else None

    def _wait(self, held: Held, look: Look, now: float, done: Result) -> float | None:
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

    # --- remembering and telling ---

    def _begin(self, tier: Tier) -> Held:
        for notice in read_heard(tier.status.interruptions.heard):
            self._hearing.hold(notice, frozenset({tier.meta.namespace}))
        return begin(tier, self._clock.now())

    def _tell(self, tier: Tier, held: Held, look: Look, now: float) -> TierInterruptions:
        pods = {uid: engine.pod for uid, engine in look.engines.items()}
        steps, books = look.wave.steps, look.wave.replacements
        status = held.costs.tell(
            pods=len(pods),
            unrouted=sum(steps[uid].unroute for uid in pods),
            nodes=look.nodes.write(),
            replacements=books.write() if books.at else "",
            heard=self._unwritten(tier, pods.values(), now),
        )
        return build_view(pods, steps, nodes=look.nodes, status=status, acts=_may_act(tier))

    def _unwritten(self, tier: Tier, pods: Iterable[Pod], now: float) -> str:
        """What queues said that is not written at the pods it concerns: all of it while the tier is suspended, and once
        it is not, until that has been made up for."""
        before = {notice.key for notice in read_heard(tier.status.interruptions.heard)}
        if not (tier.spec.suspend or before):
            return ""
        return write_heard(
            notice
            for pod in pods
            for notice in self._hearing.queued(pod, now)
            if tier.spec.suspend or (notice.key in before and not _holds_a_word(pod))
        )

    def _keep_records(self, tier: Tier, held: Held, look: Look) -> None:
        here = {engine.pod.uid: engine.pod for engine in self._world.engines(tier.meta.namespace, tier.meta.name)}
        gone = held.records.keys() - here.keys()
        for uid in gone:
            del held.records[uid]
            held.failed.pop(uid, None)
        self._hearing.forget(gone)
        self._acts.forget(gone)
        for uid, steps in look.wave.steps.items():
            held.records[uid] = steps.record

    def _account(self, tier: Tier, held: Held, look: Look, now: float) -> None:
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
    """The engine pods of a namespace that are on a node and not over."""
    for name in world.store.having(Pod, namespace, node_of, node):
        pod = world.store.get(Pod, namespace, name)
        if pod is not None and pod.component == names.COMPONENT_ENGINE and pod.phase not in OVER:
            yield pod


def _may_act(tier: Tier) -> bool:
    return not tier.spec.suspend and tier.meta.deletion_timestamp is None


def _holds_a_word(pod: Pod) -> bool:
    """Whether something that a queue said is written at the pod."""
    record = read_record(pod.interruption)
    return record is not None and record.held_until is not None
