"""Tiers with nodes of their own, as the tests of node pools begin and look at them."""

from __future__ import annotations

from typing import Any

from npc_operator.api import names
from npc_operator.domain.conditions import rfc3339
from npc_operator.domain.nodepools.report import NODE_POOLS_READY
from npc_operator.ports import NotFound, PortError
from tests.component.operator.harness import World
from tests.support.builders import NAMESPACE, adapter, region, tier

Manifest = dict[str, Any]
KARPENTER = {"karpenter": {"nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "gpu"}}}
GROUP = {
    "clusterName": "games",
    "region": "eu-west-1",
    "launchTemplate": {"name": "gpu-nodes"},
    "subnets": ["subnet-0a", "subnet-0b"],
    "instanceTypes": ["g6.2xlarge"],
    "maxSize": 8,
}
GROUPS = {"autoScalingGroup": GROUP}
POOLS = [names.node_pool(NAMESPACE, "gold", slice_) for slice_ in ("on-demand", "spot")]
IN_AWS = [names.auto_scaling_group("games", NAMESPACE, "gold", slice_) for slice_ in ("on-demand", "spot")]
FORBIDDEN = PortError("may not", reason="Forbidden", code=403)
NO_KIND = NotFound("no such kind", reason="NotFound", retryable=False, code=404)


def provided(provider: Manifest, *, headroom: int = 0, **spec: Any) -> Manifest:
    return tier(spec={"nodePools": {"provider": provider, "headroomReplicas": headroom}, **spec})


async def settled(provider: Manifest, **options: Any) -> World:
    world = World()
    world.put(region(), provided(provider, **options), adapter())
    await world.settle()
    return world


def pools(world: World) -> list[str]:
    return [one["metadata"]["name"] for one in world.peek("NodePool")]


def answer(world: World, ready: str, message: str = "") -> None:
    """What Karpenter says of NodePools that it looked at."""
    said = {"type": "Ready", "status": ready, "reason": "Ready" if ready == "True" else "NotReady", "message": message}
    for name in pools(world):
        world.api.set_status("NodePool", "", name, {"conditions": [said]})


def metadata(world: World) -> Manifest:
    found: Manifest = world.live(names.KIND_TIER, "gold")["metadata"]
    return found


def finalizers(world: World) -> list[str]:
    return list(metadata(world).get("finalizers") or [])


def condition(world: World) -> tuple[str, str, str]:
    return world.said(names.KIND_TIER, "gold", NODE_POOLS_READY)


def delete_tier(world: World) -> None:
    """As the API server does with what has a finalizer."""

    def mark(live: Manifest) -> None:
        live["metadata"]["deletionTimestamp"] = rfc3339(world.clock.time)

    world.edit(names.KIND_TIER, "gold", mark)
