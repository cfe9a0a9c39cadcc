"""The leader goes, suddenly or in good order: how long until the next one acts.

Proof of acting is an order: a voice is changed in the very moment the leader ends, and the clock runs until an agent
was called with the new digest. So it holds the Lease, the next leader's first look at everything, and one reconcile.
"""

from __future__ import annotations

import asyncio

from hack.bench.figures import Bar, Figure
from hack.bench.plan import Options
from hack.bench.world import World, made_up

PODS = 2
STANDBY_SECONDS = 15.0
"""A fresh replica has watched everything by then; a real standby has stood by for days."""


async def measure_leader(options: Options) -> list[Figure]:
    """Seconds from SIGKILL and from SIGTERM to the next leader's first order."""
    killed: list[float] = []
    handed: list[float] = []
    async with World(pods=PODS, slots=options.adapters + 100) as world:
        world.add_operator()
        await world.create_made_up(options.adapters)
        await world.until_ready(options.adapters, seconds=600)
        await world.until_quiet()
        for run in range(options.runs):
            for times, suddenly in ((killed, True), (handed, False)):
                await asyncio.sleep(STANDBY_SECONDS)
                number = 2 * run + suddenly
                options.say(f"run {run + 1}: the leader is {'killed' if suddenly else 'told to stop'}")
                times.append(await _replace(world, number, suddenly=suddenly))
                await world.until_quiet()
    note = f"{options.adapters} adapters on {PODS} pods; until an agent got an order with a change made at that moment"
    return [
        Figure(
            row="leader",
            what="leader killed (SIGKILL) -> next reconcile",
            unit="s",
            runs=tuple(killed),
            bar=Bar(12),
            peer="17 s worst, client-go",
            note=note,
        ),
        Figure(
            row="leader",
            what="leader stopped (SIGTERM) -> next reconcile",
            unit="s",
            runs=tuple(handed),
            bar=Bar(2),
            peer="2 s, client-go",
        ),
    ]


async def _replace(world: World, number: int, *, suddenly: bool) -> float:
    """Ends the leader, waits for its successor's order, and puts a new replica in its place."""
    leader = await world.leader()
    name, uri, digest = made_up(number, 1)
    waits = [agent.expect(digest) for agent in world.light]
    at = leader.child.kill() if suddenly else leader.child.terminate()
    if not suddenly:
        # A leader that still works for a moment would answer the change itself.
        await asyncio.to_thread(leader.child.process.wait)
    await world.change(name, uri=uri, digest=digest)
    async with asyncio.timeout(120):
        times = await asyncio.gather(*waits)
    world.operators.remove(leader)
    world.add_operator()
    return min(times) - at
