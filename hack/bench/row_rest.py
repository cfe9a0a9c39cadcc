"""A thousand voices at rest: what the operator writes (nothing but its Lease), and how much memory it takes.

Both are read from outside: the writes from the API server's audit log, the memory from the kernel. A window counts only
if the operator looked at everything at least once in it, which the audit log shows as well.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from hack.bench.figures import Bar, Figure
from hack.bench.operators import USER
from hack.bench.plan import Options
from hack.bench.processes import memory
from hack.bench.waiting import BenchFault, until
from hack.bench.world import World
from hack.stack.audit import WRITES, AuditLog, Request

FEW_PODS, PODS = 2, 10
LOOKS_SECONDS = 30.0
RESYNCS_PER_WINDOW = 3
"""Wanted; with 20% jitter at least two fit."""
QUIET_SECONDS = 15.0
QUIET_LIMIT_SECONDS = 600.0
"""A thousand voices that become Ready are a thousand Events, which the operator writes at its own measured pace."""


async def measure_memory(options: Options) -> list[Figure]:
    """Leader and standby after everything is Ready and was looked at twice more; each run is a world of its own.

    Every agent's word on every adapter is kept, so memory grows with adapters times pods: few pods and many.
    """
    figures: list[Figure] = []
    for pods in (FEW_PODS, PODS):
        empty: list[float] = []
        leaders: list[float] = []
        standbys: list[float] = []
        for run in range(options.runs):
            options.say(f"run {run + 1}: {options.adapters} adapters on {pods} pods")
            async with World(pods=pods, slots=options.adapters + 100, resync_seconds=10.0) as world:
                leader = await world.leader()
                empty.append(memory(leader.pid).resident)
                standby = world.add_operator()
                await _fill(world, options)
                # Looks come every 8 to 12 s.
                await asyncio.sleep(LOOKS_SECONDS)
                if await world.leader() is not leader:
                    raise BenchFault("another replica leads than at the beginning")
                leaders.append(memory(leader.pid).resident)
                standbys.append(memory(standby.pid).resident)
        where = f"{options.adapters} adapters on {pods} pods"
        figures += [
            _memory(f"operator with {where}", leaders, Bar(110), "69 MB, Go; AIBrix 118 MiB with 200", note=_HOW),
            _memory(f"the same before the first adapter ({pods} pods)", empty),
            _memory(f"the replica that stands by, {where}", standbys),
        ]
    return figures


_HOW = "resident memory (VmRSS) after Ready and at least two whole looks at everything"


def _memory(what: str, runs: list[float], bar: Bar | None = None, peer: str = "", note: str = "") -> Figure:
    return Figure(row="memory", what=what, unit="MB", runs=tuple(runs), bar=bar, peer=peer, note=note)


async def measure_rest(options: Options) -> list[Figure]:
    """Writes per window, apart from the Lease."""
    writes: list[float] = []
    looks: list[float] = []
    cpu: list[float] = []
    resync = options.rest_seconds / RESYNCS_PER_WINDOW
    async with World(pods=PODS, slots=options.adapters + 100, resync_seconds=resync) as world:
        await _fill(world, options)
        options.say("waiting until the last Event is written")
        await _until_written(world)
        leader = await world.leader()
        for run in range(options.runs):
            options.say(f"window {run + 1}: {options.rest_seconds:g} s, everything looked at every {resync:g} s")
            audit = AuditLog(world.plane.audit_log)
            before = leader.child.cpu_seconds()
            await asyncio.sleep(options.rest_seconds)
            cpu.append((leader.child.cpu_seconds() - before) / options.rest_seconds * 100)
            found = list(audit.requests())
            written = find_writes(found)
            if written:
                options.say(f"written at rest: {Counter(f'{one.verb} {one.resource}' for one in written)}")
            looks.append(float(count_looks(found)))
            if not looks[-1]:
                raise BenchFault(f"nothing was looked at again within {options.rest_seconds:g} s")
            writes.append(float(len(written)))
    minutes = f"{options.rest_seconds:g} s"
    return [
        Figure(
            row="rest",
            what=f"writes at rest in {minutes}, {options.adapters} adapters",
            unit="",
            runs=tuple(writes),
            bar=Bar(0),
            peer="1,200 a minute with 200 adapters, AIBrix",
            note="requests that change something by the operator's user, the Lease's apart, whatever came of them",
        ),
        Figure(row="rest", what="whole looks at everything in a window", unit="", runs=tuple(looks)),
        Figure(row="rest", what="CPU at rest", unit="% of a core", runs=tuple(cpu), peer="20% with 200, AIBrix"),
    ]


def find_writes(requests: list[Request]) -> list[Request]:
    """Mutating requests of the operator that are not about its Lease."""
    return [
        one
        for one in requests
        if one.user == USER and one.verb in WRITES and one.resource.partition("/")[0] != "leases"
    ]


def count_looks(requests: list[Request]) -> int:
    """How often the operator began to list the adapters; further pages of one list carry a `continue`."""
    return sum(
        one.user == USER and one.verb == "list" and one.resource == "archetypeadapters" and "continue=" not in one.uri
        for one in requests
    )


async def _until_written(world: World) -> None:
    """Waits until the operator wrote nothing for a while. Raises BenchFault."""
    audit = AuditLog(world.plane.audit_log)
    since = time.monotonic()

    async def quiet() -> bool:
        nonlocal since
        if find_writes(list(audit.requests())):
            since = time.monotonic()
        return time.monotonic() - since >= QUIET_SECONDS

    await until(quiet, "the operator to have written everything", seconds=QUIET_LIMIT_SECONDS, pause=1.0)


async def _fill(world: World, options: Options) -> None:
    await world.create_made_up(options.adapters)
    await world.until_ready(options.adapters, seconds=900)
    await world.until_quiet()
