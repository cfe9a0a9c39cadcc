"""Node pools when something goes wrong around them: late watches, other people's hands, clouds that do not answer."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.domain import reasons
from npc_operator.domain.conditions import rfc3339
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.domain.nodepools import REMOVAL_SECONDS
from npc_operator.domain.nodepools.groups import LiveGroup
from npc_operator.domain.outcomes import Wait
from npc_operator.ports import PortError
from npc_operator.reconcilers.node_pools import CLOUD_LOOKS_AT_ONCE
from tests.component.operator.harness import World
from tests.component.operator.pools import (
    FORBIDDEN,
    GROUP,
    GROUPS,
    IN_AWS,
    KARPENTER,
    NO_KIND,
    POOLS,
    answer,
    condition,
    delete_tier,
    finalizers,
    metadata,
    pools,
    provided,
    settled,
)
from tests.support.builders import NAMESPACE, adapter, region, tier

UNREACHABLE = PortError("no answer", reason="Unreachable")


async def test_a_spec_that_changes_while_the_watch_is_late_leaves_nothing_behind() -> None:
    world = World()
    world.put(region(), tier(), adapter())
    await world.settle()
    world.put(provided(KARPENTER))
    apply = world.kube.apply

    async def late(manifest: Any, *, manager: str, subresource: str = "") -> Any:
        if manager == names.MANAGER_OUTSIDE and world.delivering:
            world.put(provided(GROUPS))  # the watch brings this change, and not the note that is written after it
            world.delivering = False
        return await apply(manifest, manager=manager, subresource=subresource)

    world.kube.apply = late  # type: ignore[method-assign]
    await world.settle(seconds=5)
    world.delivering = True
    world.resync()
    await world.settle(seconds=120)
    assert pools(world) == []
    assert sorted(name for _, name in world.groups.live) == sorted(IN_AWS)
    assert metadata(world)["annotations"][names.ANNOTATION_NODE_POOLS] == '["autoscaling/eu-west-1/games"]'


async def test_a_note_that_somebody_takes_away_is_written_again() -> None:
    world = await settled(KARPENTER)
    world.edit(names.KIND_TIER, "gold", lambda live: live["metadata"]["annotations"].clear())
    await world.settle(seconds=60)
    assert metadata(world)["annotations"][names.ANNOTATION_NODE_POOLS] == '["karpenter"]'


async def test_a_tier_without_its_note_is_deleted_with_what_its_spec_says() -> None:
    world = await settled(KARPENTER)

    def strip(live: dict[str, Any]) -> None:
        live["metadata"]["annotations"].clear()
        live["metadata"]["deletionTimestamp"] = rfc3339(world.clock.time)

    world.edit(names.KIND_TIER, "gold", strip)
    world.lead()
    await world.settle(seconds=60)
    assert (pools(world), finalizers(world)) == ([], [])


async def test_an_operator_that_was_down_when_a_tier_was_deleted_has_its_time_all_the_same() -> None:
    world = await settled(GROUPS)
    for name in IN_AWS:
        world.groups.set_instances("eu-west-1", name, 1)
    delete_tier(world)
    world.clock.time += 2 * REMOVAL_SECONDS
    world.lead()
    await world.settle(seconds=60)
    assert finalizers(world) == [names.FINALIZER_NODE_POOLS]
    for name in IN_AWS:
        world.groups.set_instances("eu-west-1", name, 0)
    await world.settle(seconds=60)
    assert (world.groups.live, finalizers(world)) == ({}, [])
    assert "NodePoolsAbandoned" not in world.recorder.reasons("gold")


async def test_a_region_that_does_not_answer_is_said_and_not_noted() -> None:
    world = World()
    world.groups.silent_regions.add("eu-wast-1")
    world.put(region(), provided({"autoScalingGroup": {**GROUP, "region": "eu-wast-1"}}), adapter())
    await world.settle()
    assert condition(world)[:2] == ("False", reasons.RETRYING)
    assert "eu-wast-1" in condition(world)[2]
    assert finalizers(world) == []
    world.put(provided(GROUPS))
    await world.settle(seconds=60)
    assert condition(world)[:2] == ("True", reasons.NODE_POOLS_KEPT)
    assert metadata(world)["annotations"][names.ANNOTATION_NODE_POOLS] == '["autoscaling/eu-west-1/games"]'


async def test_what_another_provider_left_and_cannot_be_removed_is_said() -> None:
    world = await settled(GROUPS)
    world.groups.failure = PortError("denied", reason="Forbidden", retryable=False, code=403)
    world.put(provided({"existing": {}}))
    await world.settle(seconds=120)
    assert condition(world)[:2] == ("False", reasons.NODE_POOLS_FORBIDDEN)
    world.groups.failure = None
    for name in IN_AWS:
        world.groups.set_instances("eu-west-1", name, 1)
    await world.settle(seconds=120)
    assert condition(world)[0] == "True"
    assert "being removed from autoscaling/eu-west-1/games" in condition(world)[2]
    for name in IN_AWS:
        world.groups.set_instances("eu-west-1", name, 0)
    await world.settle(seconds=120)
    assert condition(world) == ("", "", "")


async def test_a_cloud_that_does_not_answer_holds_only_a_few_hands() -> None:
    world = await settled(GROUPS)
    tiers = [f"silver-{number}" for number in range(10)]
    held = asyncio.Event()

    async def find(region: str, *, named: Collection[str], tagged: Mapping[str, str]) -> tuple[LiveGroup, ...]:
        await held.wait()
        raise UNREACHABLE

    world.groups.find = find  # type: ignore[method-assign]
    for name in tiers:
        world.put({**provided(GROUPS), "metadata": {"name": name, "namespace": NAMESPACE}})
    keys = [Key(KeyKind.NODE_POOLS, NAMESPACE, name) for name in tiers]
    looks = [asyncio.create_task(world.reconcilers.reconcile(key)) for key in keys]
    done, waiting = await asyncio.wait(looks, timeout=1)
    assert len(waiting) == CLOUD_LOOKS_AT_ONCE
    assert all(isinstance(look.result(), Wait) for look in done)
    held.set()
    await asyncio.wait(looks)
    (freed,) = await asyncio.gather(world.reconcilers.reconcile(keys[-1]))
    assert not isinstance(freed, Wait)


async def test_what_another_provider_made_stays_until_the_new_one_is_there() -> None:
    world = await settled(GROUPS)
    world.api.unlisted["NodePool"] = NO_KIND
    world.put(provided(KARPENTER))
    await world.settle(seconds=120)
    assert condition(world)[:2] == ("False", reasons.KARPENTER_MISSING)
    assert {group.description.max_size for group in world.groups.live.values()} == {GROUP["maxSize"]}
    del world.api.unlisted["NodePool"]
    await world.settle(seconds=60)
    answer(world, "True")
    await world.settle(seconds=60)
    assert (len(pools(world)), world.groups.live) == (2, {})


async def test_what_another_provider_made_stays_until_karpenter_can_use_the_new_pools() -> None:
    world = await settled(GROUPS)
    world.put(provided(KARPENTER))
    await world.settle(seconds=60)
    assert len(pools(world)) == 2
    assert {group.description.max_size for group in world.groups.live.values()} == {GROUP["maxSize"]}
    answer(world, "False", "node class gpu not found")
    await world.settle(seconds=60)
    assert {group.description.max_size for group in world.groups.live.values()} == {GROUP["maxSize"]}
    answer(world, "True")
    await world.settle(seconds=60)
    assert world.groups.live == {}


async def test_room_that_is_not_wanted_any_more_goes_although_the_nodes_have_a_fault() -> None:
    world = await settled(KARPENTER, headroom=1)
    answer(world, "False", "node class gpu not found")
    await world.settle(seconds=60)
    assert len(world.peek("CapacityBuffer")) == 1
    world.put(provided(KARPENTER))
    await world.settle(seconds=60)
    assert condition(world)[:2] == ("False", reasons.NODE_CLASS_NOT_READY)
    assert world.peek("CapacityBuffer") == []


@pytest.mark.parametrize("set_by", [-7200.0, 7200.0], ids=["back", "forth"])
async def test_a_clock_that_is_set_changes_nothing_of_how_long_a_deletion_waits(set_by: float) -> None:
    world = await settled(GROUPS)
    for name in IN_AWS:
        world.groups.set_instances("eu-west-1", name, 1)
    delete_tier(world)
    await world.settle(seconds=60)
    world.clock.skew = set_by
    await world.settle(seconds=REMOVAL_SECONDS - 180)
    assert finalizers(world) == [names.FINALIZER_NODE_POOLS]
    await world.settle(seconds=240)
    assert finalizers(world) == []


async def test_a_tier_from_a_backup_keeps_no_stale_note_and_says_who_must_take_off_the_finalizer() -> None:
    world = World()
    restored = provided({"existing": {}}, headroom=1)
    restored["metadata"] |= {
        "annotations": {names.ANNOTATION_NODE_POOLS: '["karpenter"]'},
        "finalizers": [names.FINALIZER_NODE_POOLS],
    }
    world.put(region(), adapter())
    world.api.put(restored, manager="backup")
    await world.settle(seconds=120)
    assert metadata(world)["annotations"][names.ANNOTATION_NODE_POOLS] == '["headroom"]'
    assert len(world.peek("CapacityBuffer")) == 1
    assert condition(world)[:2] == ("False", reasons.FINALIZER_HELD)
    world.api.edit(names.KIND_TIER, NAMESPACE, "gold", lambda live: live["spec"].pop("nodePools"))
    await world.settle(seconds=60)
    assert names.ANNOTATION_NODE_POOLS not in (metadata(world).get("annotations") or {})
    world.edit(names.KIND_TIER, "gold", lambda live: live["metadata"].pop("finalizers"))
    await world.settle(seconds=60)
    world.api.forget_calls()
    await world.settle(seconds=600)
    assert world.writes() == []


async def test_engines_of_a_deleted_tier_end_before_the_nodes_that_it_waits_for() -> None:
    """Their budget would let one of them go, whose successor finds no node any more, and none after it."""
    world = await settled(GROUPS)
    for name in IN_AWS:
        world.groups.set_instances("eu-west-1", name, 1)
    assert len(deployments(world)) == 2
    delete_tier(world)
    await world.settle(seconds=30)
    assert finalizers(world) == [names.FINALIZER_NODE_POOLS]
    assert deployments(world) == []


@pytest.mark.parametrize("reason", ["orphan", "suspended"])
async def test_engines_stay_where_their_tier_is_deleted_without_them(reason: str) -> None:
    world = await settled(GROUPS)
    for name in IN_AWS:
        world.groups.set_instances("eu-west-1", name, 1)
    if reason == "orphan":
        world.edit(names.KIND_TIER, "gold", lambda live: live["metadata"]["finalizers"].append("orphan"))
        delete_tier(world)
    else:
        world.put(provided(GROUPS, suspend=True))
    await world.settle(seconds=30)
    assert len(deployments(world)) == 2


async def test_engines_that_may_not_be_ended_hold_up_nothing_else() -> None:
    world = await settled(GROUPS)
    world.api.fail(FORBIDDEN, where=lambda call: call.kind == "Deployment")
    delete_tier(world)
    await world.settle(seconds=30)
    assert (world.groups.live, finalizers(world)) == ({}, [])


def deployments(world: World) -> list[str]:
    found = [one["metadata"]["name"] for one in world.peek("Deployment")]
    return [name for name in found if name.startswith("gold-")]


# --- other people's hands on NodePools ---


async def test_a_copy_of_a_node_pool_is_somebody_elses() -> None:
    world = await settled(KARPENTER)
    ours = world.api.find("NodePool", "", POOLS[0])
    assert ours is not None
    copy = {**ours, "metadata": {"name": "mine", "labels": ours["metadata"]["labels"]}}
    world.api.put(copy)
    await world.settle(seconds=120)
    assert pools(world) == sorted(["mine", *POOLS])
    delete_tier(world)
    await world.settle(seconds=60)
    assert (pools(world), finalizers(world)) == (["mine"], [])


@pytest.mark.parametrize("label", [names.LABEL_TIER, names.LABEL_NAMESPACE, names.LABEL_MANAGED_BY])
async def test_a_node_pool_that_lost_its_labels_goes_with_its_tier_all_the_same(label: str) -> None:
    world = await settled(KARPENTER)
    world.api.edit("NodePool", "", POOLS[0], lambda live: live["metadata"]["labels"].pop(label))
    delete_tier(world)
    await world.settle(seconds=60)
    assert (pools(world), finalizers(world)) == ([], [])


async def test_a_node_pool_that_came_back_from_a_backup_is_ours_by_its_name() -> None:
    world = await settled(KARPENTER)
    ours = world.api.find("NodePool", "", POOLS[0])
    assert ours is not None
    world.api.remove("NodePool", "", POOLS[0])
    world.api.put({**ours, "metadata": {"name": POOLS[0], "labels": ours["metadata"]["labels"]}}, manager="backup")
    delete_tier(world)
    await world.settle(seconds=60)
    assert (pools(world), finalizers(world)) == ([], [])


# --- and on groups ---


async def test_a_group_that_was_tagged_for_us_and_never_adopted_is_not_deleted() -> None:
    world = await settled({"existing": {}})
    world.put(provided(GROUPS, suspend=True))
    await world.settle(seconds=1)
    world.put(provided(GROUPS))
    await world.settle(seconds=60)
    spot = world.groups.live["eu-west-1", IN_AWS[1]]
    tags = {key: value for key, value in spot.description.tags.items() if key != names.LABEL_TIER_UID}
    theirs = dataclasses.replace(spot, description=dataclasses.replace(spot.description, tags=tags))
    delete_tier(world)
    world.groups.live["eu-west-1", IN_AWS[1]] = theirs
    await world.settle(seconds=60)
    assert world.groups.live == {("eu-west-1", IN_AWS[1]): theirs}
    assert finalizers(world) == []
