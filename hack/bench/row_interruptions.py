"""1,000 nodes, 5,000 pods, 300 nodes interrupted at once, by `hack.bench.interruption_fleet`: one process a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hack.bench.figures import Bar, Figure
from hack.bench.interruption_plan import DOOMED, REGIONS
from hack.bench.plan import Options
from hack.bench.scripts import run_script
from hack.bench.waiting import BenchFault

ROW = "interruptions"
DECISION = Bar(3.0)
MEMORY = Bar(260.0)
FIGURES: Mapping[str, tuple[str, str, Bar | None]] = {
    "notice -> decided, worst, s": ("notice -> decided about its pods, the last of 1,500 pods", "s", DECISION),
    "notice -> decided, median, s": ("the same, the median pod", "s", None),
    "last notice -> replacements, s": ("last notice -> every replacement asked for", "s", DECISION),
    "off every gateway's routes, s": ("first notice -> all of them off every gateway's routes", "s", None),
    "replacements asked for, s": ("first notice -> every replacement asked for", "s", None),
    "written down at every pod, s": ("first notice -> written down at every pod", "s", None),
    "CPU, s": ("CPU from the first notice on", "s", None),
    "memory at its highest, MB": ("memory at its highest, with the API server in memory", "MB", MEMORY),
}
NOTE = "300 of 1,000 nodes; agents, gateways and the API server are in memory, so no network and no disk is in it"


async def measure_interruptions(options: Options) -> list[Figure]:
    """One process a run. Raises BenchFault where a pod was forgotten or a reconcile broke."""
    found = []
    for _ in range(options.runs):
        one = await run_script("hack.bench.interruption_fleet", say=options.say)
        check_run(one, pods=REGIONS * DOOMED)
        found.append(one)
    return read_runs(found, row=ROW, what=FIGURES, note=NOTE)


def check_run(found: Mapping[str, Any], *, pods: int) -> None:
    """Raises BenchFault unless everything was done about so many pods."""
    if found["missing"] or found["panics"] or found["pods"] != pods:
        raise BenchFault(f"not everything was done: {dict(found)}")


def read_runs(
    found: Sequence[Mapping[str, Any]], *, row: str, what: Mapping[str, tuple[str, str, Bar | None]], note: str
) -> list[Figure]:
    """Runs as figures: `what` has the words, the unit and the bar of each."""
    figures = [
        Figure(row=row, what=words, unit=unit, runs=tuple(one[name] for one in found), bar=bar)
        for name, (words, unit, bar) in what.items()
    ]
    return [replace(figures[0], note=note), *figures[1:]]
