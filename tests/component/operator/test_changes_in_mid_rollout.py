"""What people and GitOps do to a world in the middle of a rollout: objects that go and come back, variants that are
taken out, digests that change again, quarantines of everything at once."""

from __future__ import annotations

from typing import Any

import pytest

from npc_operator.api import names
from npc_runtime.wire import served_name
from tests.component.operator.harness import World
from tests.component.operator.players import Players
from tests.support.builders import NAMESPACE, adapter, digest, region, tier

OLD, NEW, THIRD = digest("vampire-1"), digest("vampire-2"), digest("vampire-3")
OLD_NAME, NEW_NAME, THIRD_NAME = (served_name("vampire", one) for one in (OLD, NEW, THIRD))


async def trying(**rollout: Any) -> tuple[World, Players]:
    """A vampire on two tiers, of which the candidate on gold has a tenth of the NPCs."""
    world = World()
    world.put(region(tiers={"gold": 100, "bronze": 200}), tier("gold"), tier("bronze"))
    digests = {"gold": OLD, "bronze": digest("bronze-1")}
    world.put(adapter("vampire", digests=digests, spec={"rollout": {"stepSeconds": 10, **rollout}}))
    await world.settle()
    world.set_digest("vampire", NEW)
    players = Players(world)
    for _ in range(40):
        if (world.variant("vampire").get("rollout") or {}).get("percent") == 10:
            return world, players
        await players.play(1)
    raise AssertionError(f"never 10%: {world.variant('vampire')}")


def asked_for(world: World, tier_name: str = "gold") -> set[str]:
    """What gateways may ask engines of a tier for."""
    return {
        target.served_name
        for gateway in world.doors().values()
        for alias in (gateway.table.aliases if gateway.table is not None else ())
        for target in alias.targets
        if alias.tier == tier_name
    }


async def play_to_the_end(world: World, players: Players, wanted: str) -> None:
    for _ in range(200):
        await players.play(1)
        if world.variant("vampire").get("stable", {}).get("digest") == wanted:
            return
    raise AssertionError(f"it never ends: {world.variant('vampire')}")


async def test_another_digest_replaces_a_candidate_that_some_hear() -> None:
    world, players = await trying()
    first = world.variant("vampire")["attempt"]
    world.set_digest("vampire", THIRD)
    await world.settle(seconds=0.5)
    assert asked_for(world) <= {OLD_NAME, THIRD_NAME}
    found = world.variant("vampire")
    assert (found["attempt"], found["candidate"]["digest"], found["percent"]) in [
        (first + 1, THIRD, percent) for percent in (0, 10)
    ], "it begins from the beginning"
    await play_to_the_end(world, players, THIRD)
    assert "Cancelled" in [entry["reason"] for entry in world.variant("vampire")["history"]]
    await world.settle()
    assert all(set(agent.resident) == {THIRD_NAME} for agent in world.pods("gold").values())


@pytest.mark.parametrize("kind", [names.KIND_TIER, names.KIND_REGION])
async def test_an_object_that_goes_and_comes_back_ends_the_try_and_begins_another(kind: str) -> None:
    world, players = await trying()
    name = {names.KIND_TIER: "gold", names.KIND_REGION: "eu-west"}[kind]
    live = world.live(kind, name)
    world.api.remove(kind, NAMESPACE, name)
    await world.settle(seconds=5)
    assert world.variant("vampire").get("candidate") is None
    assert world.variant("vampire")["stable"]["digest"] == OLD
    before = world.variant("vampire")["attempt"]
    world.put_now({**live, "metadata": {"name": name, "namespace": NAMESPACE}, "status": {}})
    await world.settle(seconds=1)
    found = world.variant("vampire")
    assert (found["attempt"], found["stable"]["digest"]) == (before + 1, OLD)
    assert found["percent"] <= 10
    await play_to_the_end(world, players, NEW)
    assert [entry["reason"] for entry in world.variant("vampire")["history"]].count("RolledBack") == 0


async def test_a_variant_that_is_taken_out_leaves_routes_and_pods_and_the_others_go_on() -> None:
    world, players = await trying()
    gold = world.live(names.KIND_ADAPTER, "vampire")["spec"]["variants"][0]
    world.edit(names.KIND_ADAPTER, "vampire", lambda live: live["spec"]["variants"].pop(0))
    await world.settle(seconds=1)
    assert asked_for(world) == set()
    assert asked_for(world, "bronze") == {served_name("vampire", digest("bronze-1"))}
    await world.settle(seconds=30)
    assert all(set(agent.resident) == set() for agent in world.pods("gold").values())
    world.edit(names.KIND_ADAPTER, "vampire", lambda live: live["spec"]["variants"].append(gold))
    await play_to_the_end(world, players, NEW)


async def test_a_tier_that_joins_in_mid_rollout_serves_at_once_and_moves_nobody() -> None:
    world, players = await trying(stepSeconds=600)
    world.put(tier("silver"))
    spec = {"tiers": [{"tier": one, "npcs": {"min": 1, "max": 100}} for one in ("gold", "silver", "bronze")]}
    world.edit(names.KIND_REGION, "eu-west", lambda live: live["spec"].update(spec))
    joins = {"tier": "silver", "source": {"uri": "s3://adapters/vampire/silver", "digest": THIRD}, "rank": 8}
    world.edit(names.KIND_ADAPTER, "vampire", lambda live: live["spec"]["variants"].append(joins))
    await players.play(20)
    assert asked_for(world, "silver") == {THIRD_NAME}
    assert world.variant("vampire")["rollout"]["percent"] == 10


async def test_stable_and_candidate_quarantined_at_once_leave_everything_at_once() -> None:
    world, players = await trying()
    world.edit(names.KIND_ADAPTER, "vampire", lambda live: live["spec"].update(quarantinedDigests=[OLD, NEW]))
    await world.settle(seconds=2)
    assert asked_for(world) == set()
    await players.play(30)
    assert all(set(agent.resident) == set() for agent in world.pods("gold").values())
    assert world.variant("vampire").get("stable") is None
    world.edit(names.KIND_ADAPTER, "vampire", lambda live: live["spec"].update(quarantinedDigests=[OLD]))
    world.set_digest("vampire", THIRD)
    await play_to_the_end(world, players, THIRD)


async def test_a_voice_that_is_deleted_and_made_again_begins_with_what_it_names() -> None:
    world, players = await trying()
    live = world.live(names.KIND_ADAPTER, "vampire")
    world.api.remove(names.KIND_ADAPTER, NAMESPACE, "vampire")
    await world.settle(seconds=2)
    assert asked_for(world) == set()
    await world.settle(seconds=30)
    assert all(set(agent.resident) == set() for agent in world.pods("gold").values())
    world.put(
        {
            "apiVersion": live["apiVersion"],
            "kind": live["kind"],
            "metadata": {"name": "vampire", "namespace": NAMESPACE},
            "spec": live["spec"],
        }
    )
    await play_to_the_end(world, players, NEW)
