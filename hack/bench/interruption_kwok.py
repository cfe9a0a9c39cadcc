"""The fleet of the interruption rows on a real API server: nodes and pods are kwok's, the operator is a process.

No controller manager and no scheduler run. Pods are made with the node they lie on, the status of Deployments is
written here, and budgets, which nobody keeps up to date, never allow an eviction. kwok has nodes Ready and pods
Running. Nobody judges the nodes' Leases either, so they last an hour: at a kubelet's pace a thousand of them would be
a hundred writes a second, beside what is measured.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from hack.bench.control_plane import ControlPlane, install_crds
from hack.bench.interruption_operator import FOUND, SETTLE_SECONDS, SETTLED
from hack.bench.interruption_plan import (
    Object,
    Scheduler,
    build_deployment_status,
    build_node_spec,
    build_objects,
    build_pod,
    deployment_names,
    going_nodes,
    node_names,
    region_namespace,
)
from hack.bench.kube import GROUP_PATH, MERGE, core, deployment_path
from hack.bench.objects import build_namespace
from hack.bench.operators import SYSTEM_NAMESPACE, start_operator
from hack.bench.processes import Child, memory, start
from hack.bench.waiting import BenchFault, until
from hack.cluster import kwok
from hack.cluster.binaries import binary
from hack.cluster.bulk import Call, send_all
from hack.cluster.kubeapi import KubeApi
from hack.cluster.notices import give_all
from npc_operator.api import names

ROOT = Path(__file__).resolve().parents[2]
LEASE_SECONDS = 3600
NOTICE_SECONDS = 120.0
WRITERS = 8
DEPLOYMENTS_SECONDS, FOUND_SECONDS = 120.0, 180.0
AFTER_SECONDS = 10.0
"""How long the operator's memory is watched once everything is done."""


