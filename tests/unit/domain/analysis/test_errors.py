"""A candidate's bad answers beside stable's."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from npc_operator.domain.analysis.betting import log_likelihood, threshold
from npc_operator.domain.analysis.errors import (
    TOLERATED,
    WORSE,
    likeliest_odds,
    log_worse,
    log_worse_than,
)
from npc_operator.domain.analysis.evidence import Side

ALPHA = 0.005


def side(bad: int, requests: int) -> Side:
    return Side(requests=requests, errors=bad)


def worse(stable: tuple[int, int], candidate: tuple[int, int]) -> bool:
    return log_worse(side(*stable), side(*candidate)) >= threshold(ALPHA)


@pytest.mark.parametrize(
    ("stable", "candidate", "expected"),
    [
        # (bad, all) of each
        ((0, 0), (0, 0), False),
        ((0, 0), (50, 50), False),  # nothing to compare with: the absolute limit's case
        ((5, 500), (0, 0), False),
        ((0, 500), (1, 3), False),
        ((0, 500), (3, 3), True),
        ((5, 500), (3, 60), False),
        ((7, 700), (14, 70), True),  # 20% against 1%
        ((100, 500), (20, 100), False),  # both are bad
        ((100, 500), (60, 100), True),
        ((0, 100_000), (100, 10_000), False),  # 1%: a hundred times worse, and tolerated
        ((0, 100_000), (400, 10_000), True),
        ((700, 700), (70, 70), False),  # nothing works
        ((10**7, 10**9), (10**7, 10**9), False),
        ((10**7, 10**9), (4 * 10**7, 10**9), True),
    ],
)
def test_a_candidate_is_worse_where_chance_and_its_characters_cannot_explain_it(
    stable: tuple[int, int], candidate: tuple[int, int], expected: bool
) -> None:
    assert worse(stable, candidate) is expected


counts = st.tuples(st.integers(0, 300), st.integers(0, 3_000)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(counts, counts)
def test_a_bad_answer_in_place_of_a_good_one_never_clears_a_candidate(
    stable: tuple[int, int], candidate: tuple[int, int]
) -> None:
    bad, total = candidate
    assume(bad < total)
    assert worse(stable, (bad + 1, total)) or not worse(stable, candidate)


@given(counts, counts)
def test_a_bad_answer_of_stable_in_place_of_a_good_one_never_accuses_a_candidate(
    stable: tuple[int, int], candidate: tuple[int, int]
) -> None:
    bad, total = stable
    assume(bad < total)
    assert worse(stable, candidate) or not worse((bad + 1, total), candidate)


@given(counts, counts)
def test_a_good_answer_more_never_accuses_a_candidate(stable: tuple[int, int], candidate: tuple[int, int]) -> None:
    bad, total = candidate
    assert worse(stable, candidate) or not worse(stable, (bad, total + 1))


@given(*(st.integers(0, 10**9) for _ in range(4)))
def test_any_counts_give_a_number(stable_bad: int, stable_good: int, bad: int, good: int) -> None:
    found = log_worse(side(stable_bad, stable_bad + stable_good), side(bad, bad + good))
    assert 0.0 <= found < math.inf


@given(*(st.integers(1, 10**6) for _ in range(4)))
def test_the_claim_is_given_its_best_explanation(stable_bad: int, stable_good: int, bad: int, good: int) -> None:
    def explained(odds: float) -> float:
        return log_likelihood(stable_bad, stable_good, odds) + log_likelihood(bad, good, WORSE * odds)

    best = likeliest_odds(stable_bad, stable_good, bad, good)
    slack = 1e-9 * (stable_bad + stable_good + bad + good)
    assert explained(best) >= max(explained(best * 1.01), explained(best / 1.01)) - slack


@pytest.mark.parametrize("stable_rate", [0.001, 0.01, 0.1, 0.5])
def test_nobody_wins_by_betting_against_a_candidate_that_is_as_bad_as_allowed(stable_rate: float) -> None:
    """The expected evidence, over every outcome of 40 answers of stable and 15 of the candidate."""
    odds = WORSE * stable_rate / (1.0 - stable_rate)
    rate = odds / (1.0 + odds)
    won = 0.0
    for stable_bad in range(41):
        for bad in range(16):
            found = log_worse_than(stable_bad, 40, bad, 15)
            chance = _chance(stable_bad, 40, stable_rate) * _chance(bad, 15, rate)
            won += chance * math.exp(found) if found > 0.0 else 0.0
    assert won <= 1.0


def test_looked_at_after_every_answer_it_stays_as_right_as_it_promises() -> None:
    """A candidate at the edge of the claim, five to one beside stable, 400 rollouts of 300 answers. At 5% chance would
    be wrong 20 times in 400; the evidence at 5% was seen to be wrong far less."""
    draw = random.Random(4)
    wrong = 0
    for _ in range(400):
        stable_bad = stable_all = bad = 0
        odds = WORSE * 0.05 / 0.95
        for total in range(1, 301):
            bad += draw.random() < odds / (1.0 + odds)
            stable_bad += sum(draw.random() < 0.05 for _ in range(5))
            stable_all += 5
            if log_worse_than(stable_bad, stable_all, bad, total) >= threshold(0.05):
                wrong += 1
                break
    assert wrong <= 20


def test_nothing_below_the_tolerated_share_is_taken_back() -> None:
    assert log_worse(side(0, 10**9), side(int(TOLERATED * 10**6), 10**6)) == 0.0


def _chance(hits: int, trials: int, rate: float) -> float:
    return math.comb(trials, hits) * rate**hits * (1.0 - rate) ** (trials - hits)
