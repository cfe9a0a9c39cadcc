"""The cells of the spot benchmark: which worlds are played, with which settings, on which seeds.

`REPORT_SEEDS` were fixed before anything was tuned and are used for nothing but the report; settings were chosen on
`TUNING_SEED`. A profile depends on the tier, its size and the mean life of its spot nodes, which a user can estimate;
not on engine starts or outages.

`python -m hack.bench.spot_cells` prints every cell; `--json FILE` keeps them for `spot_plot`, `--trace FILE` plays a
recorded market instead: a CSV with the header `seconds,zone,capacity`, described in `spot_trace` and, with an example,
in docs/benchmarks.md. `--replicas`, `--engine-start` and `--notice` say which tier meets it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from hack.bench.spot_market import Outcome, World, all_on_demand, play, pure_spot
from hack.bench.spot_omniscient import play_omniscient
from hack.bench.spot_points import AVAILABILITY, COST, Tier
from hack.bench.spot_trace import HOUR, Market, make_market, read_market
from npc_operator.api.capacity import Capacity

TIERS: tuple[Tier, ...] = ("Gold", "Silver")
TUNING_SEED = 100
REPORT_SEEDS = (1, 2, 3)
DAYS = 14.0
SIZES = (2, 7, 20)
STARTS = (60.0, 180.0)
LIVES = (1.0, 6.0, 24.0)
OVERPROVISION: dict[Tier, dict[int, tuple[int, int, int]]] = {
    "Gold": {2: (1, 1, 1), 7: (2, 1, 1), 20: (3, 1, 1)},
    "Silver": {2: (1, 1, 0), 7: (1, 1, 0), 20: (2, 1, 0)},
}
"""`overprovisionReplicas` by replicas, for mean lives of 1, 6 and 24 hours. All else is the API's default."""
OVER_OMNISCIENT = 1.1
"""The goal at 20 replicas: within 10%."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One world; seconds but for the mean life, which is in hours."""

    replicas: int
    engine_start: float
    life_hours: float
    outages: bool
    notice: float = 120.0

    def name(self) -> str:
        """As tables say it."""
        words = f"n={self.replicas}, start {self.engine_start:.0f} s, life {self.life_hours:.0f} h"
        words += ", zone outages" if self.outages else ""
        return words if self.notice == 120 else f"{words}, notice {self.notice:.0f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One tier in one cell, one entry a seed. Costs are shares of n replicas on demand."""

    cell: Cell
    tier: Tier
    overprovision: int
    ours: tuple[Outcome, ...]
    pure_spot: tuple[Outcome, ...]
    omniscient: tuple[float, ...]
    no_floor: tuple[float, ...]
    """Cost of an omniscient policy without the on-demand floor."""

    @property
    def cost(self) -> float:
        return statistics.mean(one.cost for one in self.ours)

    @property
    def availability(self) -> float:
        return statistics.mean(one.availability for one in self.ours)

    @property
    def over_omniscient(self) -> float:
        return self.cost / statistics.mean(self.omniscient)

    def meets(self) -> bool:
        """The goal, whatever the cell's size."""
        within = self.cost <= COST and self.over_omniscient <= OVER_OMNISCIENT
        return within and self.availability >= AVAILABILITY[self.tier]


def cells() -> Iterator[Cell]:
    """Every cell of the grid, then those of a shorter notice (GCP and Azure give 30 s)."""
    for replicas, start, life, outages in product(SIZES, STARTS, LIVES, (False, True)):
        yield Cell(replicas=replicas, engine_start=start, life_hours=life, outages=outages)
    for start in STARTS:
        yield Cell(replicas=20, engine_start=start, life_hours=6.0, outages=True, notice=30.0)


def profile(tier: Tier, cell: Cell) -> Capacity:
    """The tier's `spec.capacity`."""
    return Capacity(overprovision_replicas=OVERPROVISION[tier][cell.replicas][LIVES.index(cell.life_hours)])


def play_cell(cell: Cell, *, seeds: Sequence[int] = REPORT_SEEDS, days: float = DAYS) -> list[Played]:
    """Both tiers."""
    markets = [
        make_market(
            seed=seed,
            seconds=days * 24 * HOUR,
            slots=2 * cell.replicas + 8,
            mean_life=cell.life_hours * HOUR,
            outages=cell.outages,
        )
        for seed in seeds
    ]
    world = World(replicas=cell.replicas, engine_start=cell.engine_start, notice=cell.notice)
    spot = tuple(play(world, market, Capacity(), pure_spot) for market in markets)
    found = []
    for tier in TIERS:
        capacity, slack = profile(tier, cell), 1 - AVAILABILITY[tier]
        found.append(
            Played(
                cell=cell,
                tier=tier,
                overprovision=capacity.overprovision_replicas,
                ours=tuple(play(world, market, capacity) for market in markets),
                pure_spot=spot,
                omniscient=tuple(play_omniscient(world, market, capacity, slack=slack).cost for market in markets),
                no_floor=tuple(
                    play_omniscient(world, market, capacity, slack=slack, floor=False).cost for market in markets
                ),
            )
        )
    return found


