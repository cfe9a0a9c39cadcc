"""One engine pod: hand its agent the whole set of adapters that must be resident there, whenever that set is another
than the one it has.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from npc_operator.api import names
from npc_operator.domain.desired import differ_in_marks_alone, fit_kept, keep_entry, pick_kept
from npc_operator.domain.engines import build_engine
from npc_operator.domain.facts import AgentFact, Pod, Tier
from npc_operator.domain.holdings import Held
from npc_operator.domain.keys import Key
from npc_operator.domain.outcomes import Done, Outcome, Retry, Wait
from npc_operator.ports import PortError, StaleLeader
from npc_operator.reconcilers.context import Context
from npc_runtime.wire import DesiredAdapter, DesiredSet, Stamp

KEPT_LOOK_SECONDS = 1.0
"""How soon to ask again whether gateways have left what is only kept for them (their reports wake this key earlier)."""
UNHEARD_LOOK_SECONDS = 30.0
MARKS_SECONDS = 2.0
"""How long after an order the next one waits if it would only mark what traffic goes to now. An agent needs the mark
when its pod starts, and a pod that starts is handed everything anew; at once, a thousand adapters that become stable
one by one would be hundreds of orders to every pod, each with all thousand in it."""


@dataclass(frozen=True, slots=True)
class _Handed:
    """The last order an agent took from this leader."""

    uid: str
    boot_id: str
    entries: tuple[DesiredAdapter, ...]
    stamp: Stamp
    at: float


class AgentReconciler:
    """Remembers what each agent was handed by this leader, so that an unchanged set is not sent again."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._handed: dict[tuple[str, str], _Handed] = {}
        self._orders: dict[tuple[str, str], tuple[tuple[DesiredAdapter, ...], DesiredSet]] = {}

    def forget_tier(self, namespace: str, name: str) -> None:
        """The tier is gone: its order, credentials included, is kept for no pod any more."""
        self._orders.pop((namespace, name), None)

    async def reconcile(self, key: Key) -> Outcome:
        world = self._context.world
        if not world.synced():
            return Wait("the store is being filled", 1.0)
        pod = world.store.get(Pod, key.namespace, key.name)
        agent = world.store.get(AgentFact, key.namespace, key.name)
        if pod is None or pod.component != names.COMPONENT_ENGINE:
            self._handed.pop((key.namespace, key.name), None)
            self._context.orders.forget(key.namespace, key.name)
            return Done()
        if pod.deleting or not pod.ip or agent is None or agent.pod_uid != pod.uid:
            return Done()  # what an agent has is unknown until it is heard, and its first word wakes this key
        if not agent.reachable:
            # A push would only wait for its time limit, and so keep others from running; being heard wakes this key.
            return Wait(f"the agent of {pod.name} is not heard", UNHEARD_LOOK_SECONDS)
        if world.store.get(Tier, key.namespace, pod.tier) is None:
            return Done()  # the tier is going away or not known: change nothing on its pods
        entries, waiting = self._decide(key.namespace, pod, agent)
        outcome = await self._hand_over(key, pod, agent, entries)
        return (
            outcome
            if not (waiting and outcome == Done())
            else Wait("gateways still use an old adapter", KEPT_LOOK_SECONDS)
        )

    def _decide(self, namespace: str, pod: Pod, agent: AgentFact) -> tuple[tuple[DesiredAdapter, ...], bool]:
        """The pod's set, and whether something in it is only kept for a while."""
        world, tier = self._context.world, pod.tier
        roster = world.roster(namespace)
        spread = roster.placement(tier).where is not None

        def pick(wanted: Set[str]) -> tuple[Held, ...]:
            return pick_kept(
                agent,
                wanted,
                routed=lambda name: self._is_needed(namespace, pod, name, spread=spread),
                unsettled=lambda archetype: roster.unsettled(tier, archetype),
            )

        if not spread and not pick(roster.names(tier)):
            return roster.entries(tier), False
        kept, entries = fit_kept(pick, lambda count: roster.share_of(tier, pod.name, agent, count))
        if not kept:
            return entries, False
        extra = tuple(keep_entry(report, roster.uri_of(report.archetype, report.digest)) for report in kept)
        return (*extra, *entries), True

    def _is_needed(self, namespace: str, pod: Pod, name: str, *, spread: bool) -> bool:
        """Whether something that the pod should not have any more has to stay: no pod where it belongs has proven it,
        or a gateway may still use what belongs nowhere."""
        world, tier = self._context.world, pod.tier
        homes = world.roster(namespace).placed_on(tier, name) if spread else None
        if homes is None:
            return self._context.routes.may_be_used(namespace, tier, name)
        return not any(
            engine.pod.name in homes and engine.counts() and engine.proven(name)
            for engine in world.engines(namespace, tier)
        )

    async def _hand_over(self, key: Key, pod: Pod, agent: AgentFact, entries: tuple[DesiredAdapter, ...]) -> Outcome:
        context = self._context
        handed = self._handed.get((key.namespace, key.name))
        # A newer order than ours was given by another leader: going on as if ours held would hide that.
        if (
            handed is not None
            and (handed.uid, handed.boot_id) == (pod.uid, agent.boot_id)
            and agent.stamp.order() <= handed.stamp.order()
        ):
            if handed.entries is entries or handed.entries == entries:
                return Done()
            wait = handed.at + MARKS_SECONDS - context.clock.monotonic()
            if wait > 0 and differ_in_marks_alone(handed.entries, entries):
                return Done(requeue_after=wait)
        for attempt in range(2):
            given = max(agent.stamp.order(), handed.stamp.order() if handed is not None else (0, 0))
            desired = self._order(key.namespace, pod.tier, entries, given)
            # Before it is sent: it may be obeyed while the answer is under way.
            context.orders.note(build_engine(pod, agent), entries, desired.stamp)
            # Until it answers it may go by this order or by the last: even a set it had before is then sent again.
            self._handed.pop((key.namespace, key.name), None)
            try:
                accepted = await context.agents.push(key.namespace, pod.ip, desired, pod_uid=pod.uid)
            except StaleLeader as stale:
                if attempt or not await context.stamps.outrank(stale.current):
                    return Retry(f"the agent of {pod.name} follows another leader")
                self._orders.clear()
                continue
            except PortError as error:
                return Retry(f"the agent of {pod.name}: {error}")
            at = context.clock.monotonic()
            self._handed[key.namespace, key.name] = _Handed(pod.uid, accepted.boot_id, entries, desired.stamp, at)
            return Done()
        return Retry(f"the agent of {pod.name} refused twice")

    def _order(
        self, namespace: str, tier: str, entries: tuple[DesiredAdapter, ...], given: tuple[int, int]
    ) -> DesiredSet:
        """The set as an order newer than what the agent was given. Pods that get the same set get the same order, so
        that it is built and serialised once for all of them."""
        made = self._orders.get((namespace, tier))
        if made is not None and made[0] is entries and made[1].stamp.order() > given:
            return made[1]
        desired = DesiredSet(stamp=self._context.stamps.next(), adapters=entries)
        self._orders[namespace, tier] = (entries, desired)
        return desired
