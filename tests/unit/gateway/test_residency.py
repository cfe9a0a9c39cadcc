"""Who is believed about one pod: the table that offers, the agent that withdraws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_runtime import wire
from npc_runtime.gateway.residency import AgentWord, hear, lose, see_table, usable_names

NONE: frozenset[str] = frozenset()
A, B = "vampire--aaaaaaaaaaaa", "vampire--bbbbbbbbbbbb"
NAMES = st.frozensets(st.sampled_from([A, B, "zombie--cccccccccccc"]))


def said(*resident: str, accepting: bool = True, revision: int = 1, boot: str = "boot") -> wire.Routable:
    return wire.Routable(boot_id=boot, revision=revision, accepting=accepting, resident=resident)


def names(*values: str) -> frozenset[str]:
    return frozenset(values)


def test_without_an_agents_word_the_table_counts() -> None:
    assert usable_names(names(A), None, NONE) == {A}


def test_a_table_without_residency_leaves_it_to_the_agent() -> None:
    assert usable_names(None, None, NONE) == NONE
    assert usable_names(None, hear(None, said(A), None), NONE) == {A}


def test_a_table_without_residency_falls_back_to_the_last_that_knew() -> None:
    assert usable_names(None, None, names(A)) == {A}
    assert usable_names(None, hear(None, said(B), None), names(A)) == {B}


def test_an_agent_withdraws_but_never_adds() -> None:
    word = hear(None, said(B), names(A))
    assert usable_names(names(A), word, NONE) == NONE


def test_a_pod_that_does_not_accept_may_not_be_asked_whatever_it_has() -> None:
    word = hear(None, said(A, accepting=False), names(A))
    assert usable_names(names(A), word, NONE) == NONE
    assert usable_names(None, word, names(A)) == NONE


def test_a_name_offered_by_a_later_table_is_usable_before_the_agent_lists_it() -> None:
    word = see_table(hear(None, said(A), names(A)), names(A, B))
    assert usable_names(names(A, B), word, NONE) == {A, B}


def test_a_withdrawn_name_stays_so_under_tables_that_still_offer_it() -> None:
    word: AgentWord | None = hear(None, said(), names(A))
    for _ in range(3):
        word = see_table(word, names(A))
        assert usable_names(names(A), word, NONE) == NONE


def test_a_withdrawn_name_is_usable_again_once_the_agent_lists_it() -> None:
    word = hear(hear(None, said(), names(A)), said(A, revision=2), names(A))
    assert usable_names(names(A), word, NONE) == {A}


def test_a_withdrawn_name_is_usable_again_once_the_operator_took_it_back_and_offers_it_anew() -> None:
    unknown = see_table(hear(None, said(), names(A)), NONE)
    assert usable_names(names(A), see_table(unknown, names(A)), NONE) == {A}


def test_an_older_revision_of_the_same_boot_changes_nothing() -> None:
    word = hear(None, said(A, revision=5), names(A))
    assert hear(word, said(accepting=False, revision=4), names(A)) == word


def test_an_older_revision_of_another_boot_counts() -> None:
    word = hear(None, said(A, revision=5), names(A))
    assert usable_names(names(A), hear(word, said(revision=1, boot="new"), names(A)), NONE) == NONE


def test_lost_contact_keeps_what_was_said_until_the_next_table() -> None:
    word = lose(hear(None, said(accepting=False), names(A)))
    assert usable_names(names(A), word, NONE) == NONE
    assert usable_names(names(A), see_table(word, names(A)), NONE) == {A}
    assert lose(None) is None


def test_lost_contact_withdraws_nothing() -> None:
    word = lose(hear(None, said(A), names(A)))
    assert usable_names(names(A), word, NONE) == {A}


@given(offered=NAMES, resident=NAMES, accepting=st.booleans())
def test_what_is_usable_is_always_offered_and_right_after_a_word_always_resident(
    offered: frozenset[str], resident: frozenset[str], accepting: bool
) -> None:
    usable = usable_names(offered, hear(None, said(*resident, accepting=accepting), offered), NONE)
    assert usable == (offered & resident if accepting else NONE)


@given(
    steps=st.lists(
        st.one_of(st.tuples(st.just("table"), NAMES), st.tuples(st.just("agent"), NAMES), st.just(("lost", NONE))),
        max_size=12,
    )
)
def test_nothing_is_ever_usable_that_the_present_table_does_not_offer(
    steps: list[tuple[str, frozenset[str]]],
) -> None:
    offered: frozenset[str] = NONE
    word: AgentWord | None = None
    for revision, (kind, value) in enumerate(steps):
        if kind == "table":
            offered = value
            word = see_table(word, offered)
        elif kind == "agent":
            word = hear(word, said(*value, revision=revision), offered)
        else:
            word = lose(word)
        assert usable_names(offered, word, NONE) <= offered


@pytest.mark.parametrize("accepting", [True, False])
def test_hearing_again_restores_the_contact(accepting: bool) -> None:
    word = lose(hear(None, said(A, accepting=accepting), names(A)))
    assert word is not None
    assert not word.in_contact
    assert hear(word, said(A, accepting=accepting), names(A)).in_contact
