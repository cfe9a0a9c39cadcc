"""kwok: nodes that are nothing but objects. It reports them Ready, renews their Leases and says their pods run.

It looks after nodes with its own annotation only, so it can run beside real ones. Used for Karpenter's fake instances
(see :mod:`hack.cluster.karpenter`), and for worlds larger than any machine here: a thousand nodes, thousands of pods.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hack.cluster.beside import Beside
from hack.cluster.binaries import KWOK, binary
from hack.cluster.bulk import Call, send_all
from hack.cluster.go_modules import module_files

ROLE = "kwok"
ANNOTATION = "kwok.x-k8s.io/node"
FAKE = "fake"
# Addresses for benchmarks of networks (RFC 2544): routed nowhere, so nothing that believes in a fake pod reaches
# anything real. The nodes' own address is one of those for documentation (RFC 5737).
_POD_ADDRESSES = "198.18.0.0/15"
_NODE_ADDRESS = "192.0.2.1"
_LEASE_SECONDS = 40  # as the real nodes' kubelets
ENVIRONMENT = {"GOMAXPROCS": "2"}
# Without stages kwok ends at once. These are the ones without delays.
_STAGES = (
    "kustomize/stage/node/fast/node-initialize.yaml",
    "kustomize/stage/pod/fast/pod-ready.yaml",
    "kustomize/stage/pod/fast/pod-complete.yaml",
    "kustomize/stage/pod/fast/pod-delete.yaml",
)


def start(beside: Beside) -> None:
    """Start kwok unless it runs.

    :raises ClusterError: when it cannot be had or ends at once.
    """
    stages = stage_files()
    beside.processes.start(
        ROLE,
        arguments(binary("kwok"), beside.kubeconfig, stages),
        log=beside.log(ROLE),
        env=ENVIRONMENT,
        depends_on=stages,
    )
    beside.processes.check(ROLE, log=beside.log(ROLE))


def stage_files() -> list[Path]:
    """What nodes and pods go through.

    :raises ClusterError: when they cannot be had.
    """
    return module_files("sigs.k8s.io/kwok", KWOK, _STAGES)


def arguments(program: Path, kubeconfig: Path, stages: list[Path], *, lease_seconds: int = _LEASE_SECONDS) -> list[str]:
    """kwok's command line. Each node's Lease is renewed four times in ``lease_seconds``: of a thousand nodes with the
    default that is a hundred writes a second.
    """
    return [
        str(program),
        f"--kubeconfig={kubeconfig}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={ANNOTATION}={FAKE}",
        f"--cidr={_POD_ADDRESSES}",
        f"--node-ip={_NODE_ADDRESS}",
        f"--node-lease-duration-seconds={lease_seconds}",
        *(f"--config={stage}" for stage in stages),
    ]


def stop(beside: Beside) -> None:
    """End kwok; its nodes stay, and turn NotReady when their Leases run out."""
    beside.processes.stop([ROLE], grace_seconds=3)


def is_fake(node: Mapping[str, Any]) -> bool:
    """Whether a Node object is one of kwok's."""
    annotations = node["metadata"].get("annotations") or {}
    return bool(annotations.get(ANNOTATION) == FAKE)


# -- worlds larger than the machine ----------------------------------------------------------------------------------


def node(name: str) -> dict[str, Any]:
    """A node for kwok to look after."""
    resources = {"cpu": "64", "memory": "256Gi", "pods": "110", "nvidia.com/gpu": "4"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {ANNOTATION: FAKE},
            "labels": {"kubernetes.io/hostname": name, "type": "kwok"},
        },
        "status": {"capacity": resources, "allocatable": resources},
    }


def pod(name: str, namespace: str, node_name: str) -> dict[str, Any]:
    """A pod that is on that node from its first moment: no scheduler is asked, so none is measured."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "nodeName": node_name,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "engine", "image": "registry.invalid/none"}],
        },
    }


def populate(beside: Beside, *, nodes: int, pods: int, namespace: str) -> None:
    """Make ``nodes`` nodes and ``pods`` pods, dealt out to them in turn; those that are there already stay.

    The namespace must exist. Returns when everything is made; kwok has them Ready and Running a little later.

    :raises ClusterError: when the API server refuses one.
    """
    names = [f"fake-{index:04}" for index in range(nodes)]
    send_all(beside.api, (Call("POST", "/api/v1/nodes", node(name), accept=(409,)) for name in names))
    path = f"/api/v1/namespaces/{namespace}/pods"
    made = (pod(f"fake-{i:05}", namespace, names[i % nodes]) for i in range(pods))
    send_all(beside.api, (Call("POST", path, body, accept=(409,)) for body in made))


def fake_nodes(beside: Beside) -> list[dict[str, Any]]:
    """Every node of kwok's that there is."""
    return [found for found in beside.api.get("/api/v1/nodes")["items"] if is_fake(found)]


def remove_nodes(beside: Beside) -> int:
    """Delete every fake node with its pods, finalizers or not; returns how many nodes there were.

    :raises ClusterError: when the API server refuses.
    """
    names = {found["metadata"]["name"] for found in fake_nodes(beside)}
    if not names:
        return 0
    send_all(beside.api, _pod_removals(beside, names))
    send_all(beside.api, (Call("DELETE", f"/api/v1/nodes/{name}", accept=(404,)) for name in names))
    # Karpenter's finalizer would hold them, and the Karpenter that would take it off may be gone.
    patch = {"metadata": {"finalizers": None}}
    merge = "application/merge-patch+json"
    send_all(beside.api, (Call("PATCH", f"/api/v1/nodes/{name}", patch, merge, accept=(404,)) for name in names))
    return len(names)


def _pod_removals(beside: Beside, names: set[str]) -> Iterator[Call]:
    for found in beside.api.get("/api/v1/pods")["items"]:
        if found["spec"].get("nodeName") in names:
            meta = found["metadata"]
            path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}?gracePeriodSeconds=0"
            yield Call("DELETE", path, accept=(404,))
