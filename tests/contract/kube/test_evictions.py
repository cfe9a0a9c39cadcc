"""What the Kube port promises about evictions, asked of FakeKube and of a real kube-apiserver alike."""

from __future__ import annotations

from typing import Any

import pytest

from npc_operator.ports import Blocked, Conflict, ObjectRef
from tests.contract.kube.conftest import World

NOBODY = "11111111-1111-1111-1111-111111111111"
MANAGER = "test"


def pod(world: World, *, node: str = "") -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "engine", "image": "one"}]}
    if node:
        spec["nodeName"] = node
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "gold-1", "namespace": world.namespace, "labels": {"app": "gold"}},
        "spec": spec,
    }


async def start(world: World) -> tuple[ObjectRef, str]:
    """A pod that runs on a node."""
    await world.kube.apply(pod(world, node="node-1"), manager=MANAGER)
    running = {**pod(world), "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    del running["spec"]
    live = await world.kube.apply(running, manager="kubelet", subresource="status")
    meta = live["metadata"]
    return ObjectRef("v1", "Pod", world.namespace, meta["name"], meta["uid"]), meta["resourceVersion"]


async def keep_budget(world: World, allowed: int) -> None:
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "gold", "namespace": world.namespace},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "gold"}}},
    }
    await world.kube.apply(budget, manager=MANAGER)
    status = {
        "observedGeneration": 1,
        "disruptionsAllowed": allowed,
        "currentHealthy": 1,
        "desiredHealthy": 0,
        "expectedPods": 1,
    }
    said = {**budget, "status": status}
    del said["spec"]
    await world.kube.apply(said, manager="controller", subresource="status")


async def test_an_evicted_pod_on_a_node_is_being_deleted_and_says_that_it_was_disrupted(world: World) -> None:
    ref, version = await start(world)
    await world.kube.evict(ref, resource_version=version)
    live = await world.kube.get(ref)
    assert live is not None
    assert live["metadata"]["deletionTimestamp"]
    conditions = {one["type"]: one["status"] for one in live["status"]["conditions"]}
    assert conditions["DisruptionTarget"] == "True"


async def test_a_pod_without_a_node_is_gone_when_it_is_evicted(world: World) -> None:
    live = await world.kube.apply(pod(world), manager=MANAGER)
    ref = ObjectRef("v1", "Pod", world.namespace, "gold-1", live["metadata"]["uid"])
    await world.kube.evict(ref, resource_version=live["metadata"]["resourceVersion"])
    assert await world.kube.get(ref) is None


async def test_a_budget_that_allows_none_blocks_and_the_pod_stays(world: World) -> None:
    ref, version = await start(world)
    await keep_budget(world, allowed=0)
    with pytest.raises(Blocked) as caught:
        await world.kube.evict(ref, resource_version=version)
    assert caught.value.retryable
    live = await world.kube.get(ref)
    assert live is not None
    assert "deletionTimestamp" not in live["metadata"]


async def test_a_budget_that_allows_one_lets_it_go(world: World) -> None:
    ref, version = await start(world)
    await keep_budget(world, allowed=1)
    await world.kube.evict(ref, resource_version=version)
    live = await world.kube.get(ref)
    assert live is not None
    assert live["metadata"]["deletionTimestamp"]


async def test_an_eviction_takes_exactly_the_pod_that_was_seen(world: World) -> None:
    ref, version = await start(world)
    other = ObjectRef(ref.api_version, ref.kind, ref.namespace, ref.name, NOBODY)
    with pytest.raises(Conflict):
        await world.kube.evict(other, resource_version=version)
    with pytest.raises(Conflict):
        await world.kube.evict(ref, resource_version="1")
    live = await world.kube.get(ref)
    assert live is not None
    assert "deletionTimestamp" not in live["metadata"]


async def test_evicting_what_is_gone_is_success(world: World) -> None:
    await world.kube.evict(ObjectRef("v1", "Pod", world.namespace, "nobody", NOBODY), resource_version="1")


async def test_an_annotation_of_ours_on_a_pod_comes_and_goes_and_leaves_the_rest(world: World) -> None:
    ref, _ = await start(world)
    meta = {"name": ref.name, "namespace": ref.namespace, "uid": ref.uid}
    mine = {**meta, "annotations": {"npcfleet.dev/interruption": "{}"}}
    live = await world.kube.apply({"apiVersion": "v1", "kind": "Pod", "metadata": mine}, manager="ours")
    assert live["metadata"]["annotations"] == {"npcfleet.dev/interruption": "{}"}
    live = await world.kube.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta}, manager="ours")
    assert not live["metadata"].get("annotations")
    assert live["metadata"]["labels"] == {"app": "gold"}
    gone = {"apiVersion": "v1", "kind": "Pod", "metadata": {**mine, "name": "nobody"}}
    with pytest.raises(Conflict):
        await world.kube.apply(gone, manager="ours")
