"""Limits that hold whatever stable does, and the cases that gateways are held to, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from npc_operator.domain.analysis.betting import threshold
from npc_operator.domain.analysis.evidence import Side
from npc_operator.domain.analysis.limits import LATE_SHARE, log_late, log_over_limit
from npc_operator.domain.analysis.verdict import LIMIT

VECTORS = Path(__file__).resolve().parents[3] / "support" / "vectors" / "guard.json"
CASES: list[dict[str, Any]] = json.loads(VECTORS.read_text())


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{one['bad']} of {one['requests']} at {one['maxErrorPercent']}%" for one in CASES]
)
def test_operator_and_gateways_go_by_the_same_formula(case: dict[str, Any]) -> None:
    candidate = Side(requests=case["requests"], errors=case["bad"])
    assert (log_over_limit(candidate, case["maxErrorPercent"]) >= threshold(LIMIT)) is case["withdraw"]


def test_the_cases_speak_of_both_sides_of_the_line() -> None:
    assert sum(one["withdraw"] for one in CASES) > 15
    assert sum(not one["withdraw"] for one in CASES) > 15


@pytest.mark.parametrize("kind", ["errors", "truncated", "empty", "mismatched"])
def test_an_answer_can_be_bad_in_any_way(kind: str) -> None:
    assert log_over_limit(Side(requests=3, **{kind: 3}), 5) >= threshold(LIMIT)


@pytest.mark.parametrize(
    ("timed", "late", "expected"),
    [
        (0, 0, False),
        (3, 1, False),
        (3, 3, False),
        (4, 4, True),
        (100, 10, False),
        (100, 30, True),
        (10**9, 10**8, False),
    ],
)
def test_one_in_ten_first_tokens_may_be_late(timed: int, late: int, expected: bool) -> None:
    assert LATE_SHARE == 0.1
    assert (log_late(timed, late) >= threshold(0.0006)) is expected
