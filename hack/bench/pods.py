"""Plays ReplicaSet and kubelet where there are none: pods made from the operator's own templates, ready on addresses of
this host.

Every pod gets a loopback address of its own (127.a.b.n), because the operator dials pods on fixed ports.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence
from typing import Any

from hack.bench.kube import Kube, Object, core, deployment_path
from npc_runtime.wire import AGENT_HEALTH_PORT, AGENT_PORT

NODE = "bench-node"
ENGINE_PORT = 8000
_PORTS = (AGENT_PORT, AGENT_HEALTH_PORT, ENGINE_PORT)


def pick_addresses(count: int) -> list[str]:
    """Loopback addresses on which the pods' ports are free. Raises OSError when 50 tries found none."""
    for _ in range(50):
        prefix = f"127.{random.randint(16, 250)}.{random.randint(1, 250)}"
        found = [f"{prefix}.{number}" for number in range(1, count + 1)]
        if all(_free(address, port) for address in found for port in _PORTS):
            return found
    raise OSError(f"no {count} loopback addresses with ports {_PORTS} free")


def _free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def build_pod(deployment: Object, name: str) -> Object:
    """A pod as the Deployment's ReplicaSet would make it, bound to a node."""
    template = deployment["spec"]["template"]
    labels = {**template["metadata"].get("labels", {}), "pod-template-hash": "bench"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": deployment["metadata"]["namespace"],
            "labels": labels,
            "annotations": template["metadata"].get("annotations", {}),
        },
        "spec": {**template["spec"], "nodeName": NODE},
    }


def ready_status(pod: Object, address: str) -> Object:
    """What a kubelet writes once all containers are ready."""
    now = "2026-11-01T00:00:00Z"
    spec = pod["spec"]

    def running(container: Object) -> Object:
        return {
            "name": container["name"],
            "image": container.get("image", ""),
            "imageID": "",
            "ready": True,
            "started": True,
            "restartCount": 0,
            "state": {"running": {"startedAt": now}},
        }

    return {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": now}
            for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ],
        "initContainerStatuses": [running(container) for container in spec.get("initContainers", ())],
        "containerStatuses": [running(container) for container in spec["containers"]],
    }


async def make_pods(kube: Kube, namespace: str, deployment: str, addresses: Sequence[str]) -> None:
    """A ready pod on each address, and a Deployment that says so. Raises KubeFault."""
    path = deployment_path(namespace, deployment)
    owner = await kube.call("GET", path)
    for number, address in enumerate(addresses):
        pod = await kube.call("POST", core("pods", namespace), build_pod(owner, f"{deployment}-{number}"))
        status_path = f"{core('pods', namespace, pod['metadata']['name'])}/status"
        await kube.merge(status_path, {"status": ready_status(pod, address)})
    count = len(addresses)
    status: dict[str, Any] = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), count)
    await kube.merge(f"{path}/status", {"status": {**status, "observedGeneration": owner["metadata"]["generation"]}})
