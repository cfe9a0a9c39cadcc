"""A tier with NodePools of its own, under the real Karpenter: its pods get nodes of their slice, a market that runs dry
brings on-demand nodes, consolidation leaves the floor alone, and nothing stays behind. Nodes and engine pods are fake
(Karpenter's own test program and kwok); the operator, its charts and Karpenter's decisions are real.

The nodes carry the GPUs' taint, so that no pod of another tier lands there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest_asyncio

from hack.cluster import api, karpenter
from hack.cluster.beside import Beside
from hack.stack import install, regions
from hack.stack.install import Stack
from hack.stack.kubectl import Object
from npc_operator.api import names
from npc_operator.domain.nodepools.report import NODE_POOLS_READY
from tests.e2e.plans import RESYNC_SECONDS, quiet_region
from tests.support.fake_engine import one_file

NAMESPACE = "pools"
TIER = "gpu"
OURS = f"{names.LABEL_NAMESPACE}={NAMESPACE},{names.LABEL_TIER}={TIER}"
PODS = f"{names.LABEL_COMPONENT}={names.COMPONENT_ENGINE},{names.LABEL_TIER}={TIER}"
AFTER_SECONDS = 10
"""Only where the market runs dry: nodes that are on their way may take longer."""
TYPES = tuple(kind for kind in karpenter.DEFAULT_TYPES if kind.gpus)


def gpu_tier(**spec: Any) -> Object:
    """No region names it, so it keeps as many pods as `replicas` says: a floor of one, the rest on spot."""
    provider = {
        "karpenter": {
            "nodeClassRef": karpenter.NODE_CLASS,
            "taints": [{"key": "nvidia.com/gpu"}],
            "disruption": {"consolidationPolicy": "WhenEmptyOrUnderutilized", "consolidateAfter": "5s"},
        }
    }
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND_TIER,
        "metadata": {"name": TIER, "namespace": NAMESPACE},
        "spec": {
            "quality": "Bronze",
            "model": {"uri": "hf://npc/fake", "parametersMillions": 100},
            "engine": {"resources": {"requests": {"cpu": "1", "memory": "4Gi"}}},
            "accelerator": {"perReplica": 1},
            "replicas": 3,
            "capacity": {"onDemandBase": 1},
            "nodePools": {"provider": provider},
            **spec,
        },
    }


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def beside(stack: Stack) -> AsyncIterator[Beside]:
    """Karpenter beside the real nodes, the right to use it, and a namespace with a region."""
    await install.install_operator(stack, resyncSeconds=RESYNC_SECONDS, nodePools={"enabled": True})
    made = await asyncio.to_thread(api.karpenter_up, TYPES)
    await regions.install(stack, quiet_region(stack, NAMESPACE), fake_engine=one_file())
    yield made
    if await stack.kubectl.find("namespace", NAMESPACE, "default") is not None:
        await regions.uninstall(stack.kubectl, stack.helm, NAMESPACE, NAMESPACE)
    await asyncio.to_thread(api.karpenter_down)


async def until(what: str, look: Callable[[], Any], *, timeout: float = 120.0) -> Any:
    """What `look` finds as soon as it finds something; it asks the API server, so it runs in a thread."""
    try:
        async with asyncio.timeout(timeout):
            while True:
                if seen := await asyncio.to_thread(look):
                    return seen
                await asyncio.sleep(0.5)
    except TimeoutError:
        raise AssertionError(f"not seen in {timeout:.0f} s: {what}") from None


def pods(beside: Beside) -> list[Object]:
    found: list[Object] = beside.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector={PODS}")["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def node_types(beside: Beside, slice_: str) -> list[str]:
    """Capacity types of the nodes on which the slice's pods run."""
    found = []
    for pod in pods(beside):
        node = pod["spec"].get("nodeName")
        if pod["metadata"]["labels"][names.LABEL_SLICE] == slice_ and node:
            labels = beside.api.get(f"/api/v1/nodes/{node}")["metadata"]["labels"]
            assert (labels[names.LABEL_TIER], labels[names.LABEL_SLICE]) == (TIER, slice_)
            found.append(labels["karpenter.sh/capacity-type"])
    return found


def floor(beside: Beside) -> set[str]:
    """The on-demand pods."""
    return {
        pod["metadata"]["uid"]
        for pod in pods(beside)
        if pod["metadata"]["labels"][names.LABEL_SLICE] == names.SLICE_ON_DEMAND and pod["spec"].get("nodeName")
    }


async def test_pods_of_each_slice_get_nodes_of_their_own(stack: Stack, beside: Beside) -> None:
    await stack.kubectl.apply(gpu_tier())
    await until("a floor on demand", lambda: node_types(beside, names.SLICE_ON_DEMAND) == ["on-demand"])
    await until("the rest on spot", lambda: node_types(beside, names.SLICE_SPOT) == ["spot", "spot"])

    def is_kept(seen: Object) -> bool:
        conditions = seen.get("status", {}).get("conditions", ())
        return any(one["type"] == NODE_POOLS_READY and one["status"] == "True" for one in conditions)

    await stack.kubectl.until("gputier", TIER, NAMESPACE, is_kept, what=f"{NODE_POOLS_READY} True")


async def test_consolidation_takes_empty_nodes_and_never_the_floor(stack: Stack, beside: Beside) -> None:
    await stack.kubectl.patch("gputier", TIER, NAMESPACE, {"spec": {"replicas": 7}})
    await until("six pods on spot", lambda: len(node_types(beside, names.SLICE_SPOT)) == 6)
    kept, many = floor(beside), len(karpenter.claims(beside))
    assert len(kept) == 1
    await stack.kubectl.patch("gputier", TIER, NAMESPACE, {"spec": {"replicas": 2}})
    await until("fewer nodes", lambda: len(karpenter.claims(beside)) < many and len(pods(beside)) == 2, timeout=240)
    assert floor(beside) == kept


async def test_a_spot_market_that_runs_dry_brings_on_demand_nodes(stack: Stack, beside: Beside) -> None:
    await asyncio.to_thread(api.karpenter_up, karpenter.without_spot(TYPES))
    try:
        dry = {"replicas": 10, "capacity": {"fallback": {"afterSeconds": AFTER_SECONDS}}}
        await stack.kubectl.patch("gputier", TIER, NAMESPACE, {"spec": dry})
        await until(
            "on-demand nodes in place of spot", lambda: len(node_types(beside, names.SLICE_ON_DEMAND)) > 1, timeout=180
        )
    finally:
        await asyncio.to_thread(api.karpenter_up, TYPES)


async def test_a_changed_node_pool_is_put_back(stack: Stack, beside: Beside) -> None:
    name = names.node_pool(NAMESPACE, TIER, names.SLICE_SPOT)
    await stack.kubectl.patch("nodepool", name, "default", {"spec": {"disruption": {"consolidateAfter": "Never"}}})
    await stack.kubectl.until(
        "nodepool", name, "default", lambda seen: seen["spec"]["disruption"]["consolidateAfter"] == "5s"
    )


async def test_a_deleted_region_leaves_neither_pools_nor_nodes(stack: Stack, beside: Beside) -> None:
    await regions.uninstall(stack.kubectl, stack.helm, NAMESPACE, NAMESPACE)
    path = f"/apis/karpenter.sh/v1/nodepools?labelSelector={OURS}"
    await until("no NodePool", lambda: beside.api.get(path)["items"] == [])
    await until("no node", lambda: karpenter.claims(beside) == [], timeout=240)
