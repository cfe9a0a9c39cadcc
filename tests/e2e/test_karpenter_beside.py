"""The real Karpenter core beside the real nodes: it orders fake machines for GPU pods, touches nothing that is not its
own, is mended by the command that mends the cluster, and goes without a trace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from hack.cluster import api, karpenter, kwok
from hack.cluster.beside import Beside
from hack.cluster.local import LocalDriver
from hack.cluster.node import is_ready
from hack.stack import commands
from hack.stack.install import Stack

NAMESPACE = "default"
# Pods of the regions that wait for room must never get a fake node.
TAINT = "e2e.npcfleet.dev/fake"
PODS = ("for-karpenter-1", "for-karpenter-2", "for-karpenter-3")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def beside(stack: Stack) -> AsyncIterator[Beside]:
    made = await asyncio.to_thread(api.karpenter_up)
    yield made
    for name in PODS:
        await stack.kubectl.delete("pod", name, NAMESPACE)
    await asyncio.to_thread(api.karpenter_down)


def asking_for_a_spot_gpu(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "tolerations": [{"key": TAINT, "operator": "Exists"}],
            "nodeSelector": {"karpenter.sh/capacity-type": "spot"},
            "containers": [
                {
                    "name": "engine",
                    "image": api.busybox(),
                    "resources": {"limits": {"nvidia.com/gpu": "1"}, "requests": {"cpu": "1", "memory": "4Gi"}},
                }
            ],
        },
    }


async def test_pods_that_ask_for_spot_gpus_run_on_nodes_that_karpenter_ordered(stack: Stack, beside: Beside) -> None:
    real = {node["metadata"]["name"] for node in await stack.kubectl.list("node", "") if not kwok.is_fake(node)}
    await stack.kubectl.apply(karpenter.node_pool("beside-spot", capacity=["spot"], taint=TAINT))
    await stack.kubectl.apply(*(asking_for_a_spot_gpu(name) for name in PODS))
    await asyncio.to_thread(karpenter.wait_for_claims, beside, 1, seconds=120)
    for name in PODS:
        pod = await stack.kubectl.until(
            "pod", name, NAMESPACE, lambda seen: seen["status"].get("phase") == "Running", timeout=120
        )
        node = await stack.kubectl.get("node", pod["spec"]["nodeName"], "")
        assert kwok.is_fake(node)
        assert node["metadata"]["labels"]["karpenter.sh/capacity-type"] == "spot"
    after = await stack.kubectl.list("node", "")
    assert {node["metadata"]["name"] for node in after if not kwok.is_fake(node)} == real
    assert all(is_ready(node) for node in after)


async def test_a_karpenter_that_died_is_named_by_status_and_brought_back_by_up(stack: Stack, beside: Beside) -> None:
    for role in karpenter.ROLES:
        await asyncio.to_thread(api.kill_process, role)
    with pytest.raises(commands.CommandError, match="status"):
        await commands.run_tool("hack.cluster", "status")
    await commands.run_tool("hack.cluster", "up")
    assert "BAD" not in await commands.run_tool("hack.cluster", "status")
    assert all(beside.processes.running(role) for role in karpenter.ROLES)


async def test_karpenter_goes_with_its_nodes_its_pods_and_its_kinds(stack: Stack, beside: Beside) -> None:
    await commands.run_tool("hack.cluster", "karpenter", "down")
    assert not any(kwok.is_fake(node) for node in await stack.kubectl.list("node", ""))
    for name in PODS:
        assert await stack.kubectl.find("pod", name, NAMESPACE) is None
    for name in karpenter.CRDS:
        assert await stack.kubectl.find("crd", name, "") is None
    assert not any(LocalDriver().beside().processes.running(role) for role in karpenter.ROLES)
    assert "karpenter" not in await commands.run_tool("hack.cluster", "status")
