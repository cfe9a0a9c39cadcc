"""What brings a tier's nodes: made as wanted, put back, moved and removed; said where it cannot be, and never in the
way of the tier."""

from __future__ import annotations

import dataclasses

import pytest

from npc_operator.api import names
from npc_operator.domain import reasons
from npc_operator.domain.conditions import rfc3339
from npc_operator.domain.nodepools import REMOVAL_SECONDS
from npc_operator.domain.nodepools.report import NODE_POOLS_READY
from npc_operator.ports import PortError
from tests.component.operator.harness import World
from tests.component.operator.pools import (
    FORBIDDEN,
    GROUP,
    GROUPS,
    IN_AWS,
    KARPENTER,
    NO_KIND,
    POOLS,
    Manifest,
    condition,
    delete_tier,
    finalizers,
    metadata,
    pools,
    provided,
    settled,
)
from tests.support.builders import NAMESPACE, adapter, region, tier
from tests.support.fake_kube import Call

# --- Karpenter ---


async def test_a_tier_gets_one_node_pool_per_slice_and_says_so() -> None:
    world = await settled(KARPENTER)
    assert pools(world) == sorted(POOLS)
    assert finalizers(world) == [names.FINALIZER_NODE_POOLS]
    status, reason, message = condition(world)
    assert (status, reason) == ("True", reasons.NODE_POOLS_KEPT)
    assert all(name in message for name in POOLS)
    labels = world.peek("NodePool")[0]["metadata"]["labels"]
    assert labels[names.LABEL_NAMESPACE] == NAMESPACE
    assert labels[names.LABEL_TIER_UID] == metadata(world)["uid"]
    assert world.said(names.KIND_TIER, "gold", "Ready")[0] == "True"


async def test_the_finalizer_is_there_before_anything_is_outside() -> None:
    world = await settled(KARPENTER)
    calls = [str(call) for call in world.api.calls]
    first_pool = next(index for index, call in enumerate(calls) if "NodePool" in call)
    noted = next(
        index for index, call in enumerate(world.api.calls) if (call.manifest.get("metadata") or {}).get("finalizers")
    )
    assert noted < first_pool


async def test_at_rest_nothing_is_written_however_often_it_is_looked_at() -> None:
    world = await settled(KARPENTER, headroom=2)
    world.api.forget_calls()
    await world.settle(seconds=600)
    assert world.writes() == []


async def test_a_node_pool_that_somebody_changed_or_deleted_is_put_back() -> None:
    world = await settled(KARPENTER)

    def change(live: Manifest) -> None:
        live["spec"]["disruption"]["consolidationPolicy"] = "WhenEmptyOrUnderutilized"
        live["metadata"]["labels"].pop(names.LABEL_NAMESPACE)

    world.api.edit("NodePool", "", POOLS[0], change)
    world.api.remove("NodePool", "", POOLS[1])
    await world.settle(seconds=60)
    assert pools(world) == sorted(POOLS)
    kept = world.api.find("NodePool", "", POOLS[0])
    assert kept is not None
    assert kept["spec"]["disruption"]["consolidationPolicy"] == "WhenEmpty"
    assert kept["metadata"]["labels"][names.LABEL_NAMESPACE] == NAMESPACE


async def test_a_changed_spec_reaches_the_node_pools_at_once() -> None:
    world = await settled(KARPENTER)
    more = {"karpenter": {**KARPENTER["karpenter"], "limits": {"nvidia.com/gpu": 4}}}
    world.put(provided(more))
    await world.settle(seconds=1)
    assert [one["spec"]["limits"] for one in world.peek("NodePool")] == [{"nvidia.com/gpu": 4}] * 2


