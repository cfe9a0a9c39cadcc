"""The real Karpenter core orders machines for pods that ask for GPUs, and leaves nothing behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hack.cluster import karpenter, kwok, notices
from hack.cluster.beside import Beside
from hack.cluster.node import is_ready

PODS = "/api/v1/namespaces/default/pods"
POOLS = "/apis/karpenter.sh/v1/nodepools"
TAINT = "example.org/fake"
SPOT = {"karpenter.sh/capacity-type": "spot"}


@pytest.fixture(scope="module")
def karpenter_runs(beside: Beside) -> Iterator[Beside]:
    karpenter.up(beside, karpenter.DEFAULT_TYPES)
    yield beside
    karpenter.down(beside)


def asking(name: str, *, gpus: int = 1, selector: dict[str, str] | None = None, tolerates: str = "") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeSelector": selector or {},
            "tolerations": [{"key": tolerates, "operator": "Exists"}] if tolerates else [],
            "containers": [
                {
                    "name": "engine",
                    "image": "registry.invalid/none",
                    "resources": {"limits": {"nvidia.com/gpu": str(gpus)}, "requests": {"cpu": "1", "memory": "4Gi"}},
                }
            ],
        },
    }


def until(what: str, look: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return seen


def pods_on_nodes(beside: Beside, names: set[str]) -> dict[str, str] | None:
    """Each of these pods' node once all are Running."""
    seen = {pod["metadata"]["name"]: pod for pod in beside.api.get(PODS)["items"]}
    if all(name in seen and seen[name]["status"].get("phase") == "Running" for name in names):
        return {name: seen[name]["spec"]["nodeName"] for name in names}
    return None


def test_three_pods_that_ask_for_spot_gpus_get_a_spot_node_and_run(karpenter_runs: Beside) -> None:
    beside = karpenter_runs
    beside.api.apply(f"{POOLS}/spot", karpenter.node_pool("spot", capacity=["spot"], taint=TAINT))
    beside.api.call("POST", PODS, asking("intolerant", selector=SPOT))
    names = {f"spot-{index}" for index in range(3)}
    for name in names:
        beside.api.call("POST", PODS, asking(name, selector=SPOT, tolerates=TAINT))
    claims = karpenter.wait_for_claims(beside, 1)
    assert {claim["metadata"]["labels"]["karpenter.sh/capacity-type"] for claim in claims} == {"spot"}
    places = until("the pods never ran", lambda: pods_on_nodes(beside, names))
    nodes = {name: beside.api.get(f"/api/v1/nodes/{name}") for name in set(places.values())}
    assert all(is_ready(node) and kwok.is_fake(node) for node in nodes.values())
    assert {node["metadata"]["labels"]["karpenter.sh/capacity-type"] for node in nodes.values()} == {"spot"}
    assert pods_on_nodes(beside, {"intolerant"}) is None
    beside.api.delete(f"{PODS}/intolerant")


def test_a_market_that_runs_dry_gives_no_spot_node_and_one_that_recovers_does(karpenter_runs: Beside) -> None:
    beside = karpenter_runs
    karpenter.up(beside, karpenter.without_spot())
    beside.api.apply(f"{POOLS}/spot", karpenter.node_pool("spot", capacity=["spot"]))
    beside.api.apply(f"{POOLS}/on-demand", karpenter.node_pool("on-demand", capacity=["on-demand"]))
    before = {claim["metadata"]["name"] for claim in karpenter.claims(beside)}
    beside.api.call("POST", PODS, asking("dry-spot", gpus=4, selector=SPOT))
    beside.api.call("POST", PODS, asking("dry-any", gpus=4, selector={"karpenter.sh/capacity-type": "on-demand"}))
    # Karpenter looks at both pods in one batch: when the second has its node, the first was refused one.
    until("the on-demand pod never ran", lambda: pods_on_nodes(beside, {"dry-any"}))
    fresh = [claim for claim in karpenter.claims(beside) if claim["metadata"]["name"] not in before]
    assert {claim["metadata"]["labels"]["karpenter.sh/capacity-type"] for claim in fresh} == {"on-demand"}
    assert pods_on_nodes(beside, {"dry-spot"}) is None
    karpenter.up(beside, karpenter.DEFAULT_TYPES)
    until("spot came back and the pod never ran", lambda: pods_on_nodes(beside, {"dry-spot"}))


