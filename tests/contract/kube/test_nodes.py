"""The watch of nodes on a real kube-apiserver: every page, every change, and the rights of the table are enough."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable

import pytest

from npc_operator.clients import nodes
from npc_operator.clients.connection import connect
from npc_operator.clients.kube import KubeClient
from npc_operator.clients.metrics import Metrics
from npc_operator.clients.nodes import NodeWatch
from npc_operator.domain.facts import NodeFact
from npc_operator.domain.interruption.notices import Kind
from npc_operator.domain.interruption.visibility import NODES, NodesFact
from npc_operator.loop.store import Store
from npc_operator.ports import ObjectRef
from npc_operator.rights import Scope
from npc_operator.wiring.process import SystemClock
from tests.contract.kube.test_rights import apply_all
from tests.support.kube_env import KubeEnv
from tests.support.rbac import cluster_wide


@contextlib.asynccontextmanager
async def watching(kube: KubeClient) -> AsyncIterator[Store]:
    store = Store(SystemClock())
    task = asyncio.create_task(NodeWatch(source=kube, store=store, strange=lambda word: None).run())
    try:
        yield store
    finally:
        task.cancel()
        await asyncio.wait({task})


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not holds():  # noqa: ASYNC110 - what is waited for is in a store without events of its own
            await asyncio.sleep(0.05)


async def test_nodes_are_listed_in_pages_and_followed_with_the_rights_of_the_table(
    env: KubeEnv, client: KubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "PAGE", 2)
    user = f"operator-{uuid.uuid4().hex[:6]}"
    mine = [f"{user}-{number}" for number in range(5)]
    for name in mine:
        await client.apply(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name},
                "spec": {"providerID": f"aws:///zone/i-{name}"},
            },
            manager="test",
        )
    apply_all(env, user, cluster_wide(user, Scope.NODES))
    kube = KubeClient(await connect(kubeconfig=str(env.kubeconfig_for(user))), metrics=Metrics())
    try:
        async with watching(kube) as store:
            await until(lambda: set(mine) <= set(store.list(NodeFact, "")))
            assert store.list(NodeFact, "")[mine[0]].instance == f"i-{mine[0]}"
            tainted = {"taints": [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]}
            await client.apply(
                {"apiVersion": "v1", "kind": "Node", "metadata": {"name": mine[0]}, "spec": tainted}, manager="other"
            )
            await until(lambda: [one.kind for one in store.list(NodeFact, "")[mine[0]].notices] == [Kind.DRAIN])
            live = await client.get(ObjectRef("v1", "Node", "", mine[1]))
            assert live is not None
            meta = live["metadata"]
            await client.delete(
                ObjectRef("v1", "Node", "", mine[1], meta["uid"]), resource_version=meta["resourceVersion"]
            )
            await until(lambda: mine[1] not in store.list(NodeFact, ""))
    finally:
        await kube.close()


async def test_whoever_may_not_see_nodes_goes_on_without(env: KubeEnv) -> None:
    user = f"operator-{uuid.uuid4().hex[:6]}"
    kube = KubeClient(await connect(kubeconfig=str(env.kubeconfig_for(user))), metrics=Metrics())
    try:
        async with watching(kube) as store:
            await until(lambda: store.synced(NodeFact))
            assert store.get(NodesFact, "", NODES) == NodesFact(hidden=True)
            assert not store.list(NodeFact, "")
    finally:
        await kube.close()