async def test_what_is_not_ours_is_neither_taken_over_nor_removed() -> None:
    world = World()
    world.api.put(
        {"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": POOLS[0]}, "spec": {"weight": 3}}
    )
    world.put(region(), provided(KARPENTER), adapter())
    await world.settle()
    status, reason, message = condition(world)
    assert (status, reason) == ("False", reasons.NAME_TAKEN)
    assert POOLS[0] in message
    delete_tier(world)
    await world.settle()
    assert pools(world) == [POOLS[0]]
    assert finalizers(world) == []
    assert world.api.find("NodePool", "", POOLS[0])["spec"] == {"weight": 3}  # type: ignore[index]


async def test_a_deleted_tier_takes_its_node_pools_with_it_and_then_may_go() -> None:
    world = await settled(KARPENTER)
    delete_tier(world)
    await world.settle(seconds=30)
    assert pools(world) == []
    assert finalizers(world) == []
    assert names.ANNOTATION_NODE_POOLS not in (metadata(world).get("annotations") or {})
    assert "Removed" in world.recorder.reasons("gold")


async def test_a_suspended_tier_keeps_what_it_has_but_can_be_deleted() -> None:
    world = await settled(KARPENTER)
    world.put(provided(KARPENTER, suspend=True))
    await world.settle(seconds=1)
    world.api.remove("NodePool", "", POOLS[0])
    await world.settle(seconds=120)
    assert pools(world) == [POOLS[1]]
    delete_tier(world)
    await world.settle(seconds=30)
    assert (pools(world), finalizers(world)) == ([], [])


async def test_a_tier_that_cannot_be_read_any_more_can_be_deleted() -> None:
    world = await settled(KARPENTER)

    def break_it(live: Manifest) -> None:
        live["spec"]["quality"] = "Platinum"
        live["metadata"]["deletionTimestamp"] = rfc3339(world.clock.time)

    world.edit(names.KIND_TIER, "gold", break_it)
    await world.settle(seconds=30)
    assert (pools(world), finalizers(world)) == ([], [])


@pytest.mark.parametrize("other", [{"existing": {}}, GROUPS], ids=["nodes that are there", "groups"])
async def test_another_provider_removes_what_the_first_one_made(other: Manifest) -> None:
    world = await settled(KARPENTER)
    world.put(provided(other))
    await world.settle(seconds=30)
    assert pools(world) == []
    assert finalizers(world) == ([names.FINALIZER_NODE_POOLS] if other is GROUPS else [])
    assert len(world.groups.live) == (2 if other is GROUPS else 0)


async def test_without_karpenter_the_tier_serves_and_says_what_to_install() -> None:
    world = World()
    world.api.unlisted["NodePool"] = NO_KIND
    world.put(region(), provided(KARPENTER), adapter())
    await world.settle()
    status, reason, message = condition(world)
    assert (status, reason) == ("False", reasons.KARPENTER_MISSING)
    assert "install Karpenter" in message
    assert world.said(names.KIND_TIER, "gold", "Ready")[0] == "True"
    assert reasons.KARPENTER_MISSING in world.recorder.reasons("gold")
    del world.api.unlisted["NodePool"]
    await world.settle(seconds=60)
    assert condition(world)[0] == "True"


async def test_without_the_right_the_tier_serves_and_says_what_to_grant() -> None:
    world = World()
    world.api.fail(FORBIDDEN, where=lambda call: call.manager == names.MANAGER_OUTSIDE)
    world.put(region(), provided(KARPENTER), adapter())
    await world.settle()
    status, reason, message = condition(world)
    assert (status, reason) == ("False", reasons.NODE_POOLS_FORBIDDEN)
    assert "--set nodePools.enabled=true" in message
    assert pools(world) == []
    assert world.said(names.KIND_TIER, "gold", "Ready")[0] == "True"


async def test_what_the_api_server_refuses_is_said_in_its_words() -> None:
    world = World()
    refusal = PortError("nodeClassRef.group is immutable", reason="Invalid", retryable=False, code=422)
    mend = world.api.fail(refusal, where=lambda call: call.kind == "NodePool")
    world.put(region(), provided(KARPENTER), adapter())
    await world.settle()
    assert condition(world)[1] == reasons.NODE_POOLS_REFUSED
    assert "is immutable" in condition(world)[2]
    mend()
    await world.settle(seconds=60)
    assert condition(world)[0] == "True"


