"""Draws cost against availability for every cell of the spot benchmark: `python -m hack.bench.spot_plot CELLS.json
OUT.png`, where CELLS.json is what `spot_cells --json` wrote. What is drawn is in `spot_points`; this needs nothing but
matplotlib, in an environment of its own (`make bench-plot`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from hack.bench.spot_points import AVAILABILITY, COST, FLOOR, PUBLISHED, Point, read_points

COLOURS = {1.0: "tab:red", 6.0: "tab:orange", 24.0: "tab:green", None: "black"}
MARKS = {"ours, Gold": "*", "ours, Silver": "o", "pure spot": "x", "omniscient": "d", "on demand": "s"}


def draw(points: Sequence[Point], out: Path) -> None:
    """One panel a size: down is more available, left is cheaper."""
    sizes = sorted({point.replicas for point in points})
    figure, panels = plt.subplots(1, len(sizes), figsize=(5 * len(sizes), 4.6), sharey=True, squeeze=False)
    for size, panel in zip(sizes, panels[0], strict=True):
        for point in points:
            if point.replicas == size:
                colour, mark = COLOURS[point.life_hours], MARKS[point.policy]
                panel.scatter(point.cost, point.lost, color=colour, marker=mark, s=60 if mark == "*" else 25, alpha=0.8)
        for tier, goal in AVAILABILITY.items():
            panel.axhline(1 - goal, color="grey", linestyle="--", linewidth=0.8)
            panel.annotate(f"{tier} {goal:.1%}", (1.0, 1 - goal), fontsize=7, ha="right", va="bottom")
        panel.axvline(PUBLISHED, color="tab:blue", linestyle=":", linewidth=0.9)
        if size == max(sizes):
            panel.axvline(COST, color="grey", linestyle="--", linewidth=0.8)
        panel.set_yscale("log")
        panel.set_title(f"{size} replicas")
        panel.set_xlabel("cost, share of all on demand")
    panels[0][0].set_ylabel(f"line-demand not served by its own tier ({FLOOR:g}: or less)")
    handles: list[Any] = [
        mpl.lines.Line2D([], [], color="black", marker=mark, linestyle="", label=name) for name, mark in MARKS.items()
    ]
    handles += [
        mpl.patches.Patch(color=colour, label=f"mean life {life:g} h") for life, colour in COLOURS.items() if life
    ]
    handles.append(mpl.lines.Line2D([], [], color="grey", linestyle="--", label="goals"))
    handles.append(mpl.lines.Line2D([], [], color="tab:blue", linestyle=":", label="SkyServe, published"))
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(out, dpi=110, metadata={"Software": None})


def main() -> int:
    """Exit code 0, 2 for a wrong command line."""
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    mpl.use("Agg")
    draw(read_points(Path(sys.argv[1])), Path(sys.argv[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
