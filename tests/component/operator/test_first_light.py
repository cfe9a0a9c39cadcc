"""A region comes up from nothing but its objects, and then nothing more is written."""

from __future__ import annotations

from npc_operator.api import names
from npc_runtime.wire import served_name
from tests.component.operator.harness import World
from tests.support.builders import adapter, digest, region, tier


async def test_a_region_comes_up_from_three_manifests() -> None:
    world = World()
    world.put(region(tiers={"gold": 100}))
    world.put(tier("gold"))
    world.put(adapter("vampire"))

    await world.settle()

    assert world.said(names.KIND_ADAPTER, "vampire", "Ready")[:2] == ("True", "Serving")
    assert world.said(names.KIND_TIER, "gold", "Ready")[:2] == ("True", "Serving")
    assert world.said(names.KIND_REGION, "eu-west", "Ready")[:2] == ("True", "Serving")
    name = served_name("vampire", digest("vampire-1"))
    assert all(set(agent.resident) == {name} for agent in world.pods("gold").values())
    assert len(world.pods("gold")) == 2
    for gateway in world.doors().values():
        assert gateway.routes("gold") == {"vampire": name}
        assert gateway.table is not None
        endpoints = gateway.table.tiers[0].endpoints
        assert [endpoint.resident for endpoint in endpoints] == [(name,), (name,)]


async def test_a_settled_region_is_left_alone() -> None:
    world = World()
    world.put(region(tiers={"gold": 100}))
    world.put(tier("gold"))
    world.put(adapter("vampire"))
    await world.settle()
    world.api.forget_calls()
    pushes = len(world.agents.pushes) + len(world.gateways.pushes)

    world.resync()
    await world.settle(seconds=3600)

    assert world.writes() == []
    assert len(world.agents.pushes) + len(world.gateways.pushes) == pushes
