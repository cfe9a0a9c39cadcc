"""Faults that no single object can show: said as conditions that name what to do, never in the way of the others."""

from __future__ import annotations

from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.domain import reasons
from npc_operator.domain.facts import Adapter, Region, Tier
from npc_operator.ports import PortError
from npc_runtime.gateway.table import compile_table
from npc_runtime.wire import EngineState, served_name
from tests.component.operator.harness import World
from tests.support.builders import NAMESPACE, digest, region, secret, tier
from tests.support.builders import at_once as adapter


async def test_two_adapters_for_one_archetype() -> None:
    world = World()
    world.put(region(), tier(), adapter("vampire", name="a-first"))
    world.put(adapter("vampire", name="b-second", digests={"gold": digest("other")}))
    await world.settle()

    assert world.said(names.KIND_ADAPTER, "a-first", "Ready")[0] == "True"
    assert world.said(names.KIND_ADAPTER, "b-second", "Stalled")[:2] == ("True", reasons.ARCHETYPE_TAKEN)
    assert "a-first" in world.said(names.KIND_ADAPTER, "b-second", "Stalled")[2]
    assert all(len(agent.resident) == 1 for agent in world.pods("gold").values())

    world.api.remove(names.KIND_ADAPTER, NAMESPACE, "a-first")
    await world.settle()
    assert world.said(names.KIND_ADAPTER, "b-second", "Ready")[0] == "True"
    name = served_name("vampire", digest("other"))
    assert all(set(agent.resident) == {name} for agent in world.pods("gold").values())


async def test_two_regions_in_one_namespace() -> None:
    world = World()
    world.put(region("a-first"), tier(), adapter())
    world.put(region("b-second"))
    await world.settle()

    assert world.said(names.KIND_REGION, "a-first", "Ready")[0] == "True"
    assert world.said(names.KIND_REGION, "b-second", "Stalled")[:2] == ("True", reasons.NAMESPACE_TAKEN)
    assert world.api.find("Deployment", NAMESPACE, "b-second-gateway") is None


async def test_a_tier_that_no_region_names_keeps_its_minimum() -> None:
    world = World()
    world.put(region(), tier(), tier("silver", spec={"minReplicas": 2}))
    await world.settle()

    assert world.said(names.KIND_TIER, "silver", "Stalled")[:2] == ("True", reasons.NO_REGION)
    assert len(world.pods("silver")) == 2
    assert world.said(names.KIND_TIER, "silver", "Ready")[0] == "True"


async def test_a_region_and_an_adapter_that_name_a_tier_that_is_not_there() -> None:
    world = World()
    world.put(region(tiers={"gold": 100, "ghost": 10}), tier())
    world.put(adapter(digests={"gold": digest("a"), "ghost": digest("b")}))
    await world.settle()

    assert world.said(names.KIND_REGION, "eu-west", "Stalled")[:2] == ("True", reasons.UNKNOWN_TIER)
    assert world.said(names.KIND_ADAPTER, "vampire", "Stalled")[:2] == ("True", reasons.UNKNOWN_TIER)
    assert world.variant("vampire")["stable"]["digest"] == digest("a")
    assert world.status(names.KIND_ADAPTER, "vampire")["readyVariants"] == "1/2"


async def test_a_default_tier_that_is_not_there_keeps_no_route_of_the_others_back() -> None:
    world = World()
    world.put(region(tiers={"ghost": 10, "gold": 100}, spec={"assignments": [{"npcPrefix": "vip-", "tier": "ghost"}]}))
    world.put(tier(), adapter())
    await world.settle()

    for gateway in world.doors().values():
        assert gateway.table is not None
        table = compile_table(gateway.table)  # what a gateway does before it takes a table, and refuses it otherwise
        assert ("gold", "vampire") in table.aliases
        assert [endpoint.tier for endpoint in table.endpoints] == ["gold"] * len(world.pods("gold"))


async def test_the_engines_of_a_tier_are_guarded_from_the_first_to_the_last_and_without_a_region() -> None:
    world = World()
    world.put(tier("gold", spec={"minReplicas": 1}))
    await world.settle()
    assert world.pods("gold")
    calls = [(call.kind, call.name) for call in world.api.calls if call.kind in ("NetworkPolicy", "Deployment")]
    assert calls[0] == ("NetworkPolicy", names.ENGINE_POLICY), "before any pod can start"
    world.put(tier("bronze"), region())
    await world.settle()

    def owners() -> list[str]:
        policy = world.live("NetworkPolicy", names.ENGINE_POLICY)
        return sorted(owner["name"] for owner in policy["metadata"]["ownerReferences"])

    assert owners() == ["bronze", "eu-west", "gold"]
    world.api.remove(names.KIND_TIER, NAMESPACE, "gold")
    world.api.collect_garbage()
    assert world.api.find("NetworkPolicy", NAMESPACE, names.ENGINE_POLICY), "its pods drain for a while"
    world.resync()
    await world.settle()
    assert owners() == ["bronze", "eu-west"]


