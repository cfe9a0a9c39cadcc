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
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hack.bench.figures import percentile
from hack.bench.interruption_world import (
    NODES,
    REGIONS,
    Agents,
    Fleet,
    Gateways,
    PodMaker,
    Silence,
    Stamps,
    SystemClock,
    build_node,
    build_objects,
    node_name,
)
from hack.bench.processes import memory
from npc_operator.api import names
from npc_operator.clients.autoscaling import AutoScalingClient
from npc_operator.clients.metrics import Metrics
from npc_operator.domain.facts import Adapter, Child, NodeFact, Pod, Region, Tier
from npc_operator.domain.interruption.tier_view import TierInterruptions
from npc_operator.loop.runner import Runner
from npc_operator.loop.store import Change
from npc_operator.ports import Images, Outside
from npc_operator.reconcilers import Reconcilers

INTERRUPTED = 300
TAINT = {"key": "aws-node-termination-handler/spot-itn", "value": "id", "effect": "NoSchedule"}
QUIET_SECONDS = 1.0


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
