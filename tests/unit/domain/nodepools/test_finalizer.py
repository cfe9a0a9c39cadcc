"""What is noted on a tier, and how long its deletion waits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_operator.domain.nodepools import (
    HEADROOM,
    KARPENTER,
    REMOVAL_SECONDS,
    Hold,
    Place,
    decide_hold,
    format_places,
    parse_places,
)

AWS = Place("autoscaling", "eu-west-1", "games")
OTHER = Place("autoscaling", "eu-central-1", "games")
PLACES = [KARPENTER, HEADROOM, AWS, OTHER]
NOW = 10_000.0


def hold(*places: Place, finalizer: bool = True, abandoned: tuple[Place, ...] = ()) -> Hold:
    return Hold(frozenset(places), finalizer, abandoned)


@pytest.mark.parametrize(
    ("recorded", "wanted", "empty", "after"),
    [
        ([], [KARPENTER], [], hold(KARPENTER)),
        ([KARPENTER], [KARPENTER], [KARPENTER], hold(KARPENTER)),
        ([KARPENTER], [AWS], [], hold(KARPENTER, AWS)),
        ([KARPENTER, AWS], [AWS], [KARPENTER], hold(AWS)),
        ([AWS, OTHER], [OTHER], [], hold(AWS, OTHER)),
        ([HEADROOM], [HEADROOM], [], hold(HEADROOM, finalizer=False)),
        ([KARPENTER, HEADROOM], [HEADROOM], [KARPENTER], hold(HEADROOM, finalizer=False)),
        ([KARPENTER], [], [KARPENTER], hold(finalizer=False)),
    ],
)
def test_a_place_stays_noted_until_it_was_seen_empty(recorded: Any, wanted: Any, empty: Any, after: Hold) -> None:
    assert decide_hold(recorded=recorded, wanted=wanted, empty=empty, deleting_since=None, now=NOW) == after


@pytest.mark.parametrize(
    ("recorded", "empty", "seconds", "after"),
    [
        ([KARPENTER], [], 0, hold(KARPENTER)),
        ([KARPENTER, AWS], [KARPENTER], 10, hold(AWS)),
        ([KARPENTER], [KARPENTER], 0, hold(finalizer=False)),
        ([HEADROOM], [], 0, hold(finalizer=False)),
        ([AWS], [], REMOVAL_SECONDS - 1, hold(AWS)),
        ([AWS], [], REMOVAL_SECONDS, hold(finalizer=False, abandoned=(AWS,))),
        ([AWS], [AWS], REMOVAL_SECONDS, hold(finalizer=False)),
    ],
)
def test_a_deletion_waits_for_what_is_outside_and_not_for_ever(
    recorded: Any, empty: Any, seconds: float, after: Hold
) -> None:
    assert decide_hold(recorded=recorded, wanted=[], empty=empty, deleting_since=NOW - seconds, now=NOW) == after


@given(st.frozensets(st.sampled_from(PLACES)), st.frozensets(st.sampled_from(PLACES)))
def test_nothing_that_is_wanted_is_ever_forgotten(wanted: frozenset[Place], empty: frozenset[Place]) -> None:
    after = decide_hold(recorded=[], wanted=wanted, empty=empty, deleting_since=None, now=NOW)
    assert after.places == wanted
    assert after.finalizer == any(place.outside for place in wanted)


@given(st.frozensets(st.sampled_from(PLACES)))
def test_the_note_says_what_was_written(places: frozenset[Place]) -> None:
    assert parse_places(format_places(places)) == places


@pytest.mark.parametrize("text", ["", "{", "7", '{"a":1}', '["elsewhere"]', '["autoscaling/eu-west-1"]', "[[1]]"])
def test_what_somebody_else_wrote_there_is_left_out(text: str) -> None:
    assert parse_places(text) == frozenset()
