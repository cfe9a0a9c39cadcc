"""1,000 nodes, 5,000 pods, 300 nodes interrupted at once, on a real API server with kwok; each run is a world of its
own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hack.bench.figures import Bar, Figure
from hack.bench.interruption_kwok import KwokFleet
from hack.bench.interruption_plan import DOOMED, REGIONS
from hack.bench.plan import Options
from hack.bench.row_interruptions import DECISION, MEMORY, check_run, read_runs

ROW = "interruptions-kwok"
FIGURES: Mapping[str, tuple[str, str, Bar | None]] = {
    "notice -> decided, worst, s": ("event received -> decided about its pods, the last of 1,500 pods", "s", DECISION),
    "notice -> decided, median, s": ("the same, the median pod", "s", None),
    "last notice -> replacements, s": ("last event received -> every replacement asked for", "s", DECISION),
    "off every gateway's routes, s": ("first event -> all of them off every gateway's routes", "s", None),
    "replacements asked for, s": ("first event -> every replacement asked for", "s", None),
    "written down at every pod, s": ("first event -> written down at every pod", "s", None),
    "first PATCH -> last event, s": ("first PATCH of 300 nodes sent -> last event received", "s", None),
    "memory at its highest, MB": ("the operator's memory at its highest", "MB", MEMORY),
    "memory settled, MB": ("the same before the first event", "MB", None),
    "CPU of the operator, s": ("CPU of the operator until all is done", "s", None),
    "CPU of the API server, s": ("CPU of the API server", "s", None),
    "CPU of etcd, s": ("CPU of etcd", "s", None),
    "CPU of kwok, s": ("CPU of kwok", "s", None),
}
NOTE = "real etcd, kube-apiserver and kwok on the same cores; agents and gateways are recording ports"


async def measure_interruptions_kwok(options: Options, regions: int = REGIONS) -> list[Figure]:
    """Raises BenchFault where a pod was forgotten or a reconcile broke."""
    runs = []
    for run in range(options.runs):
        options.say(f"run {run + 1}: {regions} regions")
        async with KwokFleet(regions, say=options.say) as fleet:
            found = await fleet.interrupt()
        check_run(found, pods=regions * DOOMED)
        options.say(f"run {run + 1}: {describe_run(found)}")
        runs.append(found)
    return read_runs(runs, row=ROW, what=FIGURES, note=NOTE)


def describe_run(found: Mapping[str, Any]) -> str:
    """What the operator asked of the API server, and what it was refused."""
    counts = (
        f"{name} {', '.join(f'{count:g} {what}' for what, count in found[name].items()) or 'none'}"
        for name in ("writes", "errors")
    )
    return "; ".join(counts)
