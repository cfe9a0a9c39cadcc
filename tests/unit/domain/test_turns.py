"""Whose candidates may have traffic: more important first, then who waits longest, and nobody is put back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_operator.domain.conditions import rfc3339
from npc_operator.domain.facts import Adapter
from npc_operator.domain.placement import rank_importance
from npc_operator.domain.turns import TurnClaim, claim_turn, pick_turns
from npc_operator.loop.store import Store
from npc_operator.reconcilers.turnbook import TurnBook
from tests.support.builders import NAMESPACE, adapter_fact, digest
from tests.support.fake_clock import FakeClock

OLD, NEW = digest("old"), digest("new")
NOW = 1_790_000_000.0


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
        assert names <= pick_turns(claims, most=count, now=NOW)
        assert len(pick_turns(claims, most=count, now=NOW)) == count


def test_who_has_a_turn_keeps_it_although_a_more_important_one_waits() -> None:
    claims = [claim("bat", "Ambient", holds=True), claim("king", "Critical")]
    assert pick_turns(claims, most=1, now=NOW) == {"bat"}
    assert pick_turns(claims, most=2, now=NOW) == {"bat", "king"}


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
    picked = pick_turns(claims, most=most, now=NOW)
    shuffled = list(claims)
    seed.shuffle(shuffled)
    assert pick_turns(shuffled, most=most, now=NOW) == picked
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
    assert book.ask(voice("vampire", "Loading"), most=1, now=NOW).granted
    book.note(voice("vampire", "Checking"), NOW)
    assert not book.ask(voice("king", "Loading", importance="Critical"), most=1, now=NOW).granted
    book.note(voice("king", "Waiting", importance="Critical"), NOW)
    assert book.ask(voice("vampire", "Checking"), most=1, now=NOW).granted
    book.note(voice("vampire"), NOW)
    assert not book.ask(voice("ghoul", "Waiting"), most=1, now=NOW).granted, "the more important one waits"
    assert book.ask(voice("king", "Waiting", importance="Critical"), most=1, now=NOW).granted
    book.forget(NAMESPACE, "king")
    assert book.ask(voice("ghoul", "Waiting"), most=1, now=NOW).granted


def test_a_new_leader_knows_who_has_a_turn_from_the_statuses() -> None:
    store = Store(FakeClock())
    store.put(Adapter, NAMESPACE, "vampire", voice("vampire", "Watching", "2026-11-01T00:00:00Z"))
    assert not TurnBook(store).ask(voice("king", "Loading", importance="Critical"), most=1, now=NOW).granted


def moved_at_once(name: str, at: float, *, by: str = "rollout.strategy", after: str = "") -> Adapter:
    """A voice whose traffic moved; `after`: the reason of a newer decision."""
    entry = {"time": rfc3339(at), "digest": NEW, "uri": "s3://new", "reason": "Moved", "by": by}
    newer = [entry | {"reason": after, "by": "rollout.steps"}] if after else []
    status = {"tier": "gold", "stable": {"digest": NEW, "uri": "s3://new"}, "history": [*newer, entry]}
    return adapter_fact(
        name, digests={"gold": NEW}, status={"variants": [status]}, spec={"rollout": {"stepSeconds": 60}}
    )


@pytest.mark.parametrize(
    ("fact", "keeps"),
    [
        (moved_at_once("bat", NOW), True),
        (moved_at_once("bat", NOW - 59), True),
        (moved_at_once("bat", NOW - 60), False),
        (moved_at_once("bat", NOW + 1), True),
        (moved_at_once("bat", NOW + 3600), False),
        (moved_at_once("bat", NOW, by="rollout.steps"), False),
        (moved_at_once("bat", NOW, after="Moved"), False),
        (moved_at_once("bat", NOW, after="RolledBack"), True),
    ],
    ids=[
        "now",
        "a step ago",
        "longer ago",
        "by a clock ahead",
        "by a wrong clock",
        "in steps",
        "in steps since",
        "kept",
    ],
)
def test_who_moved_at_once_keeps_the_turn_for_as_long_as_a_step(fact: Adapter, keeps: bool) -> None:
    store = Store(FakeClock())
    store.put(Adapter, NAMESPACE, "bat", fact)
    store.put(Adapter, NAMESPACE, "king", voice("king", "Loading"))
    turn = TurnBook(store).ask(voice("king", "Loading"), most=1, now=NOW)
    assert turn.granted != keeps
    if keeps:
        assert turn.free_after is not None
        assert 0 < turn.free_after <= 62
        assert "bat (moved at once at 20" in turn.holders[0]


def test_who_moved_at_once_may_do_so_again_in_its_own_turn() -> None:
    store = Store(FakeClock())
    store.put(Adapter, NAMESPACE, "bat", moved_at_once("bat", NOW))
    assert TurnBook(store).ask(moved_at_once("bat", NOW), most=1, now=NOW + 30).granted


def test_holders_of_turns_are_named_with_the_time_since_when_players_hear_their_candidates() -> None:
    steps = [
        {
            "time": f"2026-11-0{day}T00:00:00Z",
            "digest": NEW,
            "uri": "s3://new",
            "reason": "Stepped",
            "fromPercent": before,
        }
        for day, before in ((3, 10), (2, 0), (1, 0))
    ]
    steps[2]["digest"] = OLD
    status = {
        "tier": "gold",
        "stable": {"digest": OLD, "uri": "s3://old"},
        "candidate": {"digest": NEW, "uri": "s3://new"},
        "rollout": {"phase": "Watching", "since": "2026-11-03T00:00:00Z", "percent": 25},
        "history": steps,
    }
    store = Store(FakeClock())
    store.put(Adapter, NAMESPACE, "bat", adapter_fact("bat", digests={"gold": NEW}, status={"variants": [status]}))
    store.put(Adapter, NAMESPACE, "ghoul", voice("ghoul", "Checking", importance="Critical"))
    turn = TurnBook(store).ask(voice("king", "Loading"), most=2, now=NOW)
    assert turn.holders == ("ghoul (about to begin)", "bat (since 2026-11-02T00:00:00Z)")
    assert turn.free_after is None, "a rollout in steps ends when it ends"