async def test_no_engine_starts_while_nothing_can_guard_it() -> None:
    world = World()
    taken = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": names.ENGINE_POLICY, "namespace": NAMESPACE},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }
    world.api.put(taken)
    world.put(region(), tier())
    await world.settle()
    assert not world.pods("gold")
    assert world.said(names.KIND_TIER, "gold", "Stalled")[:2] == ("True", reasons.NAME_TAKEN)
    world.api.remove("NetworkPolicy", NAMESPACE, names.ENGINE_POLICY)
    world.resync()
    await world.settle()
    assert world.pods("gold")


async def test_a_rank_above_the_tier_is_never_brought_in_and_the_old_digest_serves_on() -> None:
    world = World()
    world.put(region(), tier(), adapter(digests={"gold": digest("small")}, rank=8))
    await world.settle()
    world.put(adapter(digests={"gold": digest("large")}, rank=64))
    await world.settle()

    assert world.said(names.KIND_ADAPTER, "vampire", "Stalled")[:2] == ("True", reasons.RANK_ABOVE_TIER)
    assert world.said(names.KIND_ADAPTER, "vampire", "Ready")[0] == "True"
    assert world.variant("vampire")["stable"]["digest"] == digest("small")
    large = served_name("vampire", digest("large"))
    assert not any(large in step for agent in world.pods("gold").values() for step in agent.history)


async def test_a_missing_secret_is_waited_for_and_its_credentials_travel_with_the_push() -> None:
    world = World()
    world.put(region(), tier(), adapter(secret="bucket"))
    world.learn_absent("bucket")
    await world.settle()
    assert world.said(names.KIND_ADAPTER, "vampire", "Stalled")[:2] == ("True", reasons.SECRET_NOT_FOUND)
    assert not any(agent.desired for agent in world.pods("gold").values())

    world.put(secret("bucket", {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "very-secret"}))
    await world.settle()

    assert world.said(names.KIND_ADAPTER, "vampire", "Ready")[0] == "True"
    entry = next(iter(world.pods("gold").values())).desired[0]
    assert entry.credentials["AWS_SECRET_ACCESS_KEY"].get_secret_value() == "very-secret"
    everything = (
        f"{world.recorder.events} {[world.status(kind, name) for kind, name in STATUSES]} {world.agents.pushes}"
    )
    assert "very-secret" not in everything


STATUSES = ((names.KIND_REGION, "eu-west"), (names.KIND_TIER, "gold"), (names.KIND_ADAPTER, "vampire"))


async def test_more_adapters_than_slots_leave_out_the_least_important() -> None:
    world = World()
    world.put(region(), tier(engine={"maxLoras": 1, "maxCpuLoras": 2}))
    world.put(adapter("crowd", spec={"importance": "Ambient"}), adapter("hero", spec={"importance": "Critical"}))
    world.put(adapter("smith"))
    await world.settle()

    assert world.said(names.KIND_ADAPTER, "hero", "Ready")[0] == "True"
    assert world.said(names.KIND_ADAPTER, "smith", "Ready")[0] == "True"
    assert world.said(names.KIND_ADAPTER, "crowd", "Stalled")[:2] == ("True", reasons.SLOTS_EXCEEDED)
    assert "crowd" in world.said(names.KIND_TIER, "gold", "Stalled")[2]
    assert all(agent.most <= 2 for agent in world.pods("gold").values())

    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"]["engine"].update(maxCpuLoras=3))
    await world.settle(seconds=120)
    assert world.said(names.KIND_ADAPTER, "crowd", "Ready")[0] == "True"
    assert world.said(names.KIND_TIER, "gold", "Stalled") == ("", "", "")


