"""1,000 nodes with 5,000 engine pods in ten regions, of which 300 spot nodes are interrupted at once: how long it takes
until all is decided, and what the operator's own part of this process weighs.

`python -m hack.bench.interruption_fleet --json FILE` is one run, of the row `interruptions`. Triggers, queue, runner,
reconcilers and store are the product's. Agents and gateways are ports that note what they get, and the API server is
one in memory: neither network nor disk has a part in these times, and 1,500 notes at a real API server take longer.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hack.bench.figures import percentile
from hack.bench.memory_kube import MemoryKube, Object
from hack.bench.objects import API_VERSION, made_up_digest
from hack.bench.processes import memory
from npc_operator.api import names
from npc_operator.clients.autoscaling import AutoScalingClient
from npc_operator.clients.metrics import Metrics
from npc_operator.domain.facts import Adapter, AgentFact, Child, GatewayFact, NodeFact, Pod, Region, SecretFact, Tier
from npc_operator.domain.holdings import Held
from npc_operator.domain.interruption.tier_view import TierInterruptions
from npc_operator.domain.keys import Key
from npc_operator.domain.reports import merge_report
from npc_operator.edge.parse import learn, parse
from npc_operator.loop.queue import KeyedQueue
from npc_operator.loop.runner import Runner
from npc_operator.loop.slim import Pool, share
from npc_operator.loop.store import Change, Store
from npc_operator.manifests.secrets import decode
from npc_operator.ports import Images, ObjectRef, Outside, PortError
from npc_operator.reconcilers import Reconcilers
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
INTERRUPTED = 300
PER_NODE = 5
VOICES = 20
"""Of each region, each on every tier."""
TAINT = {"key": "aws-node-termination-handler/spot-itn", "value": "id", "effect": "NoSchedule"}
QUIET_SECONDS = 1.0


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


async def run() -> dict[str, Any]:
    """One measurement."""
    base = memory_now()
    fleet = Fleet()
    metrics = Metrics()
    outside = Outside(
        kube=fleet.kube,
        agents=Agents(fleet),
        gateways=Gateways(fleet),
        groups=AutoScalingClient(),
        recorder=Silence(),
        meter=metrics,
        clock=SystemClock(),
        stamps=Stamps(),
        images=Images(engine="bench/engine:1", fleet="bench/fleet:1"),
    )
    for kind in (Region, Tier, Adapter, Pod, Child, NodeFact):
        fleet.store.mark_synced(kind)
    fleet.store.subscribe(fleet.mark)
    for number in range(NODES):
        fleet.kube.put(build_node(number))
    for manifest in build_objects():
        fleet.kube.put(manifest)
    reconcilers = Reconcilers(fleet.store, outside)
    runner = Runner(queue=fleet.queue, handle=reconcilers.reconcile, clock=SystemClock(), observer=metrics)
    running = asyncio.create_task(runner.run())
    await quiet(fleet)
    maker = PodMaker(fleet)
    for manifest in [one for place, one in fleet.kube.objects.items() if place[0] == "Deployment"]:
        maker.make(manifest)
        await asyncio.sleep(0)
    await quiet(fleet)
    gc.collect()
    settled = memory_now()
    found = await interrupt(fleet)
    await quiet(fleet, limit=20.0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    panics = sum(value for (_, outcome), value in outcomes(metrics).items() if outcome == "Panic")
    return {
        **found,
        "panics": panics,
        "memory settled, MB": settled,
        "memory at its highest, MB": memory(os.getpid()).peak,
        "memory before, MB": base,
        "of it the world, MB": weigh(fleet.kube.objects),
        "writes": dict(fleet.kube.writes),
    }


async def interrupt(fleet: Fleet) -> dict[str, Any]:
    """The notices come, and everything is watched until all pods are decided about."""
    share = NODES // REGIONS
    going = [region * share + number for region in range(REGIONS) for number in range(INTERRUPTED // REGIONS)]
    nodes = {node_name(number) for number in going}
    doomed = {(pod.namespace, pod.tier): set[str]() for pod in engines(fleet)}
    for pod in engines(fleet):
        if pod.node in nodes:
            doomed[pod.namespace, pod.tier].add(pod.uid)
    wanted = {place: asked(fleet, *place) + len(uids) for place, uids in doomed.items()}
    pods = sum(map(len, doomed.values()))
    uids = set().union(*doomed.values())
    steps: dict[str, Callable[[], bool]] = {
        "decided, s": lambda: all(
            (told := fleet.store.get(TierInterruptions, *place)) is not None and len(told.draining) >= len(found)
            for place, found in doomed.items()
        ),
        "replacements asked for, s": lambda: all(asked(fleet, *place) >= count for place, count in wanted.items()),
        "off every gateway's routes, s": lambda: not any(uids & table for table in fleet.routed.values()),
        "written down at every pod, s": lambda: sum(bool(pod.interruption) for pod in engines(fleet)) >= pods,
    }
    node_of = {pod.uid: pod.node for pod in engines(fleet)}
    told_at: dict[str, float] = {}
    decided_at: dict[str, float] = {}

    def note(change: Change) -> None:
        if change.kind is TierInterruptions and change.new is not None:
            for one in change.new.draining:
                decided_at.setdefault(one.uid, time.monotonic())

    unsubscribe = fleet.store.subscribe(note)
    began, cpu = time.monotonic(), time.process_time()
    for number in going:
        told_at[node_name(number)] = time.monotonic()
        fleet.kube.put(build_node(number, TAINT))
        await asyncio.sleep(0)
    received = time.monotonic() - began
    found: dict[str, Any] = {"pods": pods, "last event received, s": received}
    while steps and time.monotonic() - began < 120:
        await asyncio.sleep(0.02)
        for name in [name for name, done in steps.items() if done()]:
            found[name] = time.monotonic() - began
            found["CPU, s"] = time.process_time() - cpu
            del steps[name]
    unsubscribe()
    waits = sorted(decided_at[uid] - told_at[node_of[uid]] for uid in decided_at)
    found["notice -> decided, median, s"] = percentile(waits, 0.5)
    found["notice -> decided, worst, s"] = waits[-1]
    found["last notice -> replacements, s"] = found.get("replacements asked for, s", 120.0) - received
    found["missing"] = sorted(steps)
    return found


def engines(fleet: Fleet) -> Iterator[Pod]:
    return (pod for pod in fleet.store.all(Pod) if pod.component == names.COMPONENT_ENGINE)


def asked(fleet: Fleet, namespace: str, tier: str) -> int:
    """Pods that both Deployments of a tier ask for."""
    found = (fleet.kube.objects["Deployment", namespace, f"{tier}-{one}"] for one in ("on-demand", "spot"))
    return sum(int(one["spec"]["replicas"]) for one in found)


async def quiet(fleet: Fleet, limit: float = 300.0) -> None:
    """Until nothing is to be done for a second."""
    end, since = time.monotonic() + limit, time.monotonic()
    while time.monotonic() < end and time.monotonic() - since < QUIET_SECONDS:
        await asyncio.sleep(0.05)
        if fleet.queue.depth() or fleet.queue.running():
            since = time.monotonic()


def outcomes(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Reconciles by kind and outcome."""
    families = [one for one in metrics.registry.collect() if one.name == "npc_operator_reconcile_seconds"]
    return {
        (sample.labels["kind"], sample.labels["outcome"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name.endswith("_count")
    }


def memory_now() -> float:
    return memory(os.getpid()).resident


def weigh(objects: object) -> float:
    """Megabytes of containers and strings, each counted once."""
    seen: set[int] = set()
    left, total = [objects], 0
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        if isinstance(one, dict):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple):
            left += one
    return total / 1e6


def main() -> int:
    """Exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m hack.bench.interruption_fleet", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="what was measured goes there")
    arguments = parser.parse_args()
    found = asyncio.run(run())
    print(json.dumps(found))
    arguments.json.write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
