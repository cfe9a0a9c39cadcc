"""The picture of the spot benchmark shows every policy of every cell, where the table has it."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import pytest

from hack.bench import spot_cells
from hack.bench.spot_cells import Cell, Played, play_cell, write_json
from hack.bench.spot_points import FLOOR, Point, read_points


@pytest.fixture(scope="module")
def played() -> list[Played]:
    made = (Cell(replicas=size, engine_start=60.0, life_hours=1.0, outages=True) for size in (2, 7))
    return [one for cell in made for one in play_cell(cell, seeds=(1, 2), days=0.5)]


@pytest.fixture
def points(played: list[Played], tmp_path: Path) -> list[Point]:
    write_json(played, tmp_path / "cells.json")
    return read_points(tmp_path / "cells.json")


def test_every_cell_has_a_point_of_each_policy(points: list[Point]) -> None:
    cell = ["ours, Gold", "pure spot", "omniscient", "ours, Silver"]
    assert [point.policy for point in points] == [*cell, *cell, "on demand", "on demand"]
    assert [point.replicas for point in points] == [2] * 4 + [7] * 4 + [2, 7]


def test_points_are_where_the_table_has_them(points: list[Point], played: list[Played]) -> None:
    gold = played[0]
    ours, spot, known, _ = points[:4]
    assert ours.cost == pytest.approx(gold.cost)
    assert ours.lost == pytest.approx(max(FLOOR, 1 - gold.availability))
    assert spot.lost == pytest.approx(1 - statistics.mean(one.availability for one in gold.pure_spot))
    assert spot.lost > FLOOR
    assert known.cost == pytest.approx(gold.cost / gold.over_omniscient)
    assert known.lost == FLOOR
    assert (points[-1].cost, points[-1].lost) == (1.0, FLOOR)


def test_the_picture_needs_nothing_of_the_project() -> None:
    bench = Path(spot_cells.__file__).parent
    used = {
        line.split()[1].partition(".")[0]
        for name in ("spot_plot.py", "spot_points.py")
        for line in (bench / name).read_text(encoding="utf-8").splitlines()
        if line.startswith(("import ", "from ")) and "hack.bench.spot_points" not in line
    }
    assert used - set(sys.stdlib_module_names) == {"matplotlib"}