async def test_a_swap_on_a_full_tier_waits_for_a_slot_and_says_so() -> None:
    world = World()
    world.put(region(), tier(engine={"maxLoras": 1, "maxCpuLoras": 2}), adapter("hero"), adapter("smith"))
    await world.settle()
    world.set_digest("hero", digest("hero-2"))
    await world.settle()

    assert world.said(names.KIND_ADAPTER, "hero", "Stalled")[:2] == ("True", reasons.SLOTS_EXCEEDED)
    assert world.said(names.KIND_ADAPTER, "hero", "Ready")[0] == "True"
    assert all(agent.most <= 2 for agent in world.pods("gold").values())

    world.api.remove(names.KIND_ADAPTER, NAMESPACE, "smith")
    await world.settle()
    assert world.variant("hero")["stable"]["digest"] == digest("hero-2")
    assert all(agent.most <= 2 for agent in world.pods("gold").values())


async def test_pods_that_a_quota_refuses_are_told() -> None:
    world = World()
    world.put(region(), tier())
    await world.settle()
    refusal = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": "exceeded quota: gpus, requested 1, used 4, limited 4",
    }
    world.deployment_conditions = [refusal]
    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"].update(replicas=4))
    await world.settle()
    status, reason, message = world.said(names.KIND_TIER, "gold", "Stalled")
    assert (status, reason) == ("True", reasons.QUOTA_EXCEEDED)
    assert "exceeded quota" in message


async def test_pods_without_a_node_pull_faults_and_crash_loops_are_told() -> None:
    world = World()
    world.pods_become_ready = False
    world.put(region(), tier())
    await world.settle(seconds=5)
    name = next(iter(world.pods("gold")))
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    world.pod_status(
        name,
        phase="Pending",
        conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}],
    )
    await world.settle(seconds=5)
    assert world.said(names.KIND_TIER, "gold", "Reconciling") == (
        "True",
        reasons.UNSCHEDULABLE,
        f"pod {name}: {message}",
    )
    assert world.said(names.KIND_TIER, "gold", "Stalled") == ("", "", "")

    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image vllm:test"}
    world.pod_status(name, conditions=[], containerStatuses=[{"name": "engine", "state": {"waiting": waiting}}])
    await world.settle(seconds=5)
    assert world.said(names.KIND_TIER, "gold", "Stalled")[1] == reasons.IMAGE_PULL_FAILED

    state = {
        "name": "engine",
        "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
    }
    world.pod_status(name, conditions=[], containerStatuses=[state])
    await world.settle(seconds=5)
    _, reason, message = world.said(names.KIND_TIER, "gold", "Stalled")
    assert reason == reasons.CRASH_LOOPING
    assert "OOMKilled" in message
    assert "exit code 137" in message


async def test_the_base_models_progress_is_told_in_coarse_steps() -> None:
    world = World()
    world.pods_become_ready = False
    world.put(region(), tier(spec={"replicas": 1}))
    await world.settle(seconds=5)
    agent = next(iter(world.pods("gold").values()))
    agent.state, agent.done_bytes, agent.total_bytes = EngineState.FETCHING_MODEL, 5_300_000_000, 15_000_000_000
    await world.settle(seconds=5)
    assert "35% of 15.0 GB" in world.status(names.KIND_TIER, "gold")["model"]
    assert world.said(names.KIND_TIER, "gold", "Reconciling")[1] == reasons.FETCHING_MODEL
    world.api.forget_calls()
    agent.done_bytes += 100_000_000
    await world.settle(seconds=5)
    assert world.writes() == []


async def test_a_child_of_the_same_name_that_is_not_ours_is_left_alone() -> None:
    world = World()
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "gold-engine", "namespace": NAMESPACE}}
    world.api.put({**theirs, "spec": {"clusterIP": "10.1.1.1"}})
    world.put(region(), tier())
    await world.settle()
    assert world.said(names.KIND_TIER, "gold", "Stalled")[:2] == ("True", reasons.NAME_TAKEN)
    assert world.live("Service", "gold-engine")["spec"] == {"clusterIP": "10.1.1.1"}
    assert world.said(names.KIND_TIER, "gold", "Ready")[0] == "True"


async def test_a_child_that_the_api_server_refuses_is_told_and_the_others_are_kept() -> None:
    world = World()
    stop = world.api.fail(
        PortError("spec.template.spec.containers[0].env[0].name: Invalid value", reason="Invalid", retryable=False),
        where=lambda call: call.kind == "PodDisruptionBudget",
    )
    world.put(region(), tier())
    await world.settle()
    assert world.said(names.KIND_TIER, "gold", "Stalled")[:2] == ("True", reasons.INVALID_CHILD)
    assert len(world.pods("gold")) == 2
    stop()
    world.resync()
    await world.settle()
    assert world.said(names.KIND_TIER, "gold", "Stalled") == ("", "", "")


