"""The world of the row `interruptions`: ten regions on 1,000 nodes, and ports that do at once what they are asked for.

Agents prove whatever is wanted, gateways apply every table, and both say so in the store, as the long polls would.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from hack.bench.memory_kube import MemoryKube, Object
from hack.bench.objects import API_VERSION, made_up_digest
from npc_operator.api import names
from npc_operator.domain.facts import AgentFact, GatewayFact, Pod, SecretFact
from npc_operator.domain.holdings import Held
from npc_operator.domain.keys import Key
from npc_operator.domain.reports import merge_report
from npc_operator.edge.parse import learn, parse
from npc_operator.loop.queue import KeyedQueue
from npc_operator.loop.slim import Pool, share
from npc_operator.loop.store import Change, Store
from npc_operator.manifests.secrets import decode
from npc_operator.ports import ObjectRef, PortError
from npc_operator.reconcilers.triggers import pick_lane, triggers
from npc_runtime.wire import (
    Accepted,
    AdapterPhase,
    AdapterReport,
    AgentReport,
    DesiredSet,
    EngineReport,
    EngineState,
    GatewayReport,
    RouteTable,
    Stamp,
)

REGIONS = 10
TIERS = {"gold": 100, "silver": 150, "bronze": 250}
"""Pods of each, in every region; a tenth of them on demand."""
NODES = 1000
PER_NODE = 5
VOICES = 20
"""Of each region, each on every tier."""


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
    routed: dict[str, frozenset[str]] = field(default_factory=dict)
    """Pods (uids) that the last table of each gateway names, by the gateway's address."""
    pushes: int = 0
    held: Pool[Held] = field(default_factory=lambda: Pool(lambda held: held.served_name))

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


class Agents:
    """ports.Agents that prove at once whatever is wanted."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def push(self, namespace: str, address: str, desired: DesiredSet, *, pod_uid: str) -> Accepted:
        fleet, name = self._fleet, pod_uid
        fleet.pushes += 1
        pod = next(one for one in fleet.store.having(Pod, namespace, uid_of, name))
        report = AgentReport(
            boot_id="boot",
            revision=1,
            stamp=desired.stamp,
            full=True,
            ready=True,
            draining=False,
            engine=EngineReport(state=EngineState.READY, instance="1"),
            adapters=tuple(
                AdapterReport(
                    served_name=one.served_name, archetype=one.archetype, digest=one.digest, phase=AdapterPhase.RESIDENT
                )
                for one in desired.adapters
            ),
        )
        old = fleet.store.get(AgentFact, namespace, pod)
        fact = merge_report(old, share(report), pod_uid=pod_uid, sharing=fleet.held.shared)
        fleet.store.put(AgentFact, namespace, pod, fact)
        return Accepted(boot_id="boot", stamp=desired.stamp, revision=1)

    async def watch(
        self, namespace: str, address: str, *, pod_uid: str, after: int, boot_id: str, wait_seconds: int
    ) -> AgentReport:
        raise PortError("what agents say is put into the store with each order")


class Gateways:
    """ports.Gateways that apply every table at once."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def push(self, namespace: str, address: str, table: RouteTable, *, pod_uid: str) -> Accepted:
        fleet = self._fleet
        fleet.pushes += 1
        fleet.routed[address] = frozenset(end.uid for tier in table.tiers for end in tier.endpoints)
        pod = next(one for one in fleet.store.having(Pod, namespace, uid_of, pod_uid))
        fact = GatewayFact(pod_uid, "boot", table.stamp, counted=table.stamp)
        fleet.store.put(GatewayFact, namespace, pod, fact)
        return Accepted(boot_id="boot", stamp=table.stamp, revision=1)

    async def watch(
        self, namespace: str, address: str, *, pod_uid: str, after: int, boot_id: str, wait_seconds: int
    ) -> GatewayReport:
        raise PortError("what gateways say is put into the store with each table")


def uid_of(pod: Pod) -> str:
    return pod.uid


