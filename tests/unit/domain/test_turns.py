"""Whose candidates may have traffic: more important first, then who waits longest, and nobody is put back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_operator.domain.facts import Adapter
from npc_operator.domain.placement import rank_importance
from npc_operator.domain.turns import TurnClaim, claim_turn, pick_turns
from npc_operator.loop.store import Store
from npc_operator.reconcilers.turnbook import TurnBook
from tests.support.builders import NAMESPACE, adapter_fact, digest
from tests.support.fake_clock import FakeClock

OLD, NEW = digest("old"), digest("new")


def claim(name: str, importance: str = "Normal", since: str = "", *, holds: bool = False) -> TurnClaim:
    return TurnClaim(rank_importance(importance), since, name, holds=holds, waits=not holds)


def test_more_important_ones_go_first_then_who_waits_longest_then_by_name() -> None:
    claims = [
        claim("bat", "Ambient", "2026-01-01T00:00:00Z"),
        claim("zombie", since="2026-01-02T00:00:00Z"),
        claim("vampire", since="2026-01-03T00:00:00Z"),
        claim("ghoul", since="2026-01-03T00:00:00Z"),
        claim("king", "Critical", "2026-01-09T00:00:00Z"),
    ]
    for count, names in enumerate(({"king"}, {"zombie"}, {"ghoul"}, {"vampire"}, {"bat"}), start=1):
        assert names <= pick_turns(claims, most=count)
        assert len(pick_turns(claims, most=count)) == count


def test_who_has_a_turn_keeps_it_although_a_more_important_one_waits() -> None:
    claims = [claim("bat", "Ambient", holds=True), claim("king", "Critical")]
    assert pick_turns(claims, most=1) == {"bat"}
    assert pick_turns(claims, most=2) == {"bat", "king"}


@given(
    claims=st.lists(
        st.builds(
            TurnClaim,
            importance=st.integers(0, 2),
            since=st.sampled_from(("", "1", "2")),
            name=st.text("abc", min_size=1, max_size=3),
            holds=st.booleans(),
            waits=st.booleans(),
        ),
        unique_by=lambda one: one.name,
    ),
    most=st.integers(1, 6),
    seed=st.randoms(),
)
def test_turns_do_not_depend_on_who_asks_and_are_never_too_many(claims: Any, most: int, seed: Any) -> None:
    picked = pick_turns(claims, most=most)
    shuffled = list(claims)
    seed.shuffle(shuffled)
    assert pick_turns(shuffled, most=most) == picked
    holding = {one.name for one in claims if one.holds}
    waiting = {one.name for one in claims if one.waits}
    assert holding <= picked <= holding | waiting
    assert len(picked) <= max(most, len(holding))
    assert len(picked) >= min(most, len(holding | waiting)), "no turn is left over while somebody waits"


def voice(name: str, phase: str | None = None, since: str = "", **spec: Any) -> Adapter:
    status: dict[str, Any] = {"tier": "gold", "stable": {"digest": OLD, "uri": "s3://old"}}
    if phase is not None:
        status |= {"candidate": {"digest": NEW, "uri": "s3://new"}, "rollout": {"phase": phase, "since": since}}
    return adapter_fact(name, digests={"gold": NEW}, status={"variants": [status]}, spec=spec)


@pytest.mark.parametrize(
    ("phase", "since", "holds", "waits"),
    [
        (None, "", False, False),
        ("Loading", "", False, False),
        ("Waiting", "", False, True),
        ("Gating", "", True, False),
        ("Checking", "", True, False),
        ("Holding", "", False, False),
        ("Holding", "2026-11-01T00:00:00Z", True, False),
        ("Watching", "2026-11-01T00:00:00Z", True, False),
    ],
)
def test_what_a_status_claims(phase: str | None, since: str, holds: bool, waits: bool) -> None:
    found = claim_turn(voice("vampire", phase, since))
    assert (found.holds, found.waits) == (holds, waits)


def test_a_turn_that_was_just_given_is_not_given_again_before_the_watch_tells_of_it() -> None:
    store = Store(FakeClock())
    for name in ("ghoul", "king", "vampire"):
        store.put(Adapter, NAMESPACE, name, voice(name, "Loading"))
    book = TurnBook(store)
    assert book.may_move(voice("vampire", "Loading"), most=1)
    book.note(voice("vampire", "Checking"))
    assert not book.may_move(voice("king", "Loading", importance="Critical"), most=1)
    book.note(voice("king", "Waiting", importance="Critical"))
    assert book.may_move(voice("vampire", "Checking"), most=1)
    book.note(voice("vampire"))
    assert not book.may_move(voice("ghoul", "Waiting"), most=1), "the more important one waits"
    assert book.may_move(voice("king", "Waiting", importance="Critical"), most=1)
    book.forget(NAMESPACE, "king")
    assert book.may_move(voice("ghoul", "Waiting"), most=1)


def test_a_new_leader_knows_who_has_a_turn_from_the_statuses() -> None:
    store = Store(FakeClock())
    store.put(Adapter, NAMESPACE, "vampire", voice("vampire", "Watching", "2026-11-01T00:00:00Z"))
    assert not TurnBook(store).may_move(voice("king", "Loading", importance="Critical"), most=1)