async def test_an_object_that_cannot_be_read_is_told_and_goes_on_being_served() -> None:
    world = World()
    world.put(region(), tier(), adapter("vampire"), adapter("zombie"))
    await world.settle()
    world.edit(names.KIND_ADAPTER, "vampire", lambda live: live["spec"].update(importance="Legendary"))
    await world.settle()
    assert world.said_raw(names.KIND_ADAPTER, "vampire", "Stalled")["reason"] == reasons.UNREADABLE
    assert "importance" in world.said_raw(names.KIND_ADAPTER, "vampire", "Stalled")["message"]
    assert all(len(agent.resident) == 2 for agent in world.pods("gold").values())
    world.api.forget_calls()
    world.resync()
    await world.settle()
    assert world.writes() == []


@pytest.mark.parametrize(
    ("kind", "name", "fact", "spoil"),
    [
        (names.KIND_ADAPTER, "vampire", Adapter, {"importance": "Legendary"}),
        (names.KIND_TIER, "gold", Tier, {"updateStrategy": {"maxSurge": "many"}}),
        (names.KIND_REGION, "eu-west", Region, {"gateway": {"auth": {"mode": "Oracle"}}}),
    ],
)
async def test_an_operator_that_never_understood_an_object_takes_nothing_away_for_it(
    kind: str, name: str, fact: type, spoil: dict[str, Any]
) -> None:
    world = World()
    world.put(region(), tier(), adapter("vampire"), adapter("zombie"))
    await world.settle()
    served = {address: set(agent.resident) for address, agent in world.agents.by_address.items()}
    world.edit(kind, name, lambda live: live["spec"].update(spoil))
    # A new process: what the last one understood is gone with it.
    world.store.drop(fact, NAMESPACE, name)
    world.lead()
    world.resync()
    await world.settle(seconds=60)
    assert world.said_raw(kind, name, "Stalled")["reason"] == reasons.UNREADABLE
    assert {address: set(agent.resident) for address, agent in world.agents.by_address.items()} == served
    for gateway in world.doors().values():
        assert set(gateway.routes("gold")) == {"vampire", "zombie"}


async def test_suspended_objects_keep_what_they_have() -> None:
    world = World()
    world.put(region(), tier(), adapter("vampire", digests={"gold": digest("1")}))
    await world.settle()
    world.edit(names.KIND_ADAPTER, "vampire", lambda live: live["spec"].update(suspend=True))
    world.set_digest("vampire", digest("2"))
    await world.settle()
    name = served_name("vampire", digest("1"))
    assert all(set(agent.resident) == {name} for agent in world.pods("gold").values())
    assert world.said(names.KIND_ADAPTER, "vampire", "Stalled")[1] == reasons.SUSPENDED
    assert world.said(names.KIND_ADAPTER, "vampire", "Ready")[0] == "True"

    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"].update(suspend=True, replicas=5))
    await world.settle()
    assert len(world.pods("gold")) == 2

    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"].update(suspend=False))
    world.edit(names.KIND_ADAPTER, "vampire", lambda live: live["spec"].update(suspend=False))
    await world.settle()
    assert len(world.pods("gold")) == 5
    assert world.variant("vampire")["stable"]["digest"] == digest("2")


async def test_objects_that_arrive_one_after_the_other_call_for_nobody() -> None:
    world = World()
    world.put_now(adapter())
    await world.settle(seconds=1)
    assert world.said(names.KIND_ADAPTER, "vampire", "Stalled") == ("", "", "")
    assert world.said(names.KIND_ADAPTER, "vampire", "Reconciling")[1] == reasons.UNKNOWN_TIER
    world.put_now(tier())
    await world.settle(seconds=1)
    assert world.said(names.KIND_TIER, "gold", "Stalled") == ("", "", "")
    world.put_now(region(tiers={"gold": 100, "silver": 50}))
    await world.settle(seconds=1)
    assert world.said(names.KIND_REGION, "eu-west", "Stalled") == ("", "", "")
    world.put_now(tier("silver"))
    await world.settle()
    assert world.said(names.KIND_ADAPTER, "vampire", "Ready")[0] == "True"
    told = [reason for _, reason, _ in world.recorder.events]
    assert not {reasons.UNKNOWN_TIER, reasons.NO_REGION, "Recovered"} & set(told)


async def test_what_is_still_missing_after_a_while_does() -> None:
    world = World()
    world.put_now(adapter(), tier("silver"))
    await world.settle(seconds=30)
    assert world.said(names.KIND_ADAPTER, "vampire", "Stalled")[1] == reasons.UNKNOWN_TIER
    assert world.said(names.KIND_TIER, "silver", "Stalled")[1] == reasons.NO_REGION