class KwokFleet:
    """`async with KwokFleet(regions) as fleet`: at rest inside of the block, gone afterwards."""

    def __init__(self, regions: int, *, say: Callable[[str], None]) -> None:
        self._regions, self._say = regions, say
        self._folder = Path(tempfile.mkdtemp(prefix="npc-bench-"))
        self._plane = ControlPlane(self._folder)
        self._kwok: Child | None = None
        self._operator: Child | None = None
        self._api: KubeApi

    async def __aenter__(self) -> KwokFleet:
        try:
            await self._open()
        except BaseException as error:
            self._close(error)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(error)

    async def interrupt(self) -> dict[str, Any]:
        """All notices at once; what the operator's process found, with memory (MB) and CPU (s) by whose it was."""
        children = self._children()
        settled = memory(children["the operator"].pid)
        cpu = {name: child.cpu_seconds() for name, child in children.items()}
        began = time.monotonic()
        await asyncio.to_thread(give_all, self._api, going_nodes(self._regions), "nth", seconds=NOTICE_SECONDS)
        patched = time.monotonic() - began
        found = await self._read(FOUND, FOUND_SECONDS)
        spent = {f"CPU of {name}, s": child.cpu_seconds() - cpu[name] for name, child in children.items()}
        await asyncio.sleep(AFTER_SECONDS)
        return {
            **found,
            **spent,
            "first PATCH -> last answered, s": patched,
            "first PATCH -> last event, s": found["last event at"] - began,
            "memory settled, MB": settled.resident,
            "memory at its highest, MB": memory(children["the operator"].pid).peak,
        }

    # --- from nothing to a fleet at rest ---

    async def _open(self) -> None:
        await self._plane.start()
        await asyncio.to_thread(install_crds, self._plane, ROOT / "crds")
        self._api = KubeApi(self._plane.server, context=self._plane.tls())
        self._start_kwok()
        await self._send(self._nodes_and_wishes())
        program = ("hack.bench.interruption_operator", f"--regions={self._regions}", f"--folder={self._folder}")
        self._operator = start_operator(self._plane, "operator", resync_seconds=300.0, program=program, cwd=ROOT).child
        deployments = await self._deployments()
        await self._send(self._pods(deployments))
        self._say("pods are made")
        await self._read(SETTLED, SETTLE_SECONDS + 10.0)

    def _start_kwok(self) -> None:
        kubeconfig = self._plane.kubeconfig("kwok", "system:masters")
        command = kwok.arguments(binary("kwok"), kubeconfig, kwok.stage_files(), lease_seconds=LEASE_SECONDS)
        env = {**kwok.ENVIRONMENT, "HOME": str(self._folder)}
        self._kwok = start([*command, "-v=WARN"], log=self._folder / "kwok.log", env=env)

    def _nodes_and_wishes(self) -> Iterator[Call]:
        for namespace in (SYSTEM_NAMESPACE, *map(region_namespace, range(self._regions))):
            # Everything else needs them, and calls are made in no order.
            self._api.call("POST", "/api/v1/namespaces", build_namespace(namespace))
        for name in node_names(self._regions):
            yield Call("POST", "/api/v1/nodes", {**kwok.node(name), "spec": build_node_spec(name)})
        for wish in build_objects(self._regions):
            namespace = wish["metadata"]["namespace"]
            yield Call("POST", f"{GROUP_PATH}/namespaces/{namespace}/{names.PLURALS[wish['kind']]}", wish)

    async def _deployments(self) -> list[Object]:
        """All of them, as the operator made them. Raises BenchFault."""
        paths = [
            deployment_path(region_namespace(region), name)
            for region in range(self._regions)
            for name in deployment_names()
        ]

        async def there() -> bool:
            self._check_alive()
            return await asyncio.to_thread(lambda: all(map(self._api.answers, paths)))

        await until(there, f"{len(paths)} Deployments", seconds=DEPLOYMENTS_SECONDS, pause=1.0)
        return [await asyncio.to_thread(self._api.get, path) for path in paths]

    def _pods(self, deployments: list[Object]) -> Iterator[Call]:
        scheduler = Scheduler()
        for deployment in deployments:
            metadata = deployment["metadata"]
            for number in range(int(deployment["spec"]["replicas"])):
                pod = build_pod(deployment, number, scheduler.pick(deployment))
                # What makes a pod one of kwok's world; name and containers are the Deployment's.
                fake = kwok.pod(pod["metadata"]["name"], metadata["namespace"], pod["spec"]["nodeName"])
                pod["spec"] = {**fake["spec"], **pod["spec"]}
                yield Call("POST", core("pods", metadata["namespace"]), pod)
            path = f"{deployment_path(metadata['namespace'], metadata['name'])}/status"
            yield Call("PATCH", path, {"status": build_deployment_status(deployment)}, MERGE)

    async def _send(self, calls: Iterator[Call]) -> None:
        await asyncio.to_thread(lambda: send_all(self._api, calls, connections=WRITERS))

    # --- what stands beside ---

    def _children(self) -> dict[str, Child]:
        found = {
            "the operator": self._operator,
            "the API server": self._plane.apiserver,
            "etcd": self._plane.etcd,
            "kwok": self._kwok,
        }
        return {name: child for name, child in found.items() if child is not None}

    def _check_alive(self) -> None:
        for name, child in self._children().items():
            if child.ended():
                raise BenchFault(f"{name} ended:\n{child.log_tail()}")

    async def _read(self, name: str, seconds: float) -> dict[str, Any]:
        """What the operator's process leaves under this name, once it is there. Raises BenchFault."""
        path = self._folder / name

        async def there() -> bool:
            self._check_alive()
            return path.exists()

        await until(there, name, seconds=seconds)
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def _close(self, error: BaseException | None) -> None:
        for name, child in self._children().items():
            if error is not None:
                error.add_note(f"--- the log of {name} ends with:\n{child.log_tail()}")
        for ours in (self._operator, self._kwok):
            if ours is not None:
                ours.kill()
        self._plane.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
