"""The spot simulation on small markets whose outcome can be worked out by hand, and its promise in short."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from hack.bench import spot_cells
from hack.bench.row_spot import read_spot
from hack.bench.spot_cells import REPORT_SEEDS, TUNING_SEED, Cell, cells, play_cell, play_trace, write_json
from hack.bench.spot_market import NODE_SECONDS, SPOT_PRICE, World, all_on_demand, play, pure_spot
from hack.bench.spot_omniscient import play_omniscient
from hack.bench.spot_trace import HOUR, Market, Slot, make_market, read_market
from npc_operator.api.capacity import Capacity, CapacityStatus

WORLD = World(replicas=2, engine_start=60.0)
"""A start takes 3 + 45 + 60 = 108 s."""
DAY = 24 * HOUR


def market(*slots: tuple[tuple[float, float], ...], seconds: float = 10_000.0) -> Market:
    """One zone."""
    made = tuple(Slot(tuple(begin for begin, _ in spans), tuple(end for _, end in spans)) for spans in slots)
    return Market(seconds, (made,))


CALM = market(*(((0.0, 10_000.0),),) * 6)
ONE_LOST = market(((0.0, 5_000.0),), ((0.0, 10_000.0),), ((0.0, 10_000.0),))
GONE = market(((0.0, 4_000.0),), ((0.0, 4_000.0),))


def test_nothing_happens_in_a_calm_market() -> None:
    assert play(WORLD, CALM, Capacity(), all_on_demand).cost == pytest.approx(1.0)
    spot = play(WORLD, CALM, Capacity(), pure_spot)
    assert spot.cost == pytest.approx(SPOT_PRICE)
    assert spot.availability == pytest.approx(1.0)
    ours = play(WORLD, CALM, Capacity())
    assert ours.cost == pytest.approx((1 + SPOT_PRICE) / 2)
    assert ours.availability == pytest.approx(1.0)
    assert ours.reversals == 0


def test_one_interruption_costs_what_its_replacement_is_late() -> None:
    spot = play(WORLD, ONE_LOST, Capacity(), pure_spot)
    # The pod serves for 120 - 25 s more, its replacement is there after 108 s; both are paid for 117 s.
    assert spot.availability == pytest.approx(1 - (108 - 95) / 20_000)
    assert spot.cost == pytest.approx(SPOT_PRICE * (20_000 + 120 - 3) / 20_000)


def test_a_shorter_notice_costs_more() -> None:
    short = World(replicas=2, engine_start=60.0, notice=30.0)
    assert play(short, ONE_LOST, Capacity(), pure_spot).availability == pytest.approx(1 - (108 - 5) / 20_000)


def test_without_room_on_spot_ours_goes_on_on_demand() -> None:
    spot = play(WORLD, GONE, Capacity(), pure_spot)
    assert spot.availability == pytest.approx((4_000 + 95) / 10_000)
    ours = play(WORLD, GONE, Capacity())
    assert ours.availability == pytest.approx(1 - (108 - 95) / 20_000)
    assert ours.on_demand == pytest.approx(1 + (6_000 - 3) / 10_000)


def test_it_is_the_operators_own_decision_that_is_played(monkeypatch: pytest.MonkeyPatch) -> None:
    back = market(((0.0, 4_000.0), (5_000.0, 10_000.0)))
    before = play(WORLD, back, Capacity())
    # Spot is back at 5,000 + 45 + 60 s; the stand-in goes 300 s later, and the operator looks within a second of it.
    assert before.on_demand * 10_000 == pytest.approx(10_000 + 1_000 + 105 + 300, abs=10)
    monkeypatch.setattr("npc_operator.domain.capacity.decide.REVERSAL_SECONDS", 5_000.0)
    later = play(WORLD, back, Capacity())
    assert later.on_demand * 10_000 == pytest.approx(10_000 + 5_000, abs=10)


def test_its_memory_is_what_a_status_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    back = market(((0.0, 4_000.0), (5_000.0, 10_000.0)))
    monkeypatch.setattr("hack.bench.spot_market.write_capacity", lambda _decision: CapacityStatus())
    # Whoever remembers nothing sees no loss, but a pod that waits for 60 s, and takes the stand-in for one of just now,
    # again and again.
    assert play(WORLD, back, Capacity()).on_demand * 10_000 == pytest.approx(10_000 + 6_000 - 63, abs=10)


def test_an_overprovisioned_replica_covers_one_interruption() -> None:
    ours = play(WORLD, ONE_LOST, Capacity(overprovision_replicas=1))
    assert ours.availability == pytest.approx(1.0)
    assert ours.on_demand == pytest.approx(1.0)
    assert ours.reversals == 0


def test_the_omniscient_policy_starts_in_time_and_pays_for_it() -> None:
    known = play_omniscient(WORLD, ONE_LOST, Capacity(), slack=0.0, floor=False)
    # Both replicas can have a slot that lasts; the one that is interrupted is not taken.
    assert known.cost == pytest.approx(SPOT_PRICE)
    forced = market(((0.0, 5_000.0),), ((4_000.0, 10_000.0),))
    one = play_omniscient(World(replicas=1, engine_start=60.0), forced, Capacity(), slack=0.0, floor=False)
    assert one.cost == pytest.approx(SPOT_PRICE * (10_000 + 108) / 10_000)


def test_the_omniscient_policy_goes_on_demand_where_the_market_is_empty() -> None:
    gap = market(((0.0, 4_000.0), (6_000.0, 10_000.0)))
    known = play_omniscient(World(replicas=1, engine_start=60.0), gap, Capacity(), slack=0.01, floor=False)
    # On demand from one start before 4,000 until the spot node that can be had at 6,000 is ready.
    on_demand, spot = 2_000 + 108 + 108, 4_000 + 4_000
    assert known.cost == pytest.approx((on_demand + SPOT_PRICE * spot) / 10_000 - 0.01)


def test_a_market_is_the_same_for_everybody_and_every_time() -> None:
    first, again = (make_market(seed=7, seconds=DAY, slots=3, mean_life=HOUR, outages=True) for _ in range(2))
    assert first == again
    assert first != make_market(seed=8, seconds=DAY, slots=3, mean_life=HOUR, outages=True)


def test_spot_lives_have_the_mean_that_was_asked_for() -> None:
    made = make_market(seed=7, seconds=50 * DAY, slots=4, mean_life=2 * HOUR, outages=False)
    interruptions = sum(len(slot.ends) - 1 for zone in made.zones for slot in zone)
    assert interruptions == pytest.approx(12 * 600, rel=0.05)


def test_an_outage_takes_a_whole_zone() -> None:
    made = make_market(seed=7, seconds=30 * DAY, slots=4, mean_life=1000 * DAY, outages=True)
    chance = random.Random(1)
    whole = 0
    for zone in made.zones:
        times = [chance.uniform(0, 30 * DAY) for _ in range(5_000)]
        held = [[slot.end(time) is not None for slot in zone] for time in times]
        assert all(len(set(one)) == 1 for one in held)
        whole += sum(not one[0] for one in held)
    # An hour every 48, and a tenth of the others' too: about 2.4% of the time.
    assert 0.01 < whole / 15_000 < 0.06


CSV = "seconds,zone,capacity\n0,a,2\n0,b,1\n100,a,0\n250,a,1\n300,b,1\n"


def test_a_recorded_market_is_read(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(CSV)
    made = read_market(path)
    assert made.seconds == 300
    (first, second), (other,) = made.zones
    assert (first.begins, first.ends) == ((0.0, 250.0), (100.0, 300.0))
    assert (second.begins, second.ends) == ((0.0,), (100.0,))
    assert (other.begins, other.ends) == ((0.0,), (300.0,))
    assert len(list(play_trace(made, replicas=2, engine_start=10.0))) == 8


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seconds,capacity\n", "line 1: the header must be seconds,zone,capacity"),
        ("", "line 1: the header"),
        ("seconds,zone,capacity\n", "nothing is recorded"),
        ("seconds,zone,capacity\n0,a,1\n", "nothing is recorded"),
        ("seconds,zone,capacity\n5,a,1\n", "line 2: .* begin at 0"),
        ("seconds,zone,capacity\n0,a,1\n0,a,2\n", "line 3: .* rise"),
        ("seconds,zone,capacity\n0,a,-1\n", "line 2: .* >= 0"),
        ("seconds,zone,capacity\n0,a,many\n", "line 2: .*many"),
        ("seconds,zone,capacity\n0,a,1\nsoon,a,1\n", "line 3: .*soon"),
        ("seconds,zone,capacity\n0,a,1\ninf,a,1\n", "line 3: "),
        ("seconds,zone,capacity\n0,a,1.5\n", "line 2: .*1.5"),
        ("seconds,zone,capacity\n0,a\n", "line 2: 2 values instead of 3"),
        ("seconds,zone,capacity\n0,a,1,2\n", "line 2: 4 values instead of 3"),
        ("seconds,zone,capacity\n0,,1\n", "line 2: .* zone"),
        ("seconds,zone,capacity\n0,a,1\n\n\n9,a,-1\n", "line 5: "),
        ('seconds,zone,capacity\n0,"a\nb",1\n9,c,1\n', "line 4: "),
        ("seconds,zone,capacity\n0,a,1001\n", "line 2: .* 1000"),
        ("seconds,zone,capacity\n0,a,\x00\n", "line 2: "),
    ],
)
def test_a_recording_with_a_fault_is_refused_with_its_line(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=told):
        read_market(path)


def test_a_recording_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(b"seconds,zone,capacity\n0,a,\xff\n")
    with pytest.raises(ValueError, match=r"trace\.csv: .*utf-8"):
        read_market(path)


def test_a_recording_may_be_as_spreadsheets_write_it(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode())
    plain = tmp_path / "plain.csv"
    plain.write_text(CSV)
    assert read_market(path) == read_market(plain)


def test_the_recording_of_the_manual_can_be_played(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[3] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    path = tmp_path / "trace.csv"
    path.write_text(text.split("```csv\n", 1)[1].split("```", 1)[0])
    assert spot_cells.main(["--trace", str(path), "--replicas", "2", "--engine-start", "60", "--notice", "30"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "all on demand: cost 100.0%, availability 100.000%"
    assert [line.split(":")[0] for line in told[1:4]] == ["pure spot", "omniscient", "ours, 0 overprovisioned"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--trace", "absent.csv"], "absent.csv"),
        (["--trace", "bad.csv"], "bad.csv, line 2"),
        (["--trace", "good.csv", "--replicas", "0"], "--replicas"),
        (["--trace", "good.csv", "--engine-start", "-1"], "--engine-start"),
        (["--trace", "good.csv", "--engine-start", "nan"], "--engine-start"),
        (["--trace", "good.csv", "--notice", "-1"], "--notice"),
        (["--trace", "good.csv", "--json", "out.json"], "--json"),
        (["--replicas", "3"], "--replicas"),
        (["--notice", "30"], "--notice"),
    ],
)
def test_a_wrong_command_line_is_refused_in_words(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(spot_cells, "play_all", lambda _tell: [])
    Path("bad.csv").write_text("seconds,zone,capacity\n0,a,many\n")
    Path("good.csv").write_text(CSV)
    with pytest.raises(SystemExit) as ended:
        spot_cells.main(arguments)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
    assert not Path("out.json").exists()


def test_every_cell_of_the_issue_is_played() -> None:
    made = list(cells())
    assert len(set(made)) == len(made) == 3 * 2 * 3 * 2 + 2
    assert TUNING_SEED not in REPORT_SEEDS


def test_twenty_replicas_meet_the_goal_in_short(tmp_path: Path) -> None:
    """Two days of the one cell that ships as the claim; the whole grid is in docs/benchmarks.md."""
    cell = Cell(replicas=20, engine_start=60.0, life_hours=6.0, outages=True)
    found = play_cell(cell, seeds=(1,), days=2.0)
    assert [(played.tier, played.meets()) for played in found] == [("Gold", True), ("Silver", True)]
    assert all(played.pure_spot[0].availability < played.availability for played in found)
    figures = [figure for played in found for figure in read_spot(played)]
    assert {figure.verdict() for figure in figures} == {"yes"}
    write_json(found, tmp_path / "cells.json")
    assert json.loads((tmp_path / "cells.json").read_text())[0]["cell"]["replicas"] == 20


def test_a_node_takes_less_than_the_time_after_which_a_market_counts_as_closed() -> None:
    assert Capacity().fallback.after_seconds > NODE_SECONDS
