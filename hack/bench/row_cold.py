"""Many voices at once on empty pods: from the first object written until every one is Ready, and where the CPU went.

Ready means that each adapter was fetched, hashed, inspected, loaded and probed on every pod, so a thousand adapters on
ten pods are ten thousand proofs. Agents are real processes, engines fake ones; in production each pair has a machine of
its own, here all of them share one, which is why the CPU is told by whose it was. The same is measured with agents that
prove at once: then only the operator and the API server work; and with agents that prove so many a second, because each
proof that trickles in is a report by itself: what those cost the operator does not depend on how busy the machine is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from hack.bench import objects
from hack.bench.figures import Bar, Figure, number
from hack.bench.plan import Options
from hack.bench.real_pods import RealPod, make_sources_aside
from hack.bench.world import AgentLike, World, made_up
from hack.models.catalog import make_catalog
from hack.models.environment import cache_root

PATIENCE_SECONDS = 900.0
SMALL_ADAPTERS, SMALL_PODS = 200, 4
PODS = 10
PACE = 20.0
"""Proofs a second of each agent that trickles; a real one on a machine of its own is about as fast."""
Cpu = Mapping[str, float]


async def measure_cold(options: Options) -> list[Figure]:
    """1,000 on 10 and 200 on 4, each with real agents and with agents that prove at once."""
    figures: list[Figure] = []
    small = min(SMALL_ADAPTERS, options.adapters)
    for adapters, pods, limit, peer in (
        (small, SMALL_PODS, 5.0, "7.6 s, AIBrix"),
        (options.adapters, PODS, 30.0, "95 s at AIBrix' pace"),
    ):
        for real in (True, False):
            kind = "real agents" if real else "agents that prove at once"
            seconds: list[float] = []
            cpus: list[Cpu] = []
            for run in range(options.runs):
                options.say(f"run {run + 1}: {adapters} adapters on {pods} pods, {kind}")
                took, cpu = await _fill(adapters, pods, real=real)
                seconds.append(took)
                cpus.append(cpu)
            figures.append(
                Figure(
                    row="cold",
                    what=f"{adapters} adapters on {pods} pods, {kind}",
                    unit="s",
                    runs=tuple(seconds),
                    bar=Bar(limit),
                    peer=peer if real else "",
                    note=f"CPU of the run with the median: {describe_cpu(pick_median(seconds, cpus))}",
                )
            )
            if real:
                work = tuple((cpu["operator"] + cpu["agents"]) / (os.cpu_count() or 1) for cpu in cpus)
                what = f"the same, CPU of operator and agents over {os.cpu_count()} cores"
                figures.append(Figure(row="cold", what=what, unit="s", runs=work, bar=Bar(limit)))
    figures.append(await _measure_trickle(options))
    return figures


async def _measure_trickle(options: Options) -> Figure:
    """CPU seconds of the operator alone while proofs come one by one."""
    cpus: list[Cpu] = []
    for run in range(options.runs):
        options.say(f"run {run + 1}: {options.adapters} adapters on {PODS} pods, {PACE:g} proofs a second on each")
        cpus.append((await _fill(options.adapters, PODS, real=False, pace=PACE))[1])
    spent = [cpu["operator"] for cpu in cpus]
    return Figure(
        row="cold",
        what=f"CPU of the operator, {options.adapters} adapters on {PODS} pods, {PACE:g} proofs a second on each",
        unit="s",
        runs=tuple(spent),
        note=f"CPU of the run with the median: {describe_cpu(pick_median(spent, cpus))}",
    )


def pick_median(seconds: list[float], cpus: list[Cpu]) -> Cpu:
    """The CPU of the run in the middle (the lower one of two)."""
    order = sorted(range(len(seconds)), key=seconds.__getitem__)
    return cpus[order[(len(order) - 1) // 2]]


def describe_cpu(cpu: Cpu) -> str:
    """CPU seconds by whose they were, the greatest first."""
    ordered = sorted(cpu.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {number(value)} s" for name, value in ordered)


async def _fill(adapters: int, pods: int, *, real: bool, pace: float = 0.0) -> tuple[float, Cpu]:
    """Seconds from the first object written to the last Ready, and CPU seconds by part."""
    slots = adapters + 50
    real_pods: list[RealPod] = []
    catalog = make_catalog(cache_root() / "models") if real else None

    def make(address: str, internal: Path, key: str) -> AgentLike:
        assert catalog is not None
        sources = internal.parent / "sources"
        pod = RealPod(address, internal, key, base=catalog.base, sources=sources, slots=slots)
        real_pods.append(pod)
        return pod

    async with World(pods=pods, slots=slots, pace=pace, make_agent=make if real else None) as world:
        if catalog is not None:
            names = [objects.adapter_name(n) for n in range(adapters)]
            sources = await make_sources_aside(world.folder / "sources", catalog.adapter("vampire-v1"), names)
        else:
            sources = [made_up(n, 0) for n in range(adapters)]
        before = _cpu(world, real_pods)
        began = time.monotonic()
        await world.create_adapters(sources)
        ready = await world.until_ready(adapters, seconds=PATIENCE_SECONDS)
        after = _cpu(world, real_pods)
    return ready - began, {part: after[part] - before[part] for part in after}


def _cpu(world: World, pods: list[RealPod]) -> Cpu:
    assert world.plane.apiserver is not None
    assert world.plane.etcd is not None
    found = {
        "operator": sum(operator.child.cpu_seconds() for operator in world.operators),
        "API server": world.plane.apiserver.cpu_seconds(),
        "etcd": world.plane.etcd.cpu_seconds(),
        "bench": time.process_time(),
        "agents": 0.0,
        "engines": 0.0,
    }
    for pod in pods:
        agent, engine = pod.children()
        found["agents"] += agent.cpu_seconds()
        found["engines"] += engine.cpu_seconds()
    return found
