"""How long a bad candidate was heard: from its first bad answer to its being taken back."""

from __future__ import annotations

from dataclasses import replace

from npc_operator.domain import reasons
from npc_operator.domain.analysis.evidence import Verdict
from npc_operator.domain.conditions import Finding
from npc_operator.domain.rollout.history import VERDICT_LIMIT
from tests.unit.domain.rollouts import BAD, SIXTY, Story

SLOW = Verdict(Finding(reasons.CANDIDATE_SLOW, "80 of 100 pairs"), enough=True, numbers="80 of 100 pairs slower")


def story(verdict: Verdict, *, first_bad: float | None) -> Story:
    """A candidate that is watched at 10%, and its verdict."""
    told = Story()
    told.watch(10)
    told.verdict = verdict
    told.evidence = replace(SIXTY, first_bad_at=None if first_bad is None else told.now + first_bad)
    return told


def test_the_verdict_says_how_long_after_the_first_bad_answer_it_fell() -> None:
    told = story(BAD, first_bad=-1.26)
    decision = told.look()
    assert decision.after_first_bad is not None
    assert round(decision.after_first_bad, 2) == 1.26
    assert told.made[-1].verdict == f"CandidateErrors: 1.3 s after the first bad answer: {BAD.numbers}"


def test_clocks_that_differ_never_make_it_less_than_nothing() -> None:
    assert story(BAD, first_bad=3.0).look().after_first_bad == 0.0


def test_of_a_slow_candidate_no_answer_was_bad() -> None:
    told = story(SLOW, first_bad=-5.0)
    assert told.look().after_first_bad is None
    assert told.made[-1].verdict == f"CandidateSlow: {SLOW.numbers}"


def test_a_gateway_that_does_not_tell_leaves_it_open() -> None:
    told = story(BAD, first_bad=None)
    assert told.look().after_first_bad is None
    assert told.made[-1].verdict == f"CandidateErrors: {BAD.numbers}"


def test_the_history_has_room_for_it() -> None:
    told = story(replace(BAD, numbers="7" * VERDICT_LIMIT), first_bad=-2.0)
    told.look()
    assert told.made[-1].verdict.startswith("CandidateErrors: 2.0 s after the first bad answer: 777")
    assert len(told.made[-1].verdict) <= VERDICT_LIMIT
