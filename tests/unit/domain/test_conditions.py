"""Conditions as kstatus reads them."""

from __future__ import annotations

from npc_operator.domain.conditions import (
    Finding,
    Summary,
    build_conditions,
    clip,
    condition,
    holds,
    join_messages,
    parse_rfc3339,
    rfc3339,
)

WELL = Summary(ready=True, why=Finding("Serving", "all is well"))
BUSY = Summary(ready=True, why=Finding("Serving", "all is well"), reconciling=Finding("Loading", "1 of 2"))
STUCK = Summary(ready=False, why=Finding("Broken", "no"), stalled=Finding("Broken", "call somebody"))


def test_ready_is_always_there_and_the_others_only_while_they_are_true() -> None:
    assert [one.type for one in build_conditions(WELL, (), generation=1, now=0)] == ["Ready"]
    assert [one.type for one in build_conditions(BUSY, (), generation=1, now=0)] == ["Ready", "Reconciling"]
    assert [one.type for one in build_conditions(STUCK, (), generation=1, now=0)] == ["Ready", "Stalled"]


def test_the_transition_time_moves_only_when_the_status_flips() -> None:
    first = build_conditions(WELL, (), generation=1, now=100)
    renamed = Summary(ready=True, why=Finding("Other", "still well"))
    second = build_conditions(renamed, first, generation=2, now=200)
    third = build_conditions(STUCK, second, generation=2, now=300)
    assert second[0].last_transition_time == first[0].last_transition_time == rfc3339(100)
    assert second[0].observed_generation == 2
    assert third[0].last_transition_time == rfc3339(300)


def test_what_is_not_known_is_unknown() -> None:
    built = build_conditions(Summary(ready=None, why=Finding("AgentUnknown", "")), (), generation=1, now=0)
    assert built[0].status == "Unknown"
    assert not holds(built, "Ready")
    assert condition(built, "Stalled") is None


def test_looking_again_at_the_same_world_changes_nothing() -> None:
    once = build_conditions(BUSY, (), generation=3, now=50)
    assert build_conditions(BUSY, once, generation=3, now=5000) == once


def test_times_survive_being_written() -> None:
    assert parse_rfc3339(rfc3339(1_790_000_000.9)) == 1_790_000_000.0
    assert parse_rfc3339("") is None
    assert parse_rfc3339("soon") is None


def test_messages_do_not_grow_with_the_fleet() -> None:
    assert join_messages(["a", "b", "a"]) == "a; b"
    assert join_messages([str(number) for number in range(10)]) == "0; 1; 2; and 7 more"
    assert clip("x" * 50, 10) == "x" * 9 + "…"
