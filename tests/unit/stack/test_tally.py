"""The judge of every load: what it lets pass is what the demo and the e2e tests cannot see."""

from __future__ import annotations

import dataclasses

from hack.stack.load import Ask, Line, Tally

V1, V2 = "sha256:1", "sha256:2"
VAMPIRE = Ask(archetype="vampire", prompt="Who?", tier="gold")
ZOMBIE = Ask(archetype="zombie", prompt="Who?", tier="gold")
EXPECTED = {("vampire", V1): "old blood", ("vampire", V2): "new blood", ("zombie", V1): "brains"}


def line(text: str, digest: str = V1, *, ask: Ask = VAMPIRE, started: float = 0.0, failure: str = "") -> Line:
    return Line(ask=ask, intended=started, started=started, text=text, digest=digest, failure=failure)


def test_answers_that_are_what_their_digest_says_are_not_mixed() -> None:
    tally = Tally([line("old blood"), line("new blood", V2), line("brains", ask=ZOMBIE)])
    assert tally.mixed(EXPECTED) == []


def test_the_old_text_under_the_new_digest_is_mixed() -> None:
    wrong = line("old blood", V2)
    assert Tally([line("old blood"), wrong]).mixed(EXPECTED) == [wrong]


def test_half_of_an_answer_is_mixed() -> None:
    wrong = line("old")
    assert Tally([wrong]).mixed(EXPECTED) == [wrong]


def test_the_right_text_of_another_archetype_is_mixed() -> None:
    wrong = line("old blood", ask=ZOMBIE)
    assert Tally([wrong]).mixed(EXPECTED) == [wrong]


def test_a_digest_that_nobody_asked_for_is_mixed_whatever_the_text() -> None:
    unknown, none = line("old blood", "sha256:9"), line("old blood", "")
    assert Tally([unknown, none]).mixed(EXPECTED) == [unknown, none]


def test_a_failed_line_is_a_failure_and_not_a_mixture_too() -> None:
    failed = line("", "", failure="HTTP 503")
    tally = Tally([failed, line("old blood")])
    assert tally.failures == [failed]
    assert tally.mixed(EXPECTED) == []
    assert tally.by_digest() == {V1: 1}


def test_a_line_of_less_than_was_asked_for_is_told_apart_from_one_that_failed() -> None:
    less = dataclasses.replace(line("Not now.", "scripted"), degraded="Scripted")
    failed = line("", V1, failure="HTTP 503")
    tally = Tally([line("old blood"), less, failed])
    assert tally.degraded == [less]
    assert tally.failures == [failed]
    assert tally.answered_by(V1) == [line("old blood")]


def test_first_and_last_go_by_when_lines_started_not_by_when_they_ended() -> None:
    early, late = line("new blood", V2, started=5.0), line("new blood", V2, started=6.0)
    old = [line("old blood", started=started) for started in (4.0, 5.5, 3.0)]
    tally = Tally([late, *old, early])
    assert tally.first_with(V2) == early
    assert tally.last_without(V2, "vampire") == old[1]


def test_what_a_line_says_of_a_moment_goes_by_its_start_not_by_its_end() -> None:
    before, after = line("old blood", started=4.0), line("new blood", V2, started=6.0)
    assert Tally([after, before]).started_after(5.0) == [after]


def test_first_and_last_leave_out_failures_and_other_archetypes() -> None:
    failed = dataclasses.replace(line("", V2, started=1.0), failure="HTTP 500")
    other = line("brains", ask=ZOMBIE, started=9.0)
    tally = Tally([failed, other])
    assert tally.first_with(V2) is None
    assert tally.last_without(V2, "vampire") is None
