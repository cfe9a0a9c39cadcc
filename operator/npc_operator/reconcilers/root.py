"""From a key to the reconciler that knows it: the one entrance the loop uses. One instance per leadership."""

from __future__ import annotations

from typing import assert_never

from npc_operator.api import names
from npc_operator.domain.facts import Tier, Unreadable
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.domain.outcomes import Outcome
from npc_operator.loop.store import Store
from npc_operator.manifests.network import OperatorPeer
from npc_operator.ports import Outside
from npc_operator.reconcilers.adapter import reconcile_adapter
from npc_operator.reconcilers.agent import AgentReconciler
from npc_operator.reconcilers.children import Children
from npc_operator.reconcilers.context import Context
from npc_operator.reconcilers.crashes import CrashWatch
from npc_operator.reconcilers.degradation import DegradationWatch
from npc_operator.reconcilers.gates import GateReconciler
from npc_operator.reconcilers.gateway import reconcile_gateway
from npc_operator.reconcilers.interruptions import Interruptions
from npc_operator.reconcilers.namespace import reconcile_namespace
from npc_operator.reconcilers.node_pools import NodePoolsReconciler
from npc_operator.reconcilers.orders import OrderBook
from npc_operator.reconcilers.publisher import Publisher
from npc_operator.reconcilers.region import reconcile_region
from npc_operator.reconcilers.routebook import RouteBook
from npc_operator.reconcilers.routes import RoutesReconciler
from npc_operator.reconcilers.tier import reconcile_tier
from npc_operator.reconcilers.turnbook import TurnBook
from npc_operator.reconcilers.unreadable import report_unreadable
from npc_operator.reconcilers.world import World

OBJECT_KINDS = {
    KeyKind.REGION: names.KIND_REGION,
    KeyKind.TIER: names.KIND_TIER,
    KeyKind.ADAPTER: names.KIND_ADAPTER,
}


class Reconcilers:
    """Everything that is done about a key. Safe to cancel at any await: whatever was half done is seen and finished by
    the next run.
    """

    def __init__(self, store: Store, outside: Outside, *, operator: OperatorPeer | None = None) -> None:
        self._world = World(store)
        routes = RouteBook(self._world, outside.stamps, outside.clock)
        self.interruptions = Interruptions(
            self._world,
            routes,
            kube=outside.kube,
            recorder=outside.recorder,
            meter=outside.meter,
            clock=outside.clock,
        )
        """Also whom readers of queues tell what they read (ports.Listener)."""
        self._context = Context(
            world=self._world,
            kube=outside.kube,
            agents=outside.agents,
            gateways=outside.gateways,
            recorder=outside.recorder,
            meter=outside.meter,
            clock=outside.clock,
            stamps=outside.stamps,
            images=outside.images,
            operator=operator,
            publisher=Publisher(outside.kube, outside.recorder, outside.clock, store),
            children=Children(outside.kube, self._world, outside.recorder),
            routes=routes,
            orders=OrderBook(),
            turns=TurnBook(store),
            crashes=CrashWatch(),
            degradation=DegradationWatch(self._world, routes, outside.clock),
            interruptions=self.interruptions,
        )
        self._agent = AgentReconciler(self._context)
        self._routes = RoutesReconciler(self._context)
        self._gates = GateReconciler(self._context)
        self._node_pools = NodePoolsReconciler(self._context, outside.groups)

    def close(self) -> None:
        """Stop listening to the store; the instance must not be used any more."""
        self._world.close()

    async def reconcile(self, key: Key) -> Outcome:
        """Bring what the key names closer to what is wanted. Raises nothing but PortError and bugs."""
        kind = OBJECT_KINDS.get(key.kind)
        if kind is not None:
            unreadable = self._world.store.get(Unreadable, key.namespace, f"{kind}/{key.name}")
            if unreadable is not None:
                return await report_unreadable(self._context, unreadable)
        match key.kind:
            case KeyKind.NAMESPACE:
                return await reconcile_namespace(self._context, key)
            case KeyKind.REGION:
                return await reconcile_region(self._context, key)
            case KeyKind.TIER:
                if self._world.store.get(Tier, key.namespace, key.name) is None:
                    self._agent.forget_tier(key.namespace, key.name)
                return await reconcile_tier(self._context, key)
            case KeyKind.ADAPTER:
                return await reconcile_adapter(self._context, key)
            case KeyKind.GATE:
                return await self._gates.reconcile(key)
            case KeyKind.AGENT:
                return await self._agent.reconcile(key)
            case KeyKind.GATEWAY:
                return await reconcile_gateway(self._context, key)
            case KeyKind.NODE_POOLS:
                return await self._node_pools.reconcile(key)
            case KeyKind.INTERRUPTIONS:
                return await self.interruptions.reconcile(key)
            case KeyKind.ROUTES:
                return await self._routes.reconcile(key)
            case _:
                assert_never(key.kind)