async def test_a_node_pool_that_karpenter_cannot_use_is_named() -> None:
    world = await settled(KARPENTER)
    ready = {"type": "Ready", "status": "False", "reason": "NodeClassNotFound", "message": "node class gpu not found"}
    world.api.set_status("NodePool", "", POOLS[0], {"conditions": [ready]})
    await world.settle(seconds=60)
    assert condition(world)[:2] == ("False", reasons.NODE_CLASS_NOT_READY)
    assert "node class gpu not found" in condition(world)[2]


async def test_the_deletion_does_not_wait_for_ever_and_names_what_is_left() -> None:
    world = await settled(KARPENTER)
    stuck = PortError("no answer", reason="Unreachable")
    world.api.fail(stuck, where=lambda call: call.kind == "NodePool")
    delete_tier(world)
    await world.settle(seconds=REMOVAL_SECONDS - 60)
    assert finalizers(world) == [names.FINALIZER_NODE_POOLS]
    await world.settle(seconds=600)
    assert finalizers(world) == []
    assert "NodePoolsAbandoned" in world.recorder.reasons("gold")
    assert pools(world) == sorted(POOLS)


@pytest.mark.parametrize("provider", [KARPENTER, GROUPS], ids=["node pools", "groups"])
@pytest.mark.parametrize("moves", [False, True], ids=["making", "removing"])
async def test_a_leader_that_ends_at_any_call_loses_nothing_and_leaves_nothing(provider: Manifest, moves: bool) -> None:
    """An end before and after every call that changes something, while it is made or while it is removed."""
    tried = 0
    for call in range(60):
        worlds = [await ended(provider, call, when, moves=moves) for when in ("before", "after")]
        if not any(world.crashed for world in worlds):
            break
        for world in worlds:
            tried += 1
            found = len(pools(world)) + len(world.groups.live)
            assert (found, len(finalizers(world))) == ((0, 0) if moves else (2, 1)), (call, world.crashed)
    assert 8 <= tried < 120


async def ended(provider: Manifest, call: int, when: str, *, moves: bool) -> World:
    world = World()
    world.put(region(), provided(provider) if moves else tier(), adapter())
    await world.settle()
    world.put(provided({"existing": {}} if moves else provider))
    world.end_at(call, when)
    await world.settle(seconds=300)
    return world


# --- AutoScaling groups ---


async def test_a_tier_gets_one_group_per_slice() -> None:
    world = await settled(GROUPS)
    assert sorted(world.groups.live) == [("eu-west-1", name) for name in sorted(IN_AWS)]
    assert [world.groups.live["eu-west-1", name].description.on_demand_percentage for name in IN_AWS] == [100, 0]
    assert condition(world)[:2] == ("True", reasons.NODE_POOLS_KEPT)
    world.groups.calls.clear()
    world.api.forget_calls()
    await world.settle(seconds=600)
    assert (world.groups.calls, world.writes()) == ([], [])


async def test_a_changed_group_is_put_back_and_its_size_is_left_to_the_autoscaler() -> None:
    world = await settled(GROUPS)
    spot = world.groups.live["eu-west-1", IN_AWS[1]]
    broken = dataclasses.replace(spot.description, spot_strategy="lowest-price", max_size=100)
    world.groups.live["eu-west-1", IN_AWS[1]] = dataclasses.replace(spot, description=broken, instances=5)
    world.groups.calls.clear()
    await world.settle(seconds=120)
    assert world.groups.calls == [f"update {IN_AWS[1]}"]
    kept = world.groups.live["eu-west-1", IN_AWS[1]]
    assert (kept.description.spot_strategy, kept.description.max_size, kept.instances) == ("capacity-optimized", 8, 5)