def test_what_died_is_started_again_and_what_runs_is_left_alone(karpenter_runs: Beside) -> None:
    beside = karpenter_runs
    running = {role: beside.processes.running(role) for role in karpenter.ROLES}
    karpenter.repair(beside)
    assert {role: beside.processes.running(role) for role in karpenter.ROLES} == running
    beside.processes.stop([karpenter.ROLE], grace_seconds=0)
    karpenter.repair(beside)
    assert beside.processes.running(karpenter.ROLE) is not None
    assert beside.processes.running(kwok.ROLE) == running[kwok.ROLE]


@pytest.mark.usefixtures("no_pods")
def test_down_leaves_neither_nodes_nor_pods_nor_kinds_nor_processes(beside: Beside) -> None:
    karpenter.up(beside)
    beside.api.apply(f"{POOLS}/any", karpenter.node_pool("any", capacity=["spot", "on-demand"]))
    beside.api.call("POST", PODS, asking("left-over"))
    until("the pod never ran", lambda: pods_on_nodes(beside, {"left-over"}))
    real = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "real"}}
    beside.api.call("POST", "/api/v1/nodes", real)
    karpenter.down(beside)
    assert [node["metadata"]["name"] for node in beside.api.get("/api/v1/nodes")["items"]] == ["real"]
    assert beside.api.get(PODS)["items"] == []
    kinds = beside.api.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")["items"]
    assert [kind["metadata"]["name"] for kind in kinds] == []
    assert [role for role in karpenter.ROLES if beside.processes.running(role)] == []
    assert beside.processes.marked() == []
    assert not karpenter.wanted(beside.folder)
    karpenter.down(beside)  # again, where nothing is


@pytest.fixture
def no_pods(beside: Beside) -> None:
    """The API server's own word: nothing that another test left waiting."""
    beside.api.call("DELETE", f"{PODS}?gracePeriodSeconds=0")
    until("pods of other tests never went", lambda: not beside.api.get(PODS)["items"])


@pytest.mark.usefixtures("no_pods")
def test_a_world_of_fake_nodes_is_ready_and_its_pods_run(beside: Beside) -> None:
    kwok.start(beside)
    kwok.populate(beside, nodes=12, pods=60, namespace="default")
    kwok.populate(beside, nodes=12, pods=60, namespace="default")  # what is there stays

    def all_well() -> bool:
        nodes, pods = kwok.fake_nodes(beside), beside.api.get(PODS)["items"]
        return all(is_ready(node) for node in nodes) and {pod["status"].get("phase") for pod in pods} == {"Running"}

    until("the nodes were never Ready with pods that run", all_well)
    pods = beside.api.get(PODS)["items"]
    assert len(pods) == 60
    assert len({pod["status"]["podIP"] for pod in pods}) == 60
    wave = [node["metadata"]["name"] for node in kwok.fake_nodes(beside)][:4]
    notices.give_all(beside.api, wave, "aks", seconds=30)
    announced = {
        node["metadata"]["name"]
        for node in kwok.fake_nodes(beside)
        if any(taint["key"] == notices.AKS_TAINT for taint in node["spec"].get("taints", []))
        and any(condition["type"] == notices.AKS_CONDITION for condition in node["status"]["conditions"])
    }
    assert announced == set(wave)
    assert kwok.remove_nodes(beside) == 12
    assert beside.api.get(PODS)["items"] == []
    kwok.stop(beside)
