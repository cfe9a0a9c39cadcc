"""Evidence against a rate: what it may never do under a true claim, computed to the end and not sampled."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_operator.domain.analysis.betting import UNIFORM, Mixture, log_evidence, threshold

MIXTURES = (UNIFORM, Mixture(6.0, 1.0), Mixture(1.0, 3.0))
limits = st.floats(0.001, 0.5)


def chance_of_ever_giving_up(rate: float, gives_up: Callable[[int, int], bool], *, looks: int = 300) -> float:
    """Exactly, with a look after every answer: the chances of all counts that have not yet, carried forward."""
    given_up, alive = 0.0, {0: 1.0}
    for trials in range(1, looks + 1):
        after: dict[int, float] = {}
        for hits, chance in alive.items():
            after[hits] = after.get(hits, 0.0) + chance * (1.0 - rate)
            after[hits + 1] = after.get(hits + 1, 0.0) + chance * rate
        given_up += sum(chance for hits, chance in after.items() if gives_up(hits, trials))
        alive = {hits: chance for hits, chance in after.items() if not gives_up(hits, trials)}
    return given_up


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("limit", [0.01, 0.05, 0.5, 0.7])
@pytest.mark.parametrize("alpha", [0.05, 0.005])
def test_a_true_claim_is_ever_given_up_with_less_than_the_probability_asked_for(
    mixture: Mixture, limit: float, alpha: float
) -> None:
    def gives_up(hits: int, trials: int) -> bool:
        return log_evidence(hits, trials, limit, mixture) >= threshold(alpha)

    for rate in (limit, limit * 0.8):
        assert chance_of_ever_giving_up(rate, gives_up) <= alpha


def test_a_test_made_for_one_look_does_not_keep_that_promise() -> None:
    """Which is why there is another one here, and shows that the bar above can be missed."""

    def gives_up(hits: int, trials: int) -> bool:
        return hits - trials * 0.05 > 2.576 * math.sqrt(trials * 0.05 * 0.95)  # one-sided, 0.5%

    assert chance_of_ever_giving_up(0.05, gives_up) > 10 * 0.005


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("trials", [1, 7, 60])
def test_nobody_wins_by_betting_against_a_true_claim(mixture: Mixture, trials: int) -> None:
    limit = 0.2
    won = sum(
        math.comb(trials, hits)
        * limit**hits
        * (1.0 - limit) ** (trials - hits)
        * (math.exp(found) if (found := log_evidence(hits, trials, limit, mixture)) > 0.0 else 0.0)
        for hits in range(trials + 1)
    )
    assert won <= 1.0


@given(limits, st.integers(1, 5_000), st.data())
def test_a_hit_in_place_of_a_miss_never_lowers_the_evidence(limit: float, trials: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, trials - 1))
    assert log_evidence(hits + 1, trials, limit) >= log_evidence(hits, trials, limit) - 1e-9


@given(limits, st.integers(1, 5_000), st.data())
def test_a_miss_more_never_raises_it(limit: float, trials: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, trials))
    assert log_evidence(hits, trials + 1, limit) <= log_evidence(hits, trials, limit) + 1e-9


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.floats(0.0, 1.0))
def test_it_is_a_number_and_never_negative_whatever_the_counts(hits: int, misses: int, limit: float) -> None:
    found = log_evidence(hits, hits + misses, limit)
    assert found >= 0.0


@pytest.mark.parametrize(
    ("hits", "trials", "limit", "expected"),
    [
        (0, 0, 0.05, 0.0),
        (0, 1000, 0.05, 0.0),
        (50, 1000, 0.05, 0.0),
        (1, 1, 0.05, math.log(0.5 / 0.05)),
        (3, 3, 0.05, math.log(0.25 / 0.05**3)),
        (1, 3, 0.0, math.inf),
        (0, 3, 0.0, 0.0),
        (7, 7, 1.0, 0.0),
    ],
)
def test_small_counts_give_what_one_computes_by_hand(hits: int, trials: int, limit: float, expected: float) -> None:
    assert log_evidence(hits, trials, limit) == pytest.approx(expected)


def test_counts_that_cannot_be_are_no_evidence() -> None:
    assert log_evidence(5, 3, 0.05) == 0.0


def test_very_many_answers_tell_small_differences_apart() -> None:
    assert log_evidence(51_000_000, 10**9, 0.05) > 1_000.0
    assert log_evidence(50_000_000, 10**9, 0.05) == 0.0
