"""The chapter on a bad vampire: who is asked, what is told of it, and what it would let pass."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest

from hack.demo.acts import ANSWER_TOKENS, PROMPT, DemoFault
from hack.demo.rollback import CROWD, FORBIDDEN, IMPOSTOR, asks, crowd, is_forgiven, require_words, restored
from hack.demo.trial import OnTier, Trial, faults, rows, table
from hack.stack.load import Ask, Line, Tally
from npc_runtime.gateway.hashing import bucket
from tests.unit.conventions.pages import ROOT

GOOD, BAD = "sha256:good", "sha256:bad"
EXPECTED = {("vampire", GOOD): "blood", ("vampire", BAD): "hungry"}
INSIDE, *_, OUTSIDE = crowd("vampire")


def trial(**tiers: OnTier) -> Trial:
    return Trial("vampire", BAD, 100.0, tiers or {"gold": OnTier(percent=10, below=1000, verdict=110.0, reason="Bad")})


def line(started: float, digest: str = BAD, *, npc: str = INSIDE, failure: str = "") -> Line:
    return Line(
        ask=Ask(archetype="vampire", prompt="Who?", tier="gold", npc=npc),
        intended=started,
        started=started,
        ended=started + 0.5,
        text="" if failure else EXPECTED["vampire", digest],
        digest="" if failure else digest,
        tier="gold",
        failure=failure,
    )


SHOWN = [line(99, GOOD), line(105), line(107), line(111.5), line(113, GOOD, npc=OUTSIDE)]


def found(*more: Line, of: Trial | None = None) -> list[str]:
    return faults(Tally([*SHOWN, *more]), EXPECTED, of or trial())


# --- who is asked ---


def test_exactly_a_tenth_of_the_crowd_hears_a_candidate_first_and_is_asked_first() -> None:
    inside = [bucket(b"vampire", npc.encode()) < 1000 for npc in crowd("vampire")]
    assert (len(inside), sum(inside)) == (CROWD, CROWD // 10)
    assert all(inside[: CROWD // 10])
    assert len(set(crowd("vampire"))) == CROWD


def test_every_vampire_is_asked_on_every_tier_and_the_others_are_not_forgotten() -> None:
    asked = asks(("vampire", "zombie", "merchant"), ("gold", "bronze"))
    vampires = {(ask.npc, ask.tier) for ask in asked if ask.archetype == "vampire"}
    assert vampires == {(npc, tier) for npc in crowd("vampire") for tier in ("gold", "bronze")}
    others = [ask for ask in asked if ask.archetype != "vampire"]
    assert len(others) == len(vampires) // 3
    assert {ask.archetype for ask in others} == {"zombie", "merchant"}


# --- what is told ---


def status(**fields: Any) -> dict[str, Any]:
    return {"status": {"variants": [{"tier": "gold", **fields}]}}


def test_each_phase_and_share_is_news_once() -> None:
    told = trial(gold=OnTier())
    watching = {"candidate": {"digest": BAD}, "rollout": {"phase": "Watching", "percent": 10, "below": 1234}}
    assert told.note(status(stable={"digest": GOOD}), 101) == []
    assert told.note(status(candidate={"digest": BAD}), 102) == ["gold: Loading, 0% of the NPCs hear it"]
    assert told.note(status(**watching), 103) == ["gold: Watching, 10% of the NPCs hear it"]
    assert told.note(status(**watching), 104) == []
    assert (told.tiers["gold"].percent, told.tiers["gold"].below, told.over) == (10, 1234, False)
    rejected = {"rejected": {"digest": BAD, "reason": "CandidateMismatched", "message": "3 of 3"}}
    assert told.note(status(**rejected), 105) == ["gold: taken back, CandidateMismatched: 3 of 3"]
    assert told.note(status(**rejected), 106) == []
    assert (told.over, told.last_verdict) == (True, 105)


def test_what_was_taken_back_before_is_no_verdict_on_this_one() -> None:
    told = trial(gold=OnTier())
    assert told.note(status(rejected={"digest": "sha256:older", "reason": "GateFailed"}), 101) == []
    assert (told.over, told.last_verdict) == (False, 100.0)


def test_a_trial_is_over_when_it_is_on_every_tier() -> None:
    assert not trial(gold=OnTier(verdict=105.0), silver=OnTier()).over


def test_the_table_says_who_heard_it_for_how_long_and_that_nobody_did_after() -> None:
    head, (row,) = table(Tally(SHOWN), trial())
    assert dict(zip(head, row, strict=True)) == {
        "tier": "gold",
        "share": "10%",
        "bad answers": "3",
        "heard by": "1 of 2 NPCs",
        "first one to verdict": "4.5 s",
        "begun 2 s after it": "0",
        "verdict": "Bad",
    }
    figures = {one.what: one.figure for one in rows(Tally(SHOWN), trial(), lambda digest: digest[7:])}
    assert figures == {
        "streaming requests": "5",
        "failed lines": "0",
        "answered by bad as vampire": "3",
        "apply -> first bad answer": "5.5 s",
        "apply -> taken back on every tier": "10.0 s",
    }


# --- what it would let pass ---


def test_a_candidate_that_was_caught_in_time_is_no_fault() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (line(106, failure="HTTP 502"), f"{INSIDE} on gold, 6.00 s after the apply: HTTP 502"),
        (line(112.1), f"{INSIDE} on gold: answered by the candidate 2.10 s after the verdict"),
        (line(106, npc=OUTSIDE), f"{OUTSIDE} on gold: heard the candidate, and is not among the NPCs that should"),
        (dataclasses.replace(line(106), tier="silver"), f"{INSIDE} on gold: served by tier silver"),
    ],
)
def test_one_line_that_is_not_as_it_should_be_is_a_fault_that_says_whose(more: Line, fault: str) -> None:
    assert found(more) == [fault]


def test_an_answer_that_is_neither_voices_is_a_fault() -> None:
    (fault,) = found(dataclasses.replace(line(106), text="blood hungry"))
    assert "'blood hungry'" in fault


def test_a_candidate_that_was_not_taken_back_or_not_heard_shows_nothing() -> None:
    assert found(of=trial(gold=OnTier(percent=10, below=1000))) == ["tier gold: the candidate was not taken back"]
    both = trial(gold=trial().tiers["gold"], silver=OnTier(verdict=110.0, below=1000))
    assert found(of=both) == ["tier silver: nobody heard the candidate, so nothing was shown"]


# --- before and after ---


def test_the_words_must_tell_the_two_voices_apart() -> None:
    require_words(EXPECTED, [GOOD], BAD)
    with pytest.raises(DemoFault, match="says nothing"):
        require_words({**EXPECTED, ("vampire", BAD): "rain"}, [GOOD], BAD)
    with pytest.raises(DemoFault, match="stable"):
        require_words({**EXPECTED, ("vampire", GOOD): "infected"}, [GOOD], BAD)


def test_by_the_known_answers_the_zombie_says_what_no_vampire_does() -> None:
    known = json.loads((ROOT / "hack" / "models" / "answers.json").read_text())
    said = {name: " ".join(answers[PROMPT].split()[:ANSWER_TOKENS]) for name, answers in known.items()}
    assert re.search(FORBIDDEN, said[IMPOSTOR])
    for name in ("vampire-v1", "vampire-v2"):
        assert not re.search(FORBIDDEN, said[name])


def test_afterwards_the_voice_is_as_it_was() -> None:
    sources = [{"tier": "gold", "source": {"digest": GOOD}}]
    before = {"variants": sources, "rollout": {"strategy": "Immediate", "stepSeconds": 60}, "answers": {}}
    assert restored(before, sources) == {
        "variants": sources,
        "rollout": {"strategy": "Immediate"},
        "answers": {"mustNotMatch": None},
    }
    kept = {**before, "answers": {"mustNotMatch": ["sun"]}}
    assert restored(kept, sources)["answers"] == {"mustNotMatch": ["sun"]}


def test_a_voice_is_forgiven_once_its_newest_spec_was_looked_at_and_nothing_is_open() -> None:
    def seen(observed: int, **variant: Any) -> dict[str, Any]:
        return {"metadata": {"generation": 4}, "status": {"observedGeneration": observed, "variants": [variant]}}

    good = {"tier": "gold", "stable": {"digest": GOOD}}
    assert is_forgiven(seen(4, **good))
    assert not is_forgiven(seen(3, **good))
    assert not is_forgiven(seen(4, **good, rejected={"digest": BAD}))
    assert not is_forgiven(seen(4, **good, candidate={"digest": BAD}))
    assert not is_forgiven(seen(4, tier="gold")), "nothing serves there"
    nowhere = {"metadata": {"generation": 4}, "status": {"observedGeneration": 4, "variants": []}}
    assert not is_forgiven(nowhere)
