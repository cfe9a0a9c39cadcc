"""What a tier on spot costs and serves: `spot_cells` has the worlds, `spot_market` the simulation. A run is a seed; the
figures do not depend on the machine.
"""

from __future__ import annotations

import asyncio

from hack.bench.figures import Bar, Figure
from hack.bench.plan import Options
from hack.bench.spot_cells import OVER_OMNISCIENT, Played, cells, play_cell, row
from hack.bench.spot_points import AVAILABILITY, COST, PUBLISHED

ROW = "spot"
PEER = f"{1 - PUBLISHED:.0%} cheaper, SkyServe (published)"


async def measure_spot(options: Options) -> list[Figure]:
    """Every cell is told; the figures are those of 20 replicas, which have bars."""
    figures: list[Figure] = []
    seeds = range(1, options.runs + 1)
    for cell in cells():
        # Cell by cell off the event loop, so that a stop is heard after at most one of them.
        for played in await asyncio.to_thread(play_cell, cell, seeds=tuple(seeds)):
            options.say(row(played))
            if cell.replicas == 20:
                figures += read_spot(played)
    return figures


def read_spot(played: Played) -> list[Figure]:
    """Cost, availability and distance to the omniscient policy, with the bars of the goal."""
    name = f"{played.tier}, {played.cell.name().removeprefix('n=20, ')}"
    note = f"{played.overprovision} overprovisioned"
    costs = tuple(100 * one.cost for one in played.ours)
    over = tuple(100 * (one.cost / known) for one, known in zip(played.ours, played.omniscient, strict=True))
    served = tuple(100 * one.availability for one in played.ours)
    return [
        Figure(row=ROW, what=f"{name}: cost", unit="%", runs=costs, bar=Bar(100 * COST), peer=PEER, note=note),
        Figure(
            row=ROW,
            what=f"{name}: served by its own tier",
            unit="%",
            runs=served,
            bar=Bar(100 * AVAILABILITY[played.tier], least=True),
        ),
        Figure(row=ROW, what=f"{name}: of the omniscient cost", unit="%", runs=over, bar=Bar(100 * OVER_OMNISCIENT)),
    ]
