"""The made-up games of the row `analysis`: they are what they say, and judged as they should be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hack.bench.analysis_world import Game, play
from npc_operator.domain.reasons import CANDIDATE_ERRORS, CANDIDATE_SLOW

MANY = Game(npcs=200, lines_per_second=10.0)
BAD = replace(MANY, candidate_bad=0.2)
SLOW = replace(MANY, times_slower=2.0)


def test_a_candidate_as_good_as_stable_gets_through_all_steps() -> None:
    played = [play(MANY, seed) for seed in range(60)]
    assert [one.reason for one in played] == [""] * 60
    assert all(one.looks == one.seconds >= 4 * MANY.step_seconds for one in played), "a look at every second"
    assert all(one.requests >= 4 * 50 for one in played)


def test_a_candidate_that_fails_every_fifth_time_is_caught_within_100_answers() -> None:
    played = [play(BAD, seed, within=100) for seed in range(100)]
    caught = [one for one in played if one.reason == CANDIDATE_ERRORS]
    assert len(caught) >= 98
    assert all(one.requests <= 100 for one in caught)


def test_a_candidate_that_takes_twice_as_long_is_caught_within_200_answers() -> None:
    played = [play(SLOW, seed, within=200) for seed in range(80)]
    assert sum(one.reason == CANDIDATE_SLOW for one in played) >= 74


@pytest.mark.parametrize("game", [MANY, BAD])
def test_the_same_seed_plays_the_same_game(game: Game) -> None:
    assert play(game, 7) == play(game, 7)
    assert play(game, 7) != play(game, 8)


def test_one_character_on_a_side_is_not_taken_for_the_adapter() -> None:
    """Eight characters that differ much, one of them the whole first bucket."""
    game = Game(npcs=8, lines_per_second=2.0, npc_spread=0.25, step_seconds=120)
    assert [play(game, seed).reason for seed in range(20)] == [""] * 20
