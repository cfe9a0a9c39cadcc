"""NodePools and CapacityBuffers on a real API server, with the real Karpenter deciding about them: what we write is
accepted and does not drift, pods of each slice get nodes of their own, and a deleted tier leaves nothing."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hack.cluster import karpenter
from hack.cluster.beside import Beside
from npc_operator.api import names
from npc_operator.clients.connection import connect
from npc_operator.clients.kube import KubeClient
from npc_operator.clients.metrics import Metrics
from npc_operator.domain import reasons
from npc_operator.domain.facts import Adapter, Child, Pod, Region, Tier
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.domain.nodepools import NodePoolsFact
from npc_operator.edge.parse import learn, parse
from npc_operator.loop.store import Store
from npc_operator.manifests.engine_pod import build_pod_template
from npc_operator.manifests.pod_layout import EngineInputs
from npc_operator.ports import Images, ObjectRef, Outside
from npc_operator.reconcilers import Reconcilers
from tests.component.operator.harness import FakeMeter, FakeRecorder, FakeStamps
from tests.support.beside_env import beside_env
from tests.support.builders import tier
from tests.support.fake_agents import FakeAgents
from tests.support.fake_gateways import FakeGateways
from tests.support.fake_groups import FakeGroups
from tests.support.kube_env import KubeEnv

NAMESPACE = "pools"
POOLS = [names.node_pool(NAMESPACE, "gold", slice_) for slice_ in ("on-demand", "spot")]
BUFFER = ObjectRef("autoscaling.x-k8s.io/v1beta1", "CapacityBuffer", NAMESPACE, "gold-headroom")


class WallClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


@dataclass
class Operator:
    """The reconciler on the real API server; the store is told what a watch would bring."""

    kube: KubeClient
    store: Store
    reconcilers: Reconcilers
    recorder: FakeRecorder

    async def run(self) -> NodePoolsFact | None:
        """Look at the tier as it is now, and act."""
        live = await self.tier()
        if live is not None:
            learn(self.store, parse(names.API_VERSION, names.KIND_TIER, live))
        await self.reconcilers.reconcile(Key(KeyKind.NODE_POOLS, NAMESPACE, "gold"))
        return self.store.get(NodePoolsFact, NAMESPACE, "gold")

    async def tier(self) -> Any:
        return await self.kube.get(ObjectRef(names.API_VERSION, names.KIND_TIER, NAMESPACE, "gold"))

    async def pools(self) -> list[Any]:
        return [one async for one in self.kube.list("karpenter.sh/v1", "NodePool", namespace=None)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KubeEnv, Beside]]:
    # NodeClaims go with their NodePool by the garbage collector.
    with beside_env(tmp_path_factory.mktemp("pools"), controllers=("garbage-collector",)) as (env, beside):
        env.install_crds()
        env.kubectl("create", "namespace", NAMESPACE)
        yield env, beside


@pytest.fixture
async def operator(place: tuple[KubeEnv, Beside]) -> AsyncIterator[Operator]:
    kube = KubeClient(await connect(kubeconfig=str(place[0].kubeconfig)), metrics=Metrics())
    clock, recorder = WallClock(), FakeRecorder()
    store = Store(clock)
    for kind in (Region, Tier, Adapter, Pod, Child):
        store.mark_synced(kind)
    outside = Outside(
        kube=kube,
        agents=FakeAgents(),
        gateways=FakeGateways(),
        groups=FakeGroups(),
        recorder=recorder,
        meter=FakeMeter(),
        clock=clock,
        stamps=FakeStamps(1),
        images=Images(engine="vllm:1", fleet="npc-fleet:1"),
    )
    yield Operator(kube, store, Reconcilers(store, outside), recorder)
    await kube.close()


def wanted(**karpenter_fields: Any) -> dict[str, Any]:
    provider = {"karpenter": {"nodeClassRef": karpenter.NODE_CLASS, **karpenter_fields}}
    spec = {"accelerator": {"perReplica": 1}, "nodePools": {"provider": provider, "headroomReplicas": 1}}
    made = tier(spec=spec)
    return {**made, "metadata": {"name": "gold", "namespace": NAMESPACE}}


FULL: dict[str, Any] = {
    "requirements": [
        {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]},
        {"key": "karpenter.kwok.sh/instance-cpu", "operator": "Gt", "values": ["1"]},
    ],
    "taints": [{"key": "nvidia.com/gpu"}],
    "limits": {"nvidia.com/gpu": 8, "memory": "1024Gi"},
    "weight": 10,
    "expireAfter": "Never",
    "terminationGracePeriod": "5m",
    "labels": {"team": "voices"},
    "disruption": {
        "consolidationPolicy": "WhenEmptyOrUnderutilized",
        "consolidateAfter": "1h30m",
        "budgets": [{"nodes": "1", "schedule": "0 9 * * *", "duration": "8h", "reasons": ["Drifted"]}],
    },
}


def until(what: str, look: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, what
        time.sleep(0.2)
    return seen


def kinds_answer(env: KubeEnv) -> bool:
    paths = ("karpenter.sh/v1/nodepools", "autoscaling.x-k8s.io/v1beta1/capacitybuffers")
    return all('"items"' in env.kubectl("get", "--raw", f"/apis/{path}", check=False) for path in paths)


async def test_without_karpenter_the_condition_says_what_to_install(
    place: tuple[KubeEnv, Beside], operator: Operator
) -> None:
    place[0].kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(wanted()))
    fact = await operator.run()
    assert fact is not None
    assert (fact.ready, fact.reason) == (False, reasons.KARPENTER_MISSING)
    placeholder = await operator.kube.get(ObjectRef("apps/v1", "Deployment", NAMESPACE, "gold-headroom"))
    assert placeholder is not None
    assert placeholder["spec"]["template"]["spec"]["priorityClassName"] == names.HEADROOM_PRIORITY_CLASS


@pytest.mark.parametrize("fields", [{}, FULL], ids=["plain", "everything"])
async def test_what_is_written_is_accepted_and_does_not_drift(
    place: tuple[KubeEnv, Beside], operator: Operator, fields: dict[str, Any]
) -> None:
    env, beside = place
    karpenter.up(beside, karpenter.DEFAULT_TYPES)
    # A kind that was just established answers a little later; until then it is not there, for the operator too.
    until("the kinds were never served", lambda: kinds_answer(env))
    env.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(wanted(**fields)))
    before = await operator.tier()
    await operator.run()
    first = {one["metadata"]["name"]: one for one in await operator.pools()}
    assert sorted(first) == sorted(POOLS)
    buffer = await operator.kube.get(BUFFER)
    assert buffer is not None
    noted = await operator.tier()
    assert noted["metadata"]["finalizers"] == [names.FINALIZER_NODE_POOLS]
    assert (noted["spec"], noted["metadata"]["generation"]) == (before["spec"], before["metadata"]["generation"])
    fact = await operator.run()
    assert fact is not None
    # The generation, because Karpenter writes its status and annotations meanwhile.
    again = {one["metadata"]["name"]: one["metadata"]["generation"] for one in await operator.pools()}
    assert again == {name: one["metadata"]["generation"] for name, one in first.items()}
    kept = await operator.kube.get(BUFFER)
    assert kept is not None
    assert kept["metadata"]["generation"] == buffer["metadata"]["generation"]
    assert (await operator.tier())["metadata"]["resourceVersion"] == noted["metadata"]["resourceVersion"]


async def test_karpenter_finds_our_pools_ready_and_pods_of_each_slice_get_nodes_of_their_own(
    place: tuple[KubeEnv, Beside], operator: Operator
) -> None:
    env, beside = place
    env.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(wanted()))
    await operator.run()
    tier_fact = operator.store.get(Tier, NAMESPACE, "gold")
    assert tier_fact is not None
    for slice_ in ("on-demand", "spot"):
        inputs = EngineInputs(tier_fact.meta, tier_fact.spec, slice_, "key", "npc-fleet:1", "vllm:1", "")
        template: Any = build_pod_template(inputs)["spec"]
        fields = ("affinity", "tolerations")
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": slice_, "namespace": NAMESPACE},
            "spec": {
                **{field: template[field] for field in fields},
                "containers": [
                    {"name": "engine", "image": "x.invalid/x", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
                ],
            },
        }
        env.kubectl("apply", "-f", "-", stdin=json.dumps(pod))

    def claims() -> set[tuple[str, str, str]]:
        found = [one["metadata"]["labels"] for one in karpenter.claims(beside)]
        return {
            (one["karpenter.sh/nodepool"], one.get("karpenter.sh/capacity-type", ""), one.get(names.LABEL_SLICE, ""))
            for one in found
        }

    expected = {(POOLS[0], "on-demand", "on-demand"), (POOLS[1], "spot", "spot")}
    until(f"no nodes of both kinds: {claims()}", lambda: claims() >= expected)
    fact = await operator.run()
    assert fact is not None
    assert (fact.ready, fact.reason) == (True, reasons.NODE_POOLS_KEPT), fact.message


async def test_a_deleted_tier_leaves_neither_pools_nor_itself(
    place: tuple[KubeEnv, Beside], operator: Operator
) -> None:
    env, beside = place
    await operator.run()
    env.kubectl("delete", "gputier", "gold", "-n", NAMESPACE, "--wait=false")
    for _ in range(20):
        if await operator.tier() is None:
            break
        await operator.run()
    assert await operator.tier() is None
    assert await operator.pools() == []
    env.kubectl("delete", "pod", "--all", "-n", NAMESPACE, "--grace-period=0", "--force")
    until("Karpenter never drained the nodes", lambda: not karpenter.claims(beside), seconds=120)
    karpenter.down(beside)


async def test_a_tier_that_a_backup_wrote_whole_loses_the_stale_note_and_names_its_finalizer(
    place: tuple[KubeEnv, Beside], operator: Operator
) -> None:
    env, _ = place
    restored = tier(spec={"nodePools": {"provider": {"existing": {}}}})
    metadata = {
        "name": "gold",
        "namespace": NAMESPACE,
        "annotations": {names.ANNOTATION_NODE_POOLS: '["karpenter"]'},
        "finalizers": [names.FINALIZER_NODE_POOLS],
    }
    env.kubectl("create", "-f", "-", stdin=json.dumps({**restored, "metadata": metadata}))
    fact = await operator.run()
    live = await operator.tier()
    assert names.ANNOTATION_NODE_POOLS not in live["metadata"].get("annotations", {})
    assert fact is not None
    assert (fact.ready, fact.reason) == (False, reasons.FINALIZER_HELD)
    assert "finalizers" in live["metadata"]  # what is said is true: an apply cannot take it off
    env.kubectl("patch", "gputier", "gold", "-n", NAMESPACE, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert await operator.run() is None
