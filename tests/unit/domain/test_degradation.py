"""Which level a voice is said to be at, when that is over, and the words for it."""

from __future__ import annotations

from typing import Any

import pytest

from npc_operator.domain.degradation import (
    CALM_SECONDS,
    LONGEST_CALM_SECONDS,
    RELAPSE,
    Level,
    Rung,
    describe_answer,
    describe_cause,
    find_obstacle,
    next_calm,
    pick_level,
)
from npc_operator.domain.engines import Engine
from npc_runtime.wire import AdapterPhase, EngineState, served_name
from tests.support.builders import agent_fact, digest, pod_fact, report

DIGEST = digest("vampire-1")
NAME = served_name("vampire", DIGEST)


def engine(*, has: bool = True, heard: bool = True, **options: Any) -> Engine:
    pod = pod_fact()
    phase = AdapterPhase.RESIDENT if has else AdapterPhase.LOADING
    return Engine(pod, agent_fact(pod, [report("vampire", DIGEST, phase)], **options) if heard else None)


def rung(tier: str = "gold", **options: Any) -> Rung:
    fields: dict[str, Any] = {
        "tier": tier,
        "variant": True,
        "exists": True,
        "quarantined": False,
        "served_name": NAME,
        "wanted": 1,
        "engines": [engine()],
    }
    return Rung(**{**fields, **options})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, ""),
        ({"exists": False, "variant": False}, "there is no tier gold"),
        ({"variant": False, "wanted": 0}, "it has no variant for tier gold"),
        ({"quarantined": True}, "its digest on tier gold is quarantined, and no earlier one is known"),
        ({"served_name": ""}, "no digest of it was proven on tier gold yet"),
        ({"wanted": 0}, "tier gold is scaled to 0"),
        ({"engines": []}, "no pod of tier gold has a ready engine"),
        ({"engines": [engine(state=EngineState.STARTING)]}, "no pod of tier gold has a ready engine"),
        ({"engines": [engine(has=False)]}, "no ready pod of tier gold has it resident"),
        ({"engines": [engine(has=False), engine()]}, ""),
        ({"engines": [engine(heard=False), engine()]}, ""),
        ({"engines": [engine(heard=False), engine(has=False)]}, None),
    ],
)
def test_what_keeps_an_adapter_from_answering_is_named_the_most_basic_first(
    options: dict[str, Any], said: str | None
) -> None:
    assert find_obstacle(rung(**options)) == said


@pytest.mark.parametrize(
    ("told", "ended", "level", "again"),
    [
        (set(), {}, None, None),
        ({"Tier"}, {}, "Tier", None),
        ({"Tier", "Scripted"}, {}, "Scripted", None),  # of two gateways, or of two moments: the worst
        ({"Tier"}, {"Scripted": 97}, "Scripted", 7),  # not over yet
        ({"Tier"}, {"Scripted": 90}, "Tier", None),
        ({"Scripted"}, {"Tier": 99}, "Scripted", None),
        (set(), {"Tier": 95}, "Tier", 5),
        (set(), {"Tier": 99, "BaseModel": 95}, "BaseModel", 5),
        (set(), {"Tier": 99, "BaseModel": 80}, "Tier", 9),
        (set(), {"Tier": 90}, None, None),
    ],
)
def test_what_is_worse_counts_at_once_and_what_is_better_after_a_quiet_time(
    told: set[Level], ended: dict[Level, float], level: Level | None, again: float | None
) -> None:
    assert pick_level(told, ended, calm=10, now=100) == (level, again)


def test_a_voice_that_flaps_has_to_be_quiet_for_longer_each_time_and_one_that_held_begins_anew() -> None:
    assert next_calm(CALM_SECONDS, over_for=None) == CALM_SECONDS
    calm, seen = CALM_SECONDS, []
    for _ in range(8):
        calm = next_calm(calm, over_for=RELAPSE * calm)
        seen.append(calm)
    assert seen == [20, 40, 80, 160, 320, 640, 640, 640]
    assert seen[-1] == LONGEST_CALM_SECONDS
    assert next_calm(calm, over_for=RELAPSE * calm + 1) == CALM_SECONDS


def test_what_answers_is_named_with_the_tier_that_can() -> None:
    gold, silver, bronze = rung(wanted=0), rung("silver", engines=[]), rung("bronze")
    assert describe_answer("Tier", [gold, silver, bronze]) == "its adapter on tier bronze"
    assert describe_answer("Tier", [gold, silver]) == "its adapter on a fallback tier"
    assert describe_answer("BaseModel", [gold]) == "the base model with its persona's prompt"
    assert describe_answer("Scripted", [gold]) == "scripted lines"


def test_the_cause_is_that_of_the_tier_asked_and_of_all_others_where_none_of_them_answers() -> None:
    gold, silver = rung(wanted=0), rung("silver")
    late = "pods of tier silver failed, were full, or would have answered later than objectives.firstTokenMilliseconds"
    assert describe_cause("Tier", [gold, silver], has_prompt=True) == "tier gold is scaled to 0"
    assert describe_cause("BaseModel", [gold, silver], has_prompt=True) == f"tier gold is scaled to 0; {late}"
    without = describe_cause("Scripted", [gold], has_prompt=False)
    assert without == "tier gold is scaled to 0; persona.systemPrompt is empty, so the base model is not asked"
    unknown = describe_cause("Tier", [rung(engines=[engine(heard=False)])], has_prompt=True)
    assert unknown == "what pods of tier gold have resident is not known yet"
