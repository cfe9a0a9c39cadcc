"""The world of the row `interruptions`: an API server in memory that brings the operator's store its news, and ports
that do at once what they are asked for.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field

from hack.bench.interruption_plan import Object, Scheduler, build_deployment_status, build_node_spec, build_pod
from hack.bench.interruption_ports import Agents, Gateways
from hack.bench.memory_kube import MemoryKube
from npc_operator.domain.facts import SecretFact
from npc_operator.domain.keys import Key
from npc_operator.edge.parse import learn, parse
from npc_operator.loop.queue import KeyedQueue
from npc_operator.loop.store import Change, Store
from npc_operator.manifests.secrets import decode
from npc_operator.ports import ObjectRef
from npc_operator.reconcilers.triggers import pick_lane, triggers
from npc_runtime.wire import Stamp


class SystemClock:
    """ports.Clock by the machine's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class Stamps:
    """One leadership that nobody contests."""

    def __init__(self) -> None:
        self._generations = itertools.count(1)

    def next(self) -> Stamp:
        return Stamp(epoch=1, generation=next(self._generations))

    async def outrank(self, current: Stamp) -> bool:
        return True


class Silence:
    """ports.Recorder that counts."""

    def __init__(self) -> None:
        self.events = 0

    def normal(self, ref: ObjectRef, reason: str, message: str) -> None:
        self.events += 1

    def warning(self, ref: ObjectRef, reason: str, message: str) -> None:
        self.events += 1


@dataclass(slots=True)
class Fleet:
    """The world, and the operator in it."""

    store: Store = field(default_factory=lambda: Store(SystemClock()))
    queue: KeyedQueue[Key] = field(default_factory=lambda: KeyedQueue(SystemClock()))
    kube: MemoryKube = field(init=False)
    agents: Agents = field(default_factory=Agents)
    gateways: Gateways = field(default_factory=Gateways)

    def __post_init__(self) -> None:
        self.kube = MemoryKube(self._learn)

    def _learn(self, manifest: Object) -> None:
        """As the watches bring it."""
        kind, metadata = manifest["kind"], manifest["metadata"]
        if kind == "Secret":
            place = metadata["namespace"], metadata["name"]
            fact = SecretFact(*place, metadata["resourceVersion"], decode(manifest.get("data")))
            self.store.put(SecretFact, *place, fact, version=int(metadata["resourceVersion"]))
            manifest = {key: value for key, value in manifest.items() if key != "data"}
        learn(self.store, parse(manifest["apiVersion"], kind, manifest))

    def mark(self, change: Change) -> None:
        for key in triggers(self.store, change):
            self.queue.add(key, pick_lane(self.store, key))


class PodMaker:
    """Ready pods of Deployments: ReplicaSets, the scheduler and kubelets in one."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._addresses = itertools.count(1)
        self._scheduler = Scheduler()

    def make(self, deployment: Object) -> None:
        """As many as it wants."""
        for number in range(int(deployment["spec"]["replicas"])):
            address = next(self._addresses)
            pod = build_pod(deployment, number, self._scheduler.pick(deployment))
            pod["metadata"]["creationTimestamp"] = "2026-11-01T00:00:00Z"
            status = {
                "phase": "Running",
                "podIP": f"10.{address >> 16}.{address >> 8 & 255}.{address & 255}",
                "conditions": [{"type": "Ready", "status": "True"}],
            }
            self._fleet.kube.put({**pod, "status": status})
        self._fleet.kube.put({**deployment, "status": build_deployment_status(deployment)})


def build_node(name: str, *taints: Object) -> Object:
    """A Node that is ready."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-{name}"},
        "spec": build_node_spec(name, *taints),
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
