"""What a pod holds: a report costs what changed in it, and what is handed on is never out of date."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_operator.domain.holdings import NOTHING, Held, Holdings, follow, hold
from npc_runtime.wire import AdapterPhase
from tests.support.builders import digest, report

A, B = report("a", digest("a")), report("b", digest("b"))
LOADING = replace(A, phase=AdapterPhase.LOADING)

NAMES = ("x--1", "x--2", "y--1", "z--1")
HELD = st.builds(
    Held,
    served_name=st.sampled_from(NAMES),
    archetype=st.sampled_from(["x", "y", "z"]),
    digest=st.just("d"),
    phase=st.sampled_from([AdapterPhase.LOADING, AdapterPhase.RESIDENT, AdapterPhase.DRAINING]),
    done_bytes=st.integers(0, 1),
)
REPORTS = st.lists(st.tuples(st.lists(HELD, max_size=3), st.sets(st.sampled_from(NAMES), max_size=2)), max_size=6)


def states(reports: list[tuple[list[Held], set[str]]]) -> list[Holdings]:
    found = [NOTHING]
    for changed, removed in reports:
        found.append(follow(found[-1], changed, removed))
    return found


@given(REPORTS)
def test_what_is_handed_on_is_what_would_be_found_anew(reports: list[tuple[list[Held], set[str]]]) -> None:
    for state in states(reports):
        entries = state.entries.values()
        assert state.resident == {held.served_name for held in entries if held.phase is AdapterPhase.RESIDENT}
        assert state == hold(entries)
        for archetype in ("x", "y", "z"):
            assert sorted(held.served_name for held in state.of(archetype)) == sorted(
                held.served_name for held in entries if held.archetype == archetype
            )


@given(REPORTS)
def test_the_difference_of_any_two_states_is_the_true_one(reports: list[tuple[list[Held], set[str]]]) -> None:
    found = states(reports)
    for old in found:
        for new in found:
            names = old.entries.keys() | new.entries.keys()
            differing = {name for name in names if old.entries.get(name) != new.entries.get(name)}
            assert set(new.since(old)) == differing


def test_a_repeated_word_is_no_news() -> None:
    state = hold([A, B])
    assert follow(state, [replace(A)], ["never there"]) is state


def test_what_did_not_change_stays_the_same_object() -> None:
    before = hold([A, B])
    after = follow(before, [replace(A, done_bytes=1)], ())
    assert after != before
    assert after.entries[B.served_name] is before.entries[B.served_name]
    assert after.resident is before.resident
    assert after.by_archetype is before.by_archetype


@pytest.mark.parametrize("removed", [(), (A.served_name,)])
def test_an_entry_that_is_said_is_there_even_if_its_name_is_also_removed(removed: tuple[str, ...]) -> None:
    assert follow(hold([A]), [LOADING], removed).entries == {A.served_name: LOADING}


def test_a_step_does_not_keep_the_state_before_it_alive() -> None:
    state = hold([A])
    after = follow(state, [LOADING], ())
    assert after.step is not None
    assert after.step.before is state.mark
    assert not hasattr(after.step.before, "__dict__")
