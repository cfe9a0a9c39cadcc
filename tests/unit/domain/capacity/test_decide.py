"""When on-demand stands in for spot, when it goes again, and what a storm does. Ten replicas wanted, one of them on
demand, unless a row says otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from npc_operator.api.capacity import CapacityStatus, Storm
from npc_operator.domain.capacity import (
    CapacityDecision,
    CapacityState,
    SliceFact,
    decide_capacity,
    read_capacity,
    write_capacity,
)
from npc_operator.domain.capacity.decide import storm_threshold
from npc_operator.domain.replicas import Split
from tests.unit.domain.capacity.worlds import NOW, facts, slice_, state

LONG_PENDING: dict[str, Any] = {"oldest_pending": NOW - 60}


@pytest.mark.parametrize(
    ("spot", "ago", "before", "split", "mode", "reason"),
    [
        pytest.param(slice_(9), (), state(), Split(1, 9), "Normal", "SpotAsWanted", id="all is well"),
        pytest.param(slice_(0, starting=9), (), state(proven=0), Split(1, 9), "Normal", "SpotAsWanted", id="a start"),
        pytest.param(
            slice_(6, pending=3, oldest_pending=NOW - 59), (), state(proven=6), Split(1, 9), "Normal", "SpotAsWanted",
            id="pending, not long enough",
        ),
        pytest.param(
            slice_(6, pending=3, **LONG_PENDING), (), state(proven=6), Split(4, 9), "Fallback", "SpotPending",
            id="pending too long",
        ),
        pytest.param(
            slice_(6, starting=1, pending=2, **LONG_PENDING), (), state(proven=6), Split(3, 9), "Fallback",
            "SpotPending", id="what starts is not missing",
        ),
        pytest.param(
            slice_(7, starting=2), (5.0, 5.0), state(), Split(3, 9), "Fallback", "SpotLost",
            id="lost to interruptions, at once, though others start",
        ),
        pytest.param(
            slice_(7, leaving=2), (1.0, 1.0), state(), Split(3, 11), "Fallback", "SpotLost",
            id="a notice is enough, and what leaves is replaced before it is gone",
        ),
        pytest.param(slice_(7, starting=2), (), state(), Split(1, 9), "Normal", "SpotAsWanted", id="crashed engines"),
        pytest.param(
            slice_(6, starting=3), (5.0,), state(), Split(2, 9), "Fallback", "SpotLost",
            id="no more than was interrupted",
        ),
        pytest.param(
            slice_(7, starting=2), (601.0, 602.0), state(), Split(1, 9), "Normal", "SpotAsWanted",
            id="an old interruption explains no loss",
        ),
        pytest.param(
            slice_(6, starting=3), (5.0,) * 3, state("Fallback", 2), Split(4, 9), "Fallback", "SpotLost",
            id="a second wave",
        ),
        pytest.param(
            slice_(9), (), state("Fallback", 2), Split(3, 9), "Fallback", "SpotNotReadyLongEnough",
            id="just ready again",
        ),
        pytest.param(
            slice_(9), (), state("Fallback", 2, enough_since=NOW - 299), Split(3, 9), "Fallback",
            "SpotNotReadyLongEnough", id="nearly ready long enough",
        ),
        pytest.param(
            slice_(9), (), state("Fallback", 2, enough_since=NOW - 300), Split(2, 9), "Returning", "ReturningToSpot",
            id="ready long enough: one goes",
        ),
        pytest.param(
            slice_(9), (), state("Fallback", 2, enough_since=NOW - 3000, last_reversal=NOW - 599), Split(3, 9),
            "Fallback", "SpotNotReadyLongEnough", id="not within ten minutes of the last reversal",
        ),
        pytest.param(
            slice_(9), (), state("Returning", 1, enough_since=NOW - 900, last_return=NOW - 30), Split(1, 9),
            "Normal", "SpotAsWanted", id="the last one goes",
        ),
        pytest.param(
            slice_(9), (), state("Returning", 1, enough_since=NOW - 900, last_return=NOW - 29), Split(2, 9),
            "Returning", "ReturningToSpot", id="one at a time",
        ),
        pytest.param(
            slice_(7, starting=2), (), state("Returning", 2, last_return=NOW - 900), Split(3, 9), "Returning",
            "ReturningToSpot", id="make before break: the next waits for a ready spot pod",
        ),
        pytest.param(
            slice_(7, starting=2), (5.0, 5.0), state("Returning", 1, last_return=NOW - 1, last_reversal=NOW - 1),
            Split(3, 9), "Fallback", "SpotLost", id="growth never waits, not even a second after a return",
        ),
        pytest.param(
            slice_(3, starting=6), (5.0,) * 9, state(), Split(10, 9), "Storm", "SpotStorm",
            id="a storm: everything on demand, and spot stays until that is ready",
        ),
        pytest.param(
            slice_(9), (), state("Storm", 9, storm_until=NOW + 1), Split(10, 9), "Storm", "SpotStorm",
            id="the storm's hold",
        ),
        pytest.param(
            slice_(9), (), state("Storm", 9, storm_until=NOW), Split(10, 9), "Fallback", "SpotNotReadyLongEnough",
            id="after the storm",
        ),
    ],
)  # fmt: skip
def test_the_decision(
    spot: SliceFact, ago: tuple[float, ...], before: CapacityState, split: Split, mode: str, reason: str
) -> None:
    decision = decide_capacity(facts(spot, ago=ago, state=before), NOW)
    assert decision.split == split
    assert decision.state is not None
    assert (decision.state.mode, decision.reason) == (mode, reason)


@pytest.mark.parametrize(
    ("struck", "ago", "stand_ins"),
    [(4, (5.0,), 4), (1, (5.0,), 1), (9, (5.0,), 5), (4, (), 0), (4, (601.0,), 0)],
    ids=["four on one node", "one", "no more than were ready", "nobody said so", "long ago"],
)
def test_a_node_that_goes_takes_all_its_pods(struck: int, ago: tuple[float, ...], stand_ins: int) -> None:
    told = replace(facts(slice_(4, starting=5), ago=ago, state=state()), struck=struck)
    decision = decide_capacity(told, NOW)
    assert decision.split == Split(1 + stand_ins, 9)


@pytest.mark.parametrize(
    ("spot", "reason", "message"),
    [
        pytest.param(
            slice_(4, pending=1, **LONG_PENDING), "SpotPending",
            "Spot has no room for 5 replicas: 5 on-demand replicas stand in.",
            id="the market closed meanwhile",
        ),
        pytest.param(
            slice_(4, pending=1, oldest_pending=NOW - 59), "ReturningToSpot",
            "4 of 9 spot replicas are ready: 5 on-demand replicas stand in and will go.",
            id="a node takes its time",
        ),
    ],
)  # fmt: skip
def test_a_return_that_cannot_go_on_says_why(spot: SliceFact, reason: str, message: str) -> None:
    before = state("Returning", 5, proven=4, last_return=NOW - 3600)
    decision = decide_capacity(facts(spot, slice_(6), max_replicas=10, state=before), NOW)
    assert decision.state is not None
    assert (decision.state.mode, decision.state.extra_on_demand) == ("Returning", 5)
    assert (decision.reason, decision.message) == (reason, message)


@pytest.mark.parametrize(
    ("spot", "ago", "message"),
    [
        pytest.param(
            slice_(6, starting=1, pending=2, **LONG_PENDING), (),
            "Spot has no room for 2 replicas: 2 on-demand replicas stand in.", id="what starts has its room",
        ),
        pytest.param(
            slice_(6, starting=2, pending=1, **LONG_PENDING), (),
            "Spot has no room for 1 replica: 1 on-demand replica stands in.", id="one is no more than one",
        ),
        pytest.param(
            slice_(6, starting=3), (5.0,),
            "1 spot replica was interrupted: 1 on-demand replica stands in.", id="crashed engines were not interrupted",
        ),
        pytest.param(
            slice_(7, starting=2), (5.0, 6.0),
            "2 spot replicas were interrupted: 2 on-demand replicas stand in.", id="two were",
        ),
    ],
)  # fmt: skip
def test_the_message_says_how_many_of_what(spot: SliceFact, ago: tuple[float, ...], message: str) -> None:
    before = state(proven=9 if ago else spot.ready)
    assert decide_capacity(facts(spot, ago=ago, state=before), NOW).message == message


def test_growth_starts_the_ten_minutes_within_which_nothing_returns() -> None:
    grown = decide_capacity(facts(slice_(7, starting=2), ago=(5.0, 5.0), state=state()), NOW).state
    assert grown is not None
    assert (grown.mode, grown.last_reversal) == ("Fallback", NOW)
    ready = [decide_capacity(facts(slice_(9), state=grown), NOW + 100)]
    ready += [decide_capacity(facts(slice_(9), state=ready[0].state), NOW + later) for later in (599, 600)]
    assert [one.split for one in ready] == [Split(3, 9), Split(3, 9), Split(2, 9)]


def test_in_a_storm_spot_pods_go_as_on_demand_pods_become_ready() -> None:
    before = state("Storm", 9, storm_until=NOW + 600)
    seen = [
        decide_capacity(facts(slice_(9), slice_(ready, starting=10 - ready), state=before), NOW).split
        for ready in (1, 4, 10)
    ]
    assert seen == [Split(10, 9), Split(10, 6), Split(10, 0)]


def test_in_a_storm_spot_covers_what_on_demand_has_no_room_for() -> None:
    before = state("Storm", 9, proven=0, storm_until=NOW + 600)
    stuck = slice_(6, pending=4, oldest_pending=NOW - 60)
    assert decide_capacity(facts(slice_(0), stuck, state=before), NOW).split == Split(10, 4)


def test_spot_is_asked_for_in_place_of_on_demand_pods_that_get_no_node() -> None:
    before = state("Fallback", 9, proven=0)
    seen = [
        decide_capacity(
            facts(slice_(0), slice_(6, pending=4, oldest_pending=since), max_replicas=10, state=before), NOW
        )
        for since in (NOW - 59, NOW - 60)
    ]
    assert [one.split for one in seen] == [Split(10, 1), Split(10, 5)]
    assert seen[0].wake_at == NOW + 1


@pytest.mark.parametrize(
    ("overprovision", "ready", "expected"),
    [(0, 8, Split(2, 9)), (1, 9, Split(1, 10)), (2, 9, Split(1, 11)), (2, 8, Split(2, 11))],
)
def test_overprovisioned_pods_cover_a_loss(overprovision: int, ready: int, expected: Split) -> None:
    spot = slice_(ready, starting=9 + overprovision - ready)
    told = facts(spot, ago=(5.0,), state=state(), capacity={"overprovisionReplicas": overprovision})
    assert decide_capacity(told, NOW).split == expected


def test_a_tier_without_spot_replicas_overprovisions_nothing() -> None:
    told = facts(slice_(0), slice_(1), wanted=1, capacity={"overprovisionReplicas": 3})
    assert decide_capacity(told, NOW).split == Split(1, 0)


@pytest.mark.parametrize(
    ("max_replicas", "spot", "expected"),
    [
        pytest.param(10, slice_(6, pending=3, **LONG_PENDING), Split(4, 7), id="pending ones do not count"),
        pytest.param(10, slice_(6, starting=2, pending=1, **LONG_PENDING), Split(2, 9), id="starting ones do"),
        pytest.param(10, slice_(0, pending=9, **LONG_PENDING), Split(10, 1), id="one asks whether there is room again"),
        pytest.param(20, slice_(0, pending=9, **LONG_PENDING), Split(10, 9), id="room for all to come back"),
    ],
)
def test_max_replicas_bounds_running_plus_starting(max_replicas: int, spot: SliceFact, expected: Split) -> None:
    told = facts(spot, max_replicas=max_replicas, state=state(proven=spot.ready))
    assert decide_capacity(told, NOW).split == expected


def test_a_full_tier_says_what_it_has_no_room_for() -> None:
    told = facts(slice_(7, starting=2), max_replicas=10, ago=(5.0, 5.0), state=state())
    decision = decide_capacity(told, NOW)
    assert decision.split == Split(1, 9)
    assert "maxReplicas leaves no room for 2 more" in decision.message


@pytest.mark.parametrize("missing", ["spot", "on_demand"])
@pytest.mark.parametrize("before", [None, state("Fallback", 3)])
def test_without_facts_nothing_changes(missing: str, before: CapacityState | None) -> None:
    known = facts(slice_(9), ago=(1.0,) * 9, state=before)
    told = replace(known, spot=None) if missing == "spot" else replace(known, on_demand=None)
    decision = decide_capacity(told, NOW)
    assert decision.split is None
    assert decision.state == before


def test_a_lost_status_takes_what_runs_beyond_the_floor_for_stand_ins() -> None:
    decision = decide_capacity(facts(slice_(9), slice_(4)), NOW)
    assert decision.split == Split(4, 9)
    assert decision.state is not None
    assert (decision.state.mode, decision.state.last_reversal) == ("Fallback", NOW)


def test_a_smaller_wanted_number_takes_stand_ins_with_it() -> None:
    told = facts(slice_(0, pending=9, **LONG_PENDING), slice_(10), wanted=4, state=state("Fallback", 9, proven=0))
    assert decide_capacity(told, NOW).split == Split(4, 3)


@pytest.mark.parametrize(
    ("spot", "before", "expected"),
    [
        (slice_(9), state(), None),
        (slice_(8, pending=1, oldest_pending=NOW - 20), state(), NOW + 40),
        (slice_(9), state("Fallback", 2, enough_since=NOW - 100), NOW + 200),
        (slice_(9), state("Fallback", 2, enough_since=NOW - 100, last_reversal=NOW - 100), NOW + 500),
        (slice_(9), state("Returning", 2, enough_since=NOW - 900, last_return=NOW - 10), NOW + 20),
        (slice_(9), state("Returning", 2, enough_since=NOW - 900, last_return=NOW - 40), NOW + 30),
        (slice_(9), state("Storm", 9, storm_until=NOW + 77), NOW + 77),
        (slice_(7, starting=2), state("Fallback", 2), None),
        (slice_(8, pending=1, oldest_pending=NOW - 20), state("Fallback", 2, enough_since=NOW - 100), NOW + 40),
    ],
)
def test_it_asks_to_be_woken_when_time_alone_changes_it(
    spot: SliceFact, before: CapacityState, expected: float | None
) -> None:
    assert decide_capacity(facts(spot, state=before), NOW).wake_at == expected


@pytest.mark.parametrize("ahead", [3600.0, 86_400.0 * 365])
def test_a_clock_set_back_makes_no_wait_longer_than_it_is(ahead: float) -> None:
    before = state("Storm", 9, storm_until=NOW + ahead, last_reversal=NOW + ahead, since=NOW + ahead)
    first = decide_capacity(facts(slice_(9), slice_(10), state=before), NOW)
    assert first.wake_at == NOW + 1800
    after = decide_capacity(facts(slice_(9), slice_(10), state=first.state), NOW + 1800)
    assert after.wake_at == NOW + 2100  # returnAfterSeconds
    gone = decide_capacity(facts(slice_(9), slice_(10), state=after.state), NOW + 2100)
    assert gone.split == Split(9, 9)


def test_a_pod_from_the_future_is_pending_since_it_was_first_seen() -> None:
    spot = slice_(8, pending=1, oldest_pending=NOW + 5000)
    first = decide_capacity(facts(spot, state=state(proven=8)), NOW)
    assert (first.split, first.wake_at) == (Split(1, 9), NOW + 60)
    assert decide_capacity(facts(spot, state=first.state), NOW + 60).split == Split(2, 9)


@pytest.mark.parametrize(("ahead", "mode"), [(60.0, "Storm"), (61.0, "Normal")])
def test_interruptions_far_ahead_were_noted_by_a_clock_that_was_set_back(ahead: float, mode: str) -> None:
    decided = decide_capacity(facts(slice_(0, starting=9), ago=(-ahead,) * 9, state=state()), NOW).state
    assert decided is not None
    assert decided.mode == mode


@pytest.mark.parametrize(("wanted_spot", "expected"), [(0, 3), (2, 3), (9, 9), (19, 19)])
def test_a_storm_is_the_whole_slice_within_a_window(wanted_spot: int, expected: int) -> None:
    assert storm_threshold(Storm(), wanted_spot) == expected


def test_a_storm_of_zero_interruptions_never_comes() -> None:
    told = facts(slice_(0, starting=9), ago=(1.0,) * 30, state=state(), capacity={"storm": {"interruptions": 0}})
    decided = decide_capacity(told, NOW).state
    assert decided is not None
    assert decided.mode == "Fallback"


def test_looking_again_at_the_same_world_says_the_same() -> None:
    told = facts(slice_(6, pending=3, **LONG_PENDING), state=state(proven=6))
    first = decide_capacity(told, NOW)
    again = decide_capacity(replace(told, state=first.state, on_demand=slice_(1, starting=3)), NOW + 7)
    assert (again.split, again.state, again.message) == (first.split, first.state, first.message)


def test_the_memory_survives_its_way_through_status() -> None:
    first = decide_capacity(facts(slice_(7, starting=2), ago=(5.0, 5.0), state=state()), NOW + 0.4)
    status = write_capacity(first)
    assert read_capacity(CapacityStatus.model_validate(status.model_dump(by_alias=True))) == first.state
    assert (status.mode, status.reason, status.extra_on_demand) == ("Fallback", "SpotLost", 2)


def test_a_status_that_nobody_wrote_remembers_nothing() -> None:
    assert read_capacity(CapacityStatus()) is None


def after(decided: CapacityDecision) -> CapacityState:
    assert decided.state is not None
    return decided.state


def test_a_lost_status_does_not_take_a_pod_that_leaves_for_a_stand_in() -> None:
    assert after(decide_capacity(facts(slice_(9), slice_(3, leaving=1)), NOW)).extra_on_demand == 2


def test_a_storm_holds_from_its_last_interruption_on_and_is_never_cut_short() -> None:
    told = facts(slice_(9), ago=(7.0, *range(100, 900, 100)), state=state(), capacity={"storm": {"interruptions": 6}})
    assert after(decide_capacity(told, NOW)).storm_until == NOW - 7 + 1800
    longer = replace(told, state=state("Storm", 9, storm_until=NOW + 1799))
    assert after(decide_capacity(longer, NOW)).storm_until == NOW + 1799


def test_a_storm_in_a_full_tier_begins_with_one_pod_beyond_max_replicas() -> None:
    decided = decide_capacity(facts(slice_(9), max_replicas=10, ago=(5.0,) * 9, state=state()), NOW)
    assert (decided.split, after(decided).mode) == (Split(2, 9), "Storm")


def test_what_a_storm_sent_away_is_no_loss_when_it_is_over() -> None:
    before = state("Storm", 9, storm_until=NOW + 600)
    assert after(decide_capacity(facts(slice_(9), slice_(10), state=before), NOW)).proven_spot == 0


def test_only_growth_after_a_return_is_a_reversal() -> None:
    rest = state()
    assert after(decide_capacity(facts(slice_(9), state=rest), NOW)).last_reversal is None
    wave = facts(slice_(6, starting=3), ago=(5.0,) * 3, state=state("Fallback", 2, last_reversal=NOW - 300))
    assert after(decide_capacity(wave, NOW)).last_reversal == NOW - 300
    again = replace(wave, state=state("Returning", 2, last_reversal=NOW - 300, last_return=NOW - 200))
    assert after(decide_capacity(again, NOW)).last_reversal == NOW


def test_after_a_loss_spot_must_be_ready_long_enough_anew() -> None:
    before = state("Fallback", 2, enough_since=NOW - 299)
    lost = after(decide_capacity(facts(slice_(6, starting=3), ago=(5.0,) * 3, state=before), NOW))
    assert (lost.extra_on_demand, lost.enough_since) == (3, None)
    storm = after(decide_capacity(facts(slice_(9), state=replace(before, storm_until=NOW + 1)), NOW))
    assert storm.enough_since is None


def test_a_mode_is_told_since_it_began() -> None:
    returning = after(decide_capacity(facts(slice_(9), state=state("Fallback", 3, enough_since=NOW - 300)), NOW))
    assert (returning.mode, returning.since, returning.last_reversal) == ("Returning", NOW, NOW)
    further = after(decide_capacity(facts(slice_(9), state=returning), NOW + 30))
    assert (further.mode, further.extra_on_demand) == ("Returning", 1)
    assert (further.since, further.last_reversal, further.last_return) == (NOW, NOW, NOW + 30)


def test_pods_that_wait_are_the_reason_where_as_many_were_lost() -> None:
    told = facts(slice_(7, pending=2, **LONG_PENDING), ago=(90.0, 90.0), state=state("Fallback", 2))
    assert decide_capacity(told, NOW).reason == "SpotPending"
