"""1,000 nodes with 5,000 engine pods in ten regions, of which 300 spot nodes are interrupted at once: how long it takes
until all is decided, and what the operator's own part of this process weighs.

`python -m hack.bench.interruption_fleet --json FILE` is one run, of the row `interruptions`. Triggers, queue, runner,
reconcilers, long polls and store are the product's. Agents and gateways are ports that note what they get, and the API
server is one in memory: neither network nor disk has a part in these times. `hack.bench.interruption_kwok` has them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from hack.bench.interruption_following import Following, count_samples
from hack.bench.interruption_plan import build_objects, going_nodes, node_names
from hack.bench.interruption_world import (
    Fleet,
    PodMaker,
    Silence,
    Stamps,
    SystemClock,
    build_node,
)
from hack.bench.processes import memory
from npc_operator.clients.autoscaling import AutoScalingClient
from npc_operator.clients.metrics import Metrics
from npc_operator.clients.polls import Polls
from npc_operator.domain.facts import Adapter, Child, NodeFact, Pod, Region, Tier
from npc_operator.loop.runner import Runner
from npc_operator.ports import Images, Outside
from npc_operator.reconcilers import Reconcilers

TAINT = {"key": "aws-node-termination-handler/spot-itn", "value": "id", "effect": "NoSchedule"}
QUIET_SECONDS = 1.0


async def run() -> dict[str, Any]:
    """One measurement."""
    base = memory_now()
    fleet = Fleet()
    metrics = Metrics()
    outside = Outside(
        kube=fleet.kube,
        agents=fleet.agents,
        gateways=fleet.gateways,
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
    for name in node_names():
        fleet.kube.put(build_node(name))
    for manifest in build_objects():
        fleet.kube.put(manifest)
    reconcilers = Reconcilers(fleet.store, outside)
    runner = Runner(queue=fleet.queue, handle=reconcilers.reconcile, clock=SystemClock(), observer=metrics)
    polls = Polls(store=fleet.store, agents=fleet.agents, gateways=fleet.gateways)
    running = asyncio.gather(runner.run(), polls.run())
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
    return {
        **found,
        "panics": sum(count_samples(metrics.registry, "npc_operator_panics", "_total").values()),
        "memory settled, MB": settled,
        "memory at its highest, MB": memory(os.getpid()).peak,
        "memory before, MB": base,
        "of it the world, MB": weigh(fleet.kube.objects),
        "writes": dict(fleet.kube.writes),
    }


async def interrupt(fleet: Fleet) -> dict[str, Any]:
    """The notices come, and everything is watched until all pods are decided about."""
    nodes = going_nodes()
    following = Following(fleet.store, nodes, fleet.gateways.routed.values)
    found = asyncio.create_task(following.found())
    for name in nodes:
        fleet.kube.put(build_node(name, TAINT))
        await asyncio.sleep(0)
    return await found


async def quiet(fleet: Fleet, limit: float = 300.0) -> None:
    """Until nothing is to be done for a second."""
    end, since = time.monotonic() + limit, time.monotonic()
    while time.monotonic() < end and time.monotonic() - since < QUIET_SECONDS:
        await asyncio.sleep(0.05)
        if fleet.queue.depth() or fleet.queue.running():
            since = time.monotonic()


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
