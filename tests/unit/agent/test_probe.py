from __future__ import annotations

import time

import pytest

from npc_runtime.agent.errors import AdapterError, Reason
from npc_runtime.agent.probe import check_answer, check_patterns
from npc_runtime.wire import Probe


def reason_of(probe: Probe, answer: str) -> Reason | None:
    try:
        check_patterns(probe)
        check_answer(probe, answer)
    except AdapterError as error:
        return error.reason if error.permanent else None
    return None


@pytest.mark.parametrize(
    ("must", "must_not", "answer", "reason"),
    [
        ((), (), "anything", None),
        (("(?i)blood",), (), "I want BLOOD", None),
        (("blood", "night"), (), "blood", Reason.PROBE_MISMATCH),
        ((), ("as an AI",), "as an AI model", Reason.PROBE_MISMATCH),
        (("blood",), ("sun",), "blood", None),
        (("(",), (), "x", Reason.BAD_PATTERN),
        ((), ("(?=look)",), "x", Reason.BAD_PATTERN),
    ],
)
def test_an_answer_is_judged_by_every_pattern(
    must: tuple[str, ...], must_not: tuple[str, ...], answer: str, reason: Reason | None
) -> None:
    assert reason_of(Probe(must_match=must, must_not_match=must_not), answer) is reason


def test_a_pattern_that_backtracks_elsewhere_takes_linear_time_here() -> None:
    begun = time.process_time()
    assert reason_of(Probe(must_match=("(a+)+$",)), "a" * 50_000 + "b") is Reason.PROBE_MISMATCH
    assert time.process_time() - begun < 2


def test_the_answer_is_never_quoted() -> None:
    with pytest.raises(AdapterError) as caught:
        check_answer(Probe(must_match=("x",)), "what a player must not read")
    assert "player" not in str(caught.value)
