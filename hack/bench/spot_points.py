"""What the picture of the spot benchmark shows, as numbers: a point for each policy in each cell, and its goals.

Apart from `spot_plot`, and of the standard library alone, so that tests need no matplotlib and the environment of the
picture needs nothing of the project.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Tier = Literal["Gold", "Silver"]
AVAILABILITY: Mapping[Tier, float] = {"Gold": 0.999, "Silver": 0.995}
"""The goal."""
COST = 0.4
"""The goal at 20 replicas: at least 60% cheaper than on demand."""
PUBLISHED = 0.57
"""43% cheaper on average: SkyServe, published."""
FLOOR = 1e-5
"""Less unavailability than this is drawn here: the axis is logarithmic, and some cells lose nothing."""

Policy = Literal["ours, Gold", "ours, Silver", "pure spot", "omniscient", "on demand"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One mark: cost as a share of all on demand, and the share of line-demand that was not served by its own tier."""

    replicas: int
    policy: Policy
    cost: float
    lost: float
    life_hours: float | None
    """Mean life of a spot node; None where there is none."""


def read_points(path: Path) -> list[Point]:
    """Of what `spot_cells --json` wrote, in its order. Raises OSError, KeyError or ValueError for any other file."""
    found = json.loads(path.read_text(encoding="utf-8"))
    points = [point for played in found for point in _points_of(played)]
    sizes = sorted({point.replicas for point in points})
    return [
        *points,
        *(Point(replicas=size, policy="on demand", cost=1.0, lost=FLOOR, life_hours=None) for size in sizes),
    ]


def _points_of(played: dict[str, Any]) -> Iterator[Point]:
    """Pure spot and the omniscient policy once a cell: with the tier whose goal allows least."""
    cell, gold = played["cell"], played["tier"] == "Gold"
    place: dict[str, Any] = {"replicas": int(cell["replicas"]), "life_hours": float(cell["life_hours"])}
    yield Point(policy="ours, Gold" if gold else "ours, Silver", **_outcome(played["ours"]), **place)
    if gold:
        yield Point(policy="pure spot", **_outcome(played["pure_spot"]), **place)
        yield Point(policy="omniscient", cost=statistics.mean(played["omniscient"]), lost=FLOOR, **place)


def _outcome(seeds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    served = statistics.mean(float(one["availability"]) for one in seeds)
    return {"cost": statistics.mean(float(one["cost"]) for one in seeds), "lost": max(FLOOR, 1 - served)}
