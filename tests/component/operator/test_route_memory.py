"""What gateways are known to go by, and what is remembered of it: per region, and no longer than its objects live."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.domain.conditions import rfc3339
from npc_operator.domain.doors import SILENT_SECONDS
from npc_operator.domain.facts import AgentFact, Pod
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.domain.reasons import GATEWAY_SILENT
from npc_operator.reconcilers.gateway import reconcile_gateway
from npc_operator.reconcilers.routebook import REMEMBERED
from npc_runtime.wire import Accepted, RouteTable, Stamp, served_name
from tests.component.operator.harness import World
from tests.support.builders import NAMESPACE, digest, region, secret, tier
from tests.support.builders import at_once as adapter
from tests.support.fake_kube import copied

OLD, NEW = served_name("vampire", digest("vampire-1")), served_name("vampire", digest("vampire-2"))


async def settled(*, gateways: int = 2, **more: Any) -> World:
    world = World()
    world.put(region(gateways=gateways, **more), tier(), adapter())
    await world.settle()
    return world


def stamps(world: World) -> set[tuple[int, int]]:
    return {gateway.stamp.order() for gateway in world.doors().values()}


def elsewhere(manifest: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}


# --- what is remembered ---


async def test_a_busy_namespace_makes_nobody_forget_what_another_goes_by() -> None:
    world = await settled()
    world.put(*(elsewhere(one, "busy") for one in (region(), tier(), adapter())))
    await world.settle()
    behind = next(iter(world.doors().values()))
    behind.deaf = True
    world.set_digest("vampire", digest("vampire-2"))
    await world.settle(seconds=10)
    for number in range(3 * REMEMBERED):

        def change(live: dict[str, Any], number: int = number) -> None:
            live["spec"]["assignments"] = [{"npcPrefix": f"n-{number}-", "tier": "gold"}]

        world.api.edit(names.KIND_REGION, "busy", "eu-west", change)
        await world.settle(seconds=1)
    assert all(set(agent.resident) == {OLD, NEW} for agent in world.pods("gold").values())
    behind.deaf = False
    world.report()
    await world.settle(seconds=30)
    assert [set(agent.resident) for agent in world.pods("gold").values()] == [{NEW}] * len(world.pods("gold"))


async def test_nothing_of_a_namespace_is_remembered_when_all_of_it_is_gone() -> None:
    world = await settled()
    theirs = [
        elsewhere(one, "brief")
        for one in (
            secret("store", {"accessKey": "a"}),
            region("south", tiers={"iron": 10}),
            tier("iron"),
            adapter(digests={"iron": digest("iron")}, secret="store"),
        )
    ]
    world.put(*theirs)
    await world.settle()
    memory = everything_remembered(world)
    grown = {place for place, keys in memory.items() if any("brief" in str(key) for key in keys)}
    assert {"World._rosters", "RouteBook._pages", "RouteTables._parts", "AgentReconciler._orders"} <= grown
    for kind in (names.KIND_ADAPTER, names.KIND_REGION, names.KIND_TIER, "Secret"):
        for found in [one for one in world.peek(kind) if one["metadata"]["namespace"] == "brief"]:
            world.api.remove(kind, "brief", found["metadata"]["name"])
    await world.settle()
    for kind in ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "Secret", "Pod"):
        for found in [one for one in world.peek(kind) if one["metadata"]["namespace"] == "brief"]:
            world.api.remove(kind, "brief", found["metadata"]["name"])
    await world.settle()
    assert [fact for fact in world.store.kinds() if fact in (Pod, AgentFact) and world.store.list(fact, "brief")] == []
    for place, keys in everything_remembered(world).items():
        assert not [key for key in keys if "brief" in str(key)], f"{place} grows"


async def test_nothing_of_a_tier_is_remembered_when_it_is_gone_and_the_namespace_stays() -> None:
    world = World()
    world.put(region(tiers={"gold": 100, "silver": 10}), tier(), tier("silver"))
    world.put(adapter(digests={"gold": digest("g"), "silver": digest("s")}))
    await world.settle()
    assert any("silver" in str(key) for keys in everything_remembered(world).values() for key in keys)
    world.edit(names.KIND_REGION, "eu-west", lambda live: live["spec"].update(tiers=live["spec"]["tiers"][:1]))
    world.edit(names.KIND_ADAPTER, "vampire", lambda live: live["spec"].update(variants=live["spec"]["variants"][:1]))
    world.api.remove(names.KIND_TIER, NAMESPACE, "silver")
    await world.settle()
    for place, keys in everything_remembered(world).items():
        assert not [key for key in keys if "silver" in str(key)], f"{place} grows"


def everything_remembered(world: World) -> dict[str, list[object]]:
    """Keys of what the route book, the world and the agents' orders keep, by where they are kept."""
    found: dict[str, list[object]] = {}
    parts = world.reconcilers
    tables = parts._context.routes._tables
    for owner in (parts._world, parts._context.routes, tables, parts._agent, parts._routes):
        for name, value in vars(owner).items():
            if isinstance(value, dict):
                found[f"{type(owner).__name__}.{name}"] = list(value)
    found["parts of regions"] = [name for parts_ in tables._parts.values() for name in parts_.endpoints]
    return found