def build_objects() -> Iterator[Object]:
    """Regions, tiers and voices, as users write them."""
    for region in range(REGIONS):
        place = {"namespace": f"region-{region}"}
        yield {
            "apiVersion": API_VERSION,
            "kind": names.KIND_REGION,
            "metadata": {**place, "name": "region"},
            "spec": {
                "tiers": [{"tier": tier, "npcs": {"min": 100, "max": 1000}} for tier in TIERS],
                "defaultTier": "gold",
                "gateway": {"replicas": 2, "auth": {"mode": "None"}},
            },
        }
        for tier, pods in TIERS.items():
            yield {
                "apiVersion": API_VERSION,
                "kind": names.KIND_TIER,
                "metadata": {**place, "name": tier},
                "spec": {
                    "quality": tier.capitalize(),
                    "model": {"uri": "s3://bench/base", "parametersMillions": 8000},
                    "engine": {"image": "bench/engine:1", "maxCpuLoras": 64},
                    "accelerator": {"perReplica": 0},
                    "npcsPerReplica": 10,
                    "replicas": pods,
                    "maxReplicas": 2 * pods,
                    "capacity": {"onDemandBase": pods // 10},
                },
            }
        for number in range(VOICES):
            voice = f"voice-{number:03d}"
            source = {"uri": f"s3://bench/{voice}", "digest": made_up_digest(voice, region)}
            yield {
                "apiVersion": API_VERSION,
                "kind": names.KIND_ADAPTER,
                "metadata": {**place, "name": voice},
                "spec": {
                    "archetype": voice,
                    "variants": [{"tier": tier, "source": source, "rank": 8} for tier in TIERS],
                    "rollout": {"strategy": "Immediate"},
                },
            }


def build_node(number: int, *taints: Object) -> Object:
    name = node_name(number)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-{name}"},
        "spec": {"providerID": f"aws:///eu-west-1a/i-{number:017x}", "taints": list(taints)},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


def node_name(number: int) -> str:
    return f"node-{number:04d}"


class PodMaker:
    """Ready pods of Deployments: those of a region lie on its hundred nodes, on-demand ones on the last ten."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._addresses = itertools.count(1)
        self._spot: dict[str, Iterator[int]] = {}
        self._on_demand: dict[str, Iterator[int]] = {}

    def make(self, deployment: Object) -> None:
        """As many as it wants; what is not looked at is left out of them."""
        metadata, template = deployment["metadata"], deployment["spec"]["template"]
        count, namespace = int(deployment["spec"]["replicas"]), metadata["namespace"]
        labels = {**template["metadata"]["labels"], "pod-template-hash": "bench"}
        containers = [{"name": one["name"], "args": one.get("args", [])} for one in template["spec"]["containers"]]
        for number in range(count):
            address = next(self._addresses)
            self._fleet.kube.put(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {
                        "name": f"{metadata['name']}-{number}",
                        "namespace": namespace,
                        "labels": labels,
                        "annotations": template["metadata"].get("annotations", {}),
                        "ownerReferences": [{"kind": "ReplicaSet", "name": metadata["name"], "uid": metadata["uid"]}],
                        "creationTimestamp": "2026-11-01T00:00:00Z",
                    },
                    "spec": {"nodeName": self._node(namespace, labels), "containers": containers},
                    "status": {
                        "phase": "Running",
                        "podIP": f"10.{address >> 16}.{address >> 8 & 255}.{address & 255}",
                        "conditions": [{"type": "Ready", "status": "True"}],
                    },
                }
            )
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), count)
        self._fleet.kube.put({**deployment, "status": {**counts, "observedGeneration": metadata["generation"]}})

    def _node(self, namespace: str, labels: Object) -> str:
        region, share = int(namespace.rpartition("-")[2]), NODES // REGIONS
        first, fixed = region * share, share // 10
        if labels.get(names.LABEL_SLICE) == names.SLICE_SPOT:
            places, width, begin = self._spot, share - fixed, first
        else:
            places, width, begin = self._on_demand, fixed, first + share - fixed
        return node_name(begin + next(places.setdefault(namespace, itertools.count())) % width)