async def test_groups_of_a_deleted_tier_are_emptied_first_and_deleted_when_their_instances_are_gone() -> None:
    world = await settled(GROUPS)
    for name in IN_AWS:
        world.groups.set_instances("eu-west-1", name, 2)
    delete_tier(world)
    await world.settle(seconds=60)
    assert {group.description.max_size for group in world.groups.live.values()} == {0}
    assert finalizers(world) == [names.FINALIZER_NODE_POOLS]
    for name in IN_AWS:
        world.groups.set_instances("eu-west-1", name, 0)
    await world.settle(seconds=60)
    assert (world.groups.live, finalizers(world)) == ({}, [])


async def test_a_tier_that_moves_to_another_region_leaves_nothing_in_the_first() -> None:
    world = await settled(GROUPS)
    world.put(provided({"autoScalingGroup": {**GROUP, "region": "eu-central-1"}}))
    await world.settle(seconds=60)
    assert {region for region, _ in world.groups.live} == {"eu-central-1"}
    assert metadata(world)["annotations"][names.ANNOTATION_NODE_POOLS] == '["autoscaling/eu-central-1/games"]'


async def test_a_group_without_our_tags_is_neither_changed_nor_deleted() -> None:
    world = await settled(GROUPS)
    spot = world.groups.live["eu-west-1", IN_AWS[1]]
    foreign = dataclasses.replace(spot, description=dataclasses.replace(spot.description, tags={"team": "other"}))
    world.groups.live["eu-west-1", IN_AWS[1]] = foreign
    world.groups.calls.clear()
    await world.settle(seconds=120)
    assert condition(world)[:2] == ("False", reasons.NAME_TAKEN)
    delete_tier(world)
    await world.settle(seconds=60)
    assert world.groups.live == {("eu-west-1", IN_AWS[1]): foreign}
    assert finalizers(world) == []


@pytest.mark.parametrize(
    ("failure", "reason", "words"),
    [
        (PortError("no identity", reason="CloudCredentials", retryable=False), "CloudCredentials", "ServiceAccount"),
        (PortError("denied", reason="Forbidden", retryable=False, code=403), "NodePoolsForbidden", "aws.md"),
        (PortError("200 groups", reason="QuotaExceeded", retryable=False), "QuotaExceeded", "higher quota"),
        (PortError("bad subnet", reason="Invalid", retryable=False), "NodePoolsRefused", "bad subnet"),
        (PortError("slow down", reason="Throttled", code=429), "Retrying", "slow down"),
    ],
    ids=["identity", "policy", "quota", "value", "throttling"],
)
async def test_what_the_cloud_refuses_is_said_with_what_to_do_and_heals(
    failure: PortError, reason: str, words: str
) -> None:
    world = World()
    world.groups.failure = failure
    world.put(region(), provided(GROUPS), adapter())
    await world.settle()
    assert condition(world)[:2] == ("False", reason)
    assert words in condition(world)[2]
    assert world.said(names.KIND_TIER, "gold", "Ready")[0] == "True"
    world.groups.failure = None
    await world.settle(seconds=120)
    assert condition(world)[0] == "True"


@pytest.mark.parametrize(
    "why",
    [
        "You have requested more vCPU capacity than your current vCPU limit of 0 allows",
        "Could not launch Spot Instances. MaxSpotInstanceCountExceeded - Max spot instance count exceeded.",
    ],
)
async def test_a_quota_that_keeps_instances_from_starting_is_said_and_a_dry_market_is_not(why: str) -> None:
    world = await settled(GROUPS)
    world.groups.troubles[IN_AWS[1]] = "We currently do not have sufficient g6.2xlarge capacity"
    await world.settle(seconds=90)
    assert condition(world)[0] == "True"
    world.groups.troubles[IN_AWS[1]] = why
    await world.settle(seconds=90)
    assert condition(world)[:2] == ("False", reasons.QUOTA_EXCEEDED)


# --- headroom ---