# --- who is silent ---


async def add_gateway(world: World, *, ready: bool) -> str:
    """One more gateway pod, as a roll begins with, that nobody ever heard: hours into the leadership."""
    world.clock.time += 6 * 3600
    world.controllers_run = False
    live = copied(world.live("Pod", next(iter(world.doors()))))
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    live["metadata"] = {
        **{key: value for key, value in live["metadata"].items() if key in ("namespace", "labels", "ownerReferences")},
        "name": "fresh",
        "uid": "uid-fresh",
        "creationTimestamp": rfc3339(world.clock.time),
    }
    live["status"] = {"phase": "Running" if ready else "Pending", "podIP": "10.9.9.9", "conditions": conditions}
    world.api.put(live)
    return "fresh"


async def test_a_gateway_that_just_began_is_not_silent_since_the_leadership_did() -> None:
    world = await settled()
    await add_gateway(world, ready=True)
    begun = world.clock.time
    await world.settle(seconds=SILENT_SECONDS - 1)
    assert world.said(names.KIND_REGION, "eu-west", "Reconciling")[1] != GATEWAY_SILENT
    await world.settle(seconds=3)
    _, reason, message = world.said(names.KIND_REGION, "eu-west", "Reconciling")
    assert reason == GATEWAY_SILENT
    assert rfc3339(begun) in message


async def test_the_time_a_gateway_takes_to_begin_is_no_silence() -> None:
    world = await settled()
    name = await add_gateway(world, ready=False)
    await world.settle(seconds=600)
    assert world.said(names.KIND_REGION, "eu-west", "Reconciling")[1] != GATEWAY_SILENT
    world.pod_status(name, phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    await world.settle(seconds=SILENT_SECONDS - 1)
    assert world.said(names.KIND_REGION, "eu-west", "Reconciling")[1] != GATEWAY_SILENT
    await world.settle(seconds=3)
    assert world.said(names.KIND_REGION, "eu-west", "Reconciling")[1] == GATEWAY_SILENT


async def test_a_gateway_that_never_began_and_is_to_go_is_neither_silent_nor_in_the_way() -> None:
    world = await settled()
    name = await add_gateway(world, ready=False)
    await world.settle(seconds=100)
    end = rfc3339(world.clock.time + 3600)
    world.api.edit("Pod", NAMESPACE, name, lambda live: live["metadata"].update(deletionTimestamp=end))
    world.set_digest("vampire", digest("vampire-2"))
    for _ in range(60):
        await world.settle(seconds=1)
        world.report()
    assert world.said(names.KIND_REGION, "eu-west", "Reconciling")[1] != GATEWAY_SILENT
    assert all(set(agent.resident) == {NEW} for agent in world.pods("gold").values())


# --- gateways that follow another leader ---


def follow_another(world: World, *which: str) -> None:
    for name in which:
        gateway = world.doors()[name]
        assert gateway.table is not None
        gateway.table = gateway.table.model_copy(update={"stamp": Stamp(epoch=50, generation=7)})


async def test_gateways_that_are_outranked_together_end_with_one_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await settled()
    one, other = world.doors()
    follow_another(world, one, other)
    world.lead()
    world.report()
    push, together, waiting = world.gateways.push, asyncio.Barrier(2), {one, other}

    async def push_together(namespace: str, address: str, table: RouteTable, *, pod_uid: str) -> Accepted:
        if waiting:
            waiting.pop()
            await together.wait()
        return await push(namespace, address, table, pod_uid=pod_uid)

    monkeypatch.setattr(world.gateways, "push", push_together)
    context = world.reconcilers._context
    await asyncio.gather(*(reconcile_gateway(context, Key(KeyKind.GATEWAY, NAMESPACE, name)) for name in (one, other)))
    assert stamps(world) == {(51, world.doors()[one].stamp.generation)}


@pytest.mark.parametrize("which", [0, 1, 2])
async def test_a_gateway_that_is_outranked_alone_takes_the_others_along(which: int) -> None:
    world = await settled(gateways=3)
    late = list(world.doors())[which]
    follow_another(world, late)
    world.doors()[late].deaf = True
    world.report()
    world.lead()
    await world.settle()
    assert len(stamps(world)) == 2
    world.doors()[late].deaf = False
    world.report()
    await world.settle()
    assert len(stamps(world)) == 1
    assert world.said(names.KIND_REGION, "eu-west", "Ready")[0] == "True"
