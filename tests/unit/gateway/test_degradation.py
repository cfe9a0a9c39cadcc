"""Who is told to speak from a lower level, and for how long."""

from __future__ import annotations

from npc_runtime.gateway.degradation import QUIET_SECONDS, Degradation, Lines


async def nothing() -> Lines:
    return {}


def levels(watch: Degradation, lines: Lines, now: float) -> list[str]:
    return [f"{each.archetype}@{each.tier}:{each.level}" for each in watch.hear(lines, now)]


def test_a_level_is_told_while_its_lines_grow_and_a_quiet_time_longer() -> None:
    watch = Degradation(ask=nothing, tell=lambda degraded: None)
    key = ("vampire", "gold", "Tier")
    assert levels(watch, {}, 0.0) == []
    assert levels(watch, {key: 1}, 1.0) == ["vampire@gold:Tier"]
    assert levels(watch, {key: 7}, 5.0) == ["vampire@gold:Tier"]
    assert levels(watch, {key: 7}, 5.0 + QUIET_SECONDS) == ["vampire@gold:Tier"]
    assert levels(watch, {key: 7}, 5.1 + QUIET_SECONDS) == []
    assert levels(watch, {key: 8}, 30.0) == ["vampire@gold:Tier"]


def test_a_counter_that_fell_belongs_to_a_worker_that_began_anew_and_says_nothing() -> None:
    watch = Degradation(ask=nothing, tell=lambda degraded: None)
    key = ("vampire", "gold", "Scripted")
    levels(watch, {key: 5}, 0.0)
    assert levels(watch, {key: 2}, 60.0) == []
    assert levels(watch, {key: 3}, 61.0) == ["vampire@gold:Scripted"]


def test_levels_of_one_archetype_are_told_side_by_side() -> None:
    watch = Degradation(ask=nothing, tell=lambda degraded: None)
    lines = {("zombie", "gold", "Tier"): 1, ("vampire", "gold", "Tier"): 1, ("vampire", "gold", "Scripted"): 1}
    assert levels(watch, lines, 0.0) == ["vampire@gold:Scripted", "vampire@gold:Tier", "zombie@gold:Tier"]
