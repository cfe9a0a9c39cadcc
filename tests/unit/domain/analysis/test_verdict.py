"""What evidence comes to, in words and reasons."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_operator.api.rollouts import Analysis
from npc_operator.domain.analysis import verdict
from npc_operator.domain.analysis.evidence import Evidence, Side
from npc_operator.domain.analysis.verdict import NUMBERS_LIMIT, judge
from npc_operator.domain.conditions import Finding
from npc_operator.domain.reasons import (
    CANDIDATE_ERRORS,
    CANDIDATE_INCOMPLETE,
    CANDIDATE_MISMATCHED,
    CANDIDATE_SLOW,
    WITHDRAWN_BY_GATEWAY,
)

STABLE = Side(requests=700, errors=3)
GOOD = Side(requests=80, errors=1)
SLOW = {"pairs": 140, "slower": 110, "npcs": 20}


def evidence(**more: Any) -> Evidence:
    return Evidence(**{"stable": STABLE, "candidate": GOOD, **more})


def bad(**kinds: int) -> Side:
    return Side(requests=80, **kinds)


@pytest.mark.parametrize(
    ("seen", "spec", "reason", "message"),
    [
        (
            evidence(candidate=bad(errors=12)),
            {"max_error_percent": 50},
            CANDIDATE_ERRORS,
            "12 of 80 answers were bad (15.0%): 12 failed, stable 3 of 700 (0.4%)",
        ),
        (
            evidence(candidate=bad(errors=30, truncated=2)),
            {},
            CANDIDATE_ERRORS,
            "32 of 80 answers were bad (40.0%): 30 failed, 2 cut off, more than the 5% that are allowed",
        ),
        (
            evidence(candidate=bad(errors=6, truncated=5, empty=5), stable=Side()),
            {},
            CANDIDATE_INCOMPLETE,
            "16 of 80 answers were bad (20.0%): 6 failed, 5 cut off, 5 empty, more than the 5% that are allowed",
        ),
        (
            evidence(candidate=bad(errors=1, mismatched=14)),
            {"max_error_percent": 50},
            CANDIDATE_MISMATCHED,
            "15 of 80 answers were bad (18.8%): 1 failed, 14 with forbidden words, stable 3 of 700 (0.4%)",
        ),
        (
            evidence(**SLOW),
            {},
            CANDIDATE_SLOW,
            "110 of 140 first tokens took more than 115% of stable's beside them (78.6%)",
        ),
        (
            evidence(timed=60, over_limit=30),
            {"max_first_token_milliseconds": 800},
            CANDIDATE_SLOW,
            "30 of 60 first tokens came later than 800 ms (50.0%)",
        ),
        (evidence(withdrawn="gateway a: 9 of 9 bad"), {}, WITHDRAWN_BY_GATEWAY, "gateway a: 9 of 9 bad"),
    ],
)
def test_a_bad_candidate_is_told_with_its_numbers(
    seen: Evidence, spec: dict[str, Any], reason: str, message: str
) -> None:
    found = judge(seen, Analysis(**spec)).bad
    assert found is not None
    assert (found.reason, found.message) == (reason, message)


@pytest.mark.parametrize(
    "seen",
    [
        Evidence(),
        evidence(),
        evidence(stable=Side()),
        evidence(candidate=Side()),
        evidence(candidate=Side(requests=3, errors=1)),
        evidence(timed=60, over_limit=60),  # no limit is set
        evidence(pairs=140, slower=70, npcs=20),
        evidence(pairs=12, slower=12),  # of one character
    ],
)
def test_a_candidate_that_nothing_speaks_against_goes_on(seen: Evidence) -> None:
    assert judge(seen, Analysis()).bad is None


def test_the_first_rule_that_speaks_decides() -> None:
    everything = evidence(candidate=bad(errors=60), **SLOW)
    found = judge(everything, Analysis()).bad
    assert found is not None
    assert found.reason == CANDIDATE_ERRORS
    assert judge(evidence(candidate=bad(errors=60), withdrawn="so", **SLOW), Analysis()).bad == Finding(
        WITHDRAWN_BY_GATEWAY, "so"
    )


@pytest.mark.parametrize(("requests", "expected"), [(0, False), (49, False), (50, True), (51, True)])
def test_a_step_needs_its_own_answers(requests: int, expected: bool) -> None:
    assert judge(evidence(step_requests=requests), Analysis(min_requests=50)).enough is expected


def test_the_numbers_are_one_line_for_people() -> None:
    seen = evidence(candidate=Side(requests=80, probes=8, errors=1, empty=2), timed=60, over_limit=2, **SLOW)
    assert judge(seen, Analysis()).numbers == (
        "3 of 80 answers were bad (3.8%): 1 failed, 2 empty, stable 3 of 700 (0.4%), 8 were probes, "
        "110 of 140 pairs slower (78.6%), 2 of 60 late (3.3%)"
    )
    assert judge(Evidence(), Analysis()).numbers == "0 of 0 answers were bad, stable 0 of 0"


sides = st.builds(Side, *(st.integers(0, 10**15) for _ in range(6)))


@given(sides, sides, *(st.integers(0, 10**15) for _ in range(6)))
def test_whatever_was_counted_there_is_a_verdict_that_history_has_room_for(
    stable: Side, candidate: Side, step: int, pairs: int, slower: int, npcs: int, timed: int, late: int
) -> None:
    seen = Evidence(stable, candidate, step, pairs, slower, npcs, timed, late)
    found = judge(seen, Analysis(max_first_token_milliseconds=500))
    assert 0 < len(found.numbers) <= NUMBERS_LIMIT
    assert found.bad is None or 0 < len(found.bad.message) <= 512


def test_all_tests_together_are_wrong_in_less_than_one_rollout_of_a_hundred() -> None:
    guards = 2 * verdict.LIMIT
    assert verdict.WORSE + verdict.LIMIT + verdict.SLOWER + verdict.LATE + guards < 0.01
