"""What every reconciler works with: the world to read, the ports to act through, and what one leadership remembers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from npc_operator.domain.conditions import Finding
from npc_operator.manifests.network import OperatorPeer
from npc_operator.ports import Agents, Clock, Gateways, Images, Kube, Meter, Recorder, Stamps
from npc_operator.reconcilers.capacity import InterruptionsView
from npc_operator.reconcilers.children import Children, Ensured
from npc_operator.reconcilers.crashes import CrashWatch
from npc_operator.reconcilers.degradation import DegradationWatch
from npc_operator.reconcilers.orders import OrderBook
from npc_operator.reconcilers.publisher import Publisher
from npc_operator.reconcilers.routebook import RouteBook
from npc_operator.reconcilers.turnbook import TurnBook
from npc_operator.reconcilers.world import World


@dataclass(frozen=True, slots=True)
class Context:
    world: World
    kube: Kube
    agents: Agents
    gateways: Gateways
    recorder: Recorder
    meter: Meter
    clock: Clock
    stamps: Stamps
    images: Images
    operator: OperatorPeer | None
    publisher: Publisher
    children: Children
    routes: RouteBook
    orders: OrderBook
    turns: TurnBook
    crashes: CrashWatch
    degradation: DegradationWatch
    interruptions: InterruptionsView


def split_results(results: Iterable[Ensured]) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """(faults that need a person, errors that may pass) of keeping several children."""
    kept = list(results)
    return (
        tuple(result.fault for result in kept if result.fault is not None),
        tuple(result.error for result in kept if result.error),
    )
