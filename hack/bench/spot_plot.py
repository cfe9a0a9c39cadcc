"""Draws cost against availability for every cell of the spot benchmark: `python -m hack.bench.spot_plot CELLS.json
OUT.png`. It imports nothing of the project, so its environment needs nothing but matplotlib (`make bench-plot`).
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

FLOOR = 1e-5
"""Less unavailability than this is drawn here: the axis is logarithmic, and some cells lose nothing."""
COLOURS = {1.0: "tab:red", 6.0: "tab:orange", 24.0: "tab:green"}
GOALS = {"Gold": 0.999, "Silver": 0.995}
COST_GOAL = 0.4
PUBLISHED = 0.57
"""43% cheaper on average (SkyServe)."""


def mean(outcomes: Sequence[dict[str, Any]], what: str) -> float:
    return statistics.mean(float(one[what]) for one in outcomes)


def lost(availability: float) -> float:
    return max(FLOOR, 1 - availability)


def draw(cells: Sequence[dict[str, Any]], out: Path) -> None:
    """One panel a size: down is more available, left is cheaper."""
    sizes = sorted({one["cell"]["replicas"] for one in cells})
    figure, panels = plt.subplots(1, len(sizes), figsize=(5 * len(sizes), 4.6), sharey=True, squeeze=False)
    for size, panel in zip(sizes, panels[0], strict=True):
        for one in cells:
            cell = one["cell"]
            if cell["replicas"] != size:
                continue
            colour = COLOURS[cell["life_hours"]]
            gold = one["tier"] == "Gold"
            at = mean(one["ours"], "cost"), lost(mean(one["ours"], "availability"))
            panel.scatter(*at, color=colour, marker="*" if gold else "o", s=60 if gold else 25, alpha=0.8)
            if gold:
                at = mean(one["pure_spot"], "cost"), lost(mean(one["pure_spot"], "availability"))
                panel.scatter(*at, color=colour, marker="x", s=25)
                panel.scatter(statistics.mean(one["omniscient"]), FLOOR, color=colour, marker="d", s=25)
        panel.scatter(1.0, FLOOR, color="black", marker="s", s=30)
        for tier, goal in GOALS.items():
            panel.axhline(1 - goal, color="grey", linestyle="--", linewidth=0.8)
            panel.annotate(f"{tier} {goal:.1%}", (1.0, 1 - goal), fontsize=7, ha="right", va="bottom")
        panel.axvline(PUBLISHED, color="tab:blue", linestyle=":", linewidth=0.9)
        if size == max(sizes):
            panel.axvline(COST_GOAL, color="grey", linestyle="--", linewidth=0.8)
        panel.set_yscale("log")
        panel.set_title(f"{size} replicas")
        panel.set_xlabel("cost, share of all on demand")
    panels[0][0].set_ylabel(f"line-demand not served by its own tier ({FLOOR:g}: or less)")
    marks = [("*", "ours, Gold"), ("o", "ours, Silver"), ("x", "pure spot"), ("d", "omniscient"), ("s", "on demand")]
    handles: list[Any] = [
        mpl.lines.Line2D([], [], color="black", marker=mark, linestyle="", label=name) for mark, name in marks
    ]
    handles += [mpl.patches.Patch(color=colour, label=f"mean life {life:g} h") for life, colour in COLOURS.items()]
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
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