async def test_headroom_is_a_capacity_buffer_where_the_cluster_has_them() -> None:
    world = await settled({"existing": {}}, headroom=2)
    (buffer,) = world.peek("CapacityBuffer")
    assert buffer["spec"]["replicas"] == 2
    assert buffer["spec"]["scalableRef"] == {"apiGroup": "apps", "kind": "Deployment", "name": "gold-spot"}
    assert finalizers(world) == []  # it goes with its owner
    assert "gold-headroom" not in [one["metadata"]["name"] for one in world.peek("Deployment")]


@pytest.mark.parametrize("why", [NO_KIND, FORBIDDEN], ids=["kind not there", "not allowed"])
async def test_headroom_is_pods_that_give_way_elsewhere(why: PortError) -> None:
    world = World()
    world.api.unlisted["CapacityBuffer"] = why
    world.put(region(), provided({"existing": {}}, headroom=2), adapter())
    await world.settle()
    placeholder = world.live("Deployment", "gold-headroom")
    pod = placeholder["spec"]["template"]["spec"]
    assert placeholder["spec"]["replicas"] == 2
    assert pod["priorityClassName"] == names.HEADROOM_PRIORITY_CLASS
    engine = world.live("Deployment", "gold-spot")["spec"]["template"]["spec"]
    assert pod["affinity"] == engine["affinity"]
    assert pod["containers"][0]["resources"] == engine["containers"][0].get("resources", {})
    world.put(provided({"existing": {}}, headroom=0))
    await world.settle()
    assert world.api.find("Deployment", NAMESPACE, "gold-headroom") is None
    assert world.said(names.KIND_TIER, "gold", NODE_POOLS_READY) == ("", "", "")


async def test_placeholders_give_way_to_a_buffer_once_the_cluster_has_them() -> None:
    world = World()
    world.api.unlisted["CapacityBuffer"] = NO_KIND
    world.put(region(), provided({"existing": {}}, headroom=1), adapter())
    await world.settle()
    del world.api.unlisted["CapacityBuffer"]
    await world.settle(seconds=60)
    assert len(world.peek("CapacityBuffer")) == 1
    assert world.api.find("Deployment", NAMESPACE, "gold-headroom") is None


async def test_refused_placeholders_are_said() -> None:
    world = World()
    world.api.unlisted["CapacityBuffer"] = NO_KIND
    world.put(region(), provided({"existing": {}}, headroom=1), adapter())
    await world.settle()
    failure = {"type": "ReplicaFailure", "status": "True", "message": "no PriorityClass with name npc-headroom"}
    world.api.set_status("Deployment", NAMESPACE, "gold-headroom", {"conditions": [failure]})
    await world.settle()
    assert condition(world)[:2] == ("False", reasons.HEADROOM_REFUSED)
    assert "PriorityClass" in condition(world)[2]


async def test_no_room_is_kept_any_more_when_none_is_wanted() -> None:
    world = await settled({"existing": {}}, headroom=2)
    world.put(tier())
    await world.settle()
    assert world.peek("CapacityBuffer") == []
    assert names.ANNOTATION_NODE_POOLS not in (metadata(world).get("annotations") or {})


async def test_a_tier_that_asks_for_nothing_costs_nothing() -> None:
    world = World()
    world.put(region(), tier(), adapter())
    await world.settle()
    asked: list[Call] = [call for call in world.api.calls if call.manager == names.MANAGER_OUTSIDE]
    assert asked == []
    assert "nodePools" not in world.live(names.KIND_TIER, "gold")["spec"]


async def test_nothing_is_made_for_nodes_that_are_there() -> None:
    world = await settled({"existing": {}})
    assert [call for call in world.api.calls if call.manager == names.MANAGER_OUTSIDE] == []
    assert (pools(world), world.groups.live, finalizers(world)) == ([], {}, [])
    assert world.said(names.KIND_TIER, "gold", "Ready")[0] == "True"
