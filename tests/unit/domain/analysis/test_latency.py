"""First tokens in pairs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_operator.domain.analysis.betting import threshold
from npc_operator.domain.analysis.latency import log_slower, tolerated

ALPHA = 0.0025
DEFAULT = 115


def slow(pairs: int, slower: int, *, npcs: int = 20, percent: int = DEFAULT) -> bool:
    return log_slower(pairs, slower, npcs=npcs, max_slower_percent=percent) >= threshold(ALPHA)


@pytest.mark.parametrize(
    ("pairs", "slower", "npcs", "expected"),
    [
        (0, 0, 20, False),
        (3, 3, 20, False),
        (10, 10, 20, False),
        (11, 11, 20, True),
        (10, 10, 1, False),
        (60, 60, 1, True),  # with one character on a side it takes longer
        (140, 108, 20, True),  # what a doubled time looks like
        (140, 108, 1, False),
        (140, 70, 20, False),
        (1_000, 500, 20, False),
        (1_000, 600, 20, True),
        (10**9, 5 * 10**8, 10**6, False),
        (10**9, 51 * 10**7, 10**6, True),
    ],
)
def test_a_candidate_is_slow_where_it_loses_too_many_pairs(pairs: int, slower: int, npcs: int, expected: bool) -> None:
    assert slow(pairs, slower, npcs=npcs) is expected


def test_a_coin_may_fall_as_it_likes_between_many_characters() -> None:
    assert tolerated(20, DEFAULT) == 0.5
    assert tolerated(10**6, 100) == pytest.approx(0.5, abs=0.001)


def test_few_characters_are_given_room_for_their_own_differences() -> None:
    room = [tolerated(npcs, DEFAULT) for npcs in (1, 2, 3, 5, 8, 14, 20)]
    assert room == sorted(room, reverse=True)
    assert 0.65 < room[0] < 0.75
    assert tolerated(0, DEFAULT) == tolerated(1, DEFAULT), "no gateway told: as if it were one"


def test_what_the_spec_allows_already_is_not_allowed_twice() -> None:
    assert tolerated(1, 150) < tolerated(1, 115) < tolerated(1, 100)
    assert tolerated(1, 1000) == 0.5


@given(st.integers(1, 3_000), st.integers(0, 60), st.integers(100, 1000), st.data())
def test_a_pair_lost_instead_of_won_never_makes_a_candidate_faster(
    pairs: int, npcs: int, percent: int, data: st.DataObject
) -> None:
    slower = data.draw(st.integers(0, pairs - 1))
    before = log_slower(pairs, slower, npcs=npcs, max_slower_percent=percent)
    assert log_slower(pairs, slower + 1, npcs=npcs, max_slower_percent=percent) >= before - 1e-9


@given(st.integers(0, 3_000), st.integers(0, 60), st.data())
def test_more_characters_never_excuse_a_candidate(pairs: int, npcs: int, data: st.DataObject) -> None:
    slower = data.draw(st.integers(0, pairs))
    assert slow(pairs, slower, npcs=npcs + 1) or not slow(pairs, slower, npcs=npcs)
