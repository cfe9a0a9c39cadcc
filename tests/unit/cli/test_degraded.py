"""Of which voices players hear less than their adapter, and at which level: status, matrix and why."""

from __future__ import annotations

from typing import get_args

from npc_operator.api.archetypeadapter import Degradation
from npc_operator.domain.degradation import LEVELS as OPERATORS
from npc_runtime.cli.answers import Answer
from npc_runtime.cli.explain.degraded import LEVELS
from npc_runtime.cli.explain.target import explain, find_target
from npc_runtime.cli.parse_voices import parse_adapter
from npc_runtime.cli.render import render
from npc_runtime.cli.views.residency import view_matrix
from npc_runtime.cli.views.status import view_status
from tests.unit.cli import objects as o
from tests.unit.cli.degraded_faults import DEGRADED, less, voice
from tests.unit.cli.faults import healthy
from tests.unit.cli.test_residency import heard, held

SILVER = "answered by its adapter on tier silver: tier gold is scaled to 0"


def lines(answer: Answer) -> list[str]:
    return [" ".join(line.split()) for line in render(answer, form="table", colours=False).splitlines()]


def test_levels_are_those_of_the_operator_the_best_first() -> None:
    assert tuple(LEVELS) == OPERATORS == get_args(Degradation.model_fields["level"].annotation)


def test_every_field_of_the_status_is_read() -> None:
    told = Degradation(tier="gold", level="Tier", since=o.RECENTLY, message=SILVER)
    (read,) = parse_adapter(voice(told.model_dump(mode="json", by_alias=True))).degraded
    assert (read.tier, read.level, read.since, read.message) == (told.tier, told.level, told.since, told.message)


def test_status_tells_on_which_tiers_a_voice_speaks_at_which_level_and_since_when() -> None:
    scripted = less("Scripted", "answered by scripted lines: there is no tier bronze", "bronze")
    answer = view_status((healthy(adapters=[voice(less("Tier", SILVER), scripted)]),), now=o.NOW)
    shown = lines(answer)
    place = shown.index("Degraded")
    assert shown[place + 1 : place + 4] == [
        "NAME TIER LEVEL FOR MESSAGE",
        f"vampire gold Tier 5m {SILVER}",
        "vampire bronze Scripted 5m answered by scripted lines: there is no tier bronze",
    ]


def test_status_has_no_such_table_while_every_voice_is_whole() -> None:
    assert "Degraded" not in lines(view_status((healthy(),), now=o.NOW))


def test_a_voice_that_players_hear_less_of_comes_first_although_it_is_ready() -> None:
    quiet = [o.adapter(f"a-{number}") for number in range(3)]
    answer = view_status((healthy(adapters=[*quiet, voice(less("Tier", SILVER))]),), now=o.NOW)
    shown = lines(answer)
    assert shown[shown.index("Adapters") + 2].startswith("vampire True Serving")


def test_the_matrix_says_what_players_hear_whatever_pods_hold() -> None:
    world = healthy(adapters=[voice(less("Tier", SILVER))])
    reports = [heard(world, held(o.OLD))]
    assert f"degraded: vampire on tier gold: Tier for 5m: {SILVER}" in lines(view_matrix(world, reports, now=o.NOW))
    for elsewhere in ({"tier": "silver"}, {"archetype": "zombie"}):
        narrowed = view_matrix(world, reports, now=o.NOW, **elsewhere)
        assert not any(line.startswith("degraded") for line in lines(narrowed))
        assert isinstance(narrowed.data, dict)
        assert narrowed.data["degraded"] == []


def test_tiers_that_fall_back_to_each_other_are_looked_at_once() -> None:
    tiers = [
        o.tier(name, ready=0, status=o.conditions(False, ("Starting", "x")), spec={"fallbackTier": other})
        for name, other in (("gold", "silver"), ("silver", "gold"))
    ]
    world = healthy(adapters=[voice(less("Scripted", "answered by scripted lines"))], tiers=tiers, pods=[o.gateway()])
    told = explain(find_target("vampire", world), world, o.NOW)
    assert [link.object for link in told.links] == ["adapter vampire", "tier gold", "tier silver"]


def test_a_voice_that_a_fallback_serves_blames_the_tier_that_was_asked_alone() -> None:
    world = DEGRADED["heard-from-another-tier"]().world
    told = explain(find_target("vampire", world), world, o.NOW)
    assert [(link.object, link.reason) for link in told.links] == [
        ("adapter vampire", "Degraded"),
        ("tier gold", "ScaledToZero"),
    ]