HEAD = "cell | tier | overprovision | ours: cost, availability | pure spot | omniscient, without floor | over it | goal"


def row(played: Played) -> str:
    """One line of the table: percent of n replicas on demand, percent of the demand."""
    spot_cost = statistics.mean(one.cost for one in played.pure_spot)
    spot_served = statistics.mean(one.availability for one in played.pure_spot)
    known, bare = statistics.mean(played.omniscient), statistics.mean(played.no_floor)
    cells_ = (
        played.cell.name(),
        played.tier,
        str(played.overprovision),
        f"{played.cost:.1%}, {played.availability:.3%}",
        f"{spot_cost:.1%}, {spot_served:.3%}",
        f"{known:.1%}, {bare:.1%}",
        f"{played.over_omniscient - 1:+.1%}",
        ("yes" if played.meets() else "no") if played.cell.replicas == 20 else "",
    )
    return f"| {' | '.join(cells_)} |"


def play_all(tell: Callable[[str], None], *, seeds: Sequence[int] = REPORT_SEEDS, days: float = DAYS) -> list[Played]:
    """Every cell, each told as it is known."""
    found = []
    for cell in cells():
        for played in play_cell(cell, seeds=seeds, days=days):
            tell(row(played))
            found.append(played)
    return found


def play_trace(market: Market, *, replicas: int, engine_start: float, notice: float = 120.0) -> Iterator[str]:
    """A recorded market with 0 to 4 overprovisioned replicas."""
    world = World(replicas=replicas, engine_start=engine_start, notice=notice)
    known = play_omniscient(world, market, Capacity(), slack=0.0).cost
    spot, safe = play(world, market, Capacity(), pure_spot), play(world, market, Capacity(), all_on_demand)
    yield f"all on demand: cost {safe.cost:.1%}, availability {safe.availability:.3%}"
    yield f"pure spot: cost {spot.cost:.1%}, availability {spot.availability:.3%}"
    yield f"omniscient: cost {known:.1%}, availability 100%"
    for more in range(5):
        ours = play(world, market, Capacity(overprovision_replicas=more))
        yield f"ours, {more} overprovisioned: cost {ours.cost:.1%}, availability {ours.availability:.3%}"


def write_json(found: Sequence[Played], path: Path) -> None:
    """For `spot_plot`, and for whoever wants to look."""
    path.write_text(json.dumps([asdict(played) for played in found], indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0; 2, with a sentence, for a wrong command line or a recording that cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m hack.bench.spot_cells",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every cell there; not with --trace")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="play this recorded market instead of the cells")
    parser.add_argument("--replicas", type=int, help="with --trace: wanted replicas, 1 to 1000 (default: 20)")
    parser.add_argument("--engine-start", type=float, help="with --trace: seconds (default: 180)")
    parser.add_argument("--notice", type=float, help="with --trace: seconds (default: 120)")
    found = parser.parse_args(arguments)
    if found.trace:
        replicas = 20 if found.replicas is None else found.replicas
        engine_start = 180.0 if found.engine_start is None else found.engine_start
        notice = 120.0 if found.notice is None else found.notice
        if found.json:
            parser.error("--json keeps cells, and --trace plays none")
        if not 1 <= replicas <= 1000:
            parser.error("--replicas must be 1 to 1000")
        for name, value in (("--engine-start", engine_start), ("--notice", notice)):
            if not 0 <= value <= HOUR:
                parser.error(f"{name} must be 0 to 3600")
        try:
            market = read_market(found.trace)
        except (OSError, ValueError) as error:
            parser.error(str(error))
        for line in play_trace(market, replicas=replicas, engine_start=engine_start, notice=notice):
            print(line)
        return 0
    for name in ("replicas", "engine_start", "notice"):
        if getattr(found, name) is not None:
            parser.error(f"--{name.replace('_', '-')} goes with --trace; cells have their own")
    print(f"| {HEAD} |\n|{'---|' * (HEAD.count('|') + 1)}", flush=True)
    played = play_all(lambda line: print(line, flush=True))
    if found.json:
        write_json(played, found.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
