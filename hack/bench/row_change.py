"""Spec change -> agent called: how long a user's patch takes to arrive at the pods, with a thousand voices about.

The clock runs from just before the patch is sent to the API server until an agent has read a whole order with the new
digest in it. All adapters are on one tier, so each order carries all of them.
"""

from __future__ import annotations

import asyncio

from hack.bench.figures import Bar, Figure, percentile
from hack.bench.plan import Options
from hack.bench.waiting import until
from hack.bench.world import World, made_up

PODS = 2
PAUSE_SECONDS = 0.3
"""Between the end of one change (old digest gone from every pod) and the next: they are measured one at a time."""
PATIENCE_SECONDS = 60.0


async def measure_change(options: Options) -> list[Figure]:
    """p50 and p99 of each run, to the first pod called and to all of them."""
    first: list[list[float]] = []
    every: list[list[float]] = []
    async with World(pods=PODS, slots=options.adapters + 100) as world:
        options.say(f"{options.adapters} adapters on {PODS} pods")
        await world.create_made_up(options.adapters)
        await world.until_ready(options.adapters, seconds=600)
        await world.until_quiet()
        for run in range(options.runs):
            options.say(f"run {run + 1}: {options.changes} changes, one after the other")
            pairs = [await _change(world, number, run + 1) for number in _numbers(options)]
            first.append([one for one, _ in pairs])
            every.append([all_ for _, all_ in pairs])
    size = world.light[0].order_bytes
    note = f"{PODS} pods with all {options.adapters} adapters on each: every order has {size / 1000:.0f} kB"

    def figure(
        what: str, runs: list[list[float]], share: float, limit: float | None, peer: str = "", note: str = ""
    ) -> Figure:
        return Figure(
            row="change",
            what=what,
            unit="ms",
            runs=tuple(percentile(run, share) * 1000 for run in runs),
            bar=None if limit is None else Bar(limit),
            peer=peer,
            note=note,
        )

    return [
        figure("spec change -> agent called, p50", first, 0.5, 40, "16 ms, Go on 24 threads", note),
        figure("spec change -> agent called, p99", first, 0.99, 120, "25 ms, Go on 24 threads"),
        figure("spec change -> every agent called, p50", every, 0.5, None),
        figure("spec change -> every agent called, p99", every, 0.99, None),
    ]


def _numbers(options: Options) -> range:
    """Which adapters are changed: so many, spread over all."""
    step = max(1, options.adapters // options.changes)
    return range(0, min(options.adapters, step * options.changes), step)


async def _change(world: World, number: int, version: int) -> tuple[float, float]:
    """Seconds until the first and the last agent was called; returns once the world is as before, with new bytes."""
    name, uri, digest = made_up(number, version)
    usual = world.light[0].count()
    waits = [agent.expect(digest) for agent in world.light]
    at = await world.change(name, uri=uri, digest=digest)
    async with asyncio.timeout(PATIENCE_SECONDS):
        times = await asyncio.gather(*waits)

    async def as_before() -> bool:
        return all(agent.count() == usual for agent in world.light)

    await until(as_before, "the old bytes to be gone", seconds=PATIENCE_SECONDS, pause=0.02)
    await asyncio.sleep(PAUSE_SECONDS)
    return min(times) - at, max(times) - at
