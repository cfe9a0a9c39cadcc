"""A digest that must not be used: what takes its place, in the status, on the pods and on the routes."""

from __future__ import annotations

from typing import Any

import pytest

from npc_operator.api.rollouts import Rollout
from npc_operator.domain import reasons
from npc_operator.domain.aliases import pick_alias
from npc_operator.domain.desired import build_piece, pick_quarantined
from npc_operator.domain.rollout import RolloutFacts, freeze
from npc_runtime.wire import AdapterPhase
from tests.support.builders import adapter_fact, region_fact
from tests.unit.domain.rollouts import BAD, NEW, NOW, OLD, THIRD, Story, revision, stable_since_ever


def quarantined(*digests: str, lacking: tuple[str, ...] = (), **more: Any) -> Story:
    """A voice that served OLD, and THIRD before it, and whose digests are quarantined now."""
    facts = {"quarantined": frozenset(digests), **more.pop("facts", {})}
    fields: dict[str, Any] = {"wanted": OLD, "status": stable_since_ever(OLD, THIRD), **more}
    story = Story(facts=facts, **fields)
    story.lacking = dict.fromkeys(story.pods, lacking)
    return story


@pytest.mark.parametrize("stand_in", ["BaseModel", "Scripted", "Nothing"])
def test_the_last_good_digest_serves_once_it_is_proven_everywhere(stand_in: Any) -> None:
    story = quarantined(OLD, facts={"stand_in": stand_in})
    story.lacking = {"b": (THIRD,)}
    decision = story.look()
    assert (decision.status.serving, decision.ready) == (stand_in, False)
    assert decision.status.stable is not None
    assert (decision.status.stable.digest, decision.status.stable.uri) == (THIRD, revision(THIRD).uri)
    assert decision.stalled is not None
    assert decision.stalled.reason == reasons.QUARANTINED
    assert "is being brought back" in decision.stalled.message
    assert [(entry.reason, entry.from_percent, entry.by) for entry in decision.made] == [
        (reasons.QUARANTINED, 100, "quarantinedDigests")
    ]
    story.lacking = {}
    restored = story.look()
    assert (restored.status.serving, restored.ready, restored.status.percent) == ("LastGood", True, 0)
    assert [(entry.reason, entry.digest, entry.previous) for entry in restored.made] == [(reasons.RESTORED, THIRD, OLD)]
    assert story.later(60).made == (), "nothing is decided twice"


def test_where_nothing_good_is_left_the_status_says_what_answers() -> None:
    story = quarantined(OLD, THIRD, facts={"stand_in": "Scripted"})
    decision = story.look()
    assert (decision.status.stable, decision.status.serving, decision.ready) == (None, "Scripted", False)
    assert decision.stalled is not None
    assert "scripted lines answer" in decision.stalled.message
    assert story.later(60).status == decision.status
    # What pods still have of it is not adopted.
    story.facts["serving"] = [
        (engine.pod.name, held)
        for engine in story.engines()
        if engine.agent
        for held in engine.agent.adapters.of("vampire")
    ]
    assert story.look().status.stable is None


def test_a_last_good_digest_that_a_pod_refuses_gives_way_to_the_one_before() -> None:
    story = quarantined(OLD, status=stable_since_ever(OLD, THIRD, NEW))
    story.phases = {("b", THIRD): (AdapterPhase.REFUSED, "NotFound")}
    decision = story.look()
    assert decision.status.stable is not None
    assert (decision.status.stable.digest, decision.status.serving) == (NEW, "LastGood")


def test_a_digest_that_was_taken_back_is_not_the_way_back() -> None:
    story = Story(status=stable_since_ever(OLD, NEW, THIRD), wanted=NEW)
    story.watch(10)
    story.verdict = BAD
    story.look()
    story.facts["quarantined"] = frozenset({OLD})
    decision = story.look()
    assert decision.status.stable is not None
    assert decision.status.stable.digest == THIRD


def test_released_it_serves_again_at_once_while_nothing_took_its_place() -> None:
    story = quarantined(OLD, lacking=(THIRD,))
    assert story.look().status.serving == "Nothing"
    story.facts["quarantined"] = frozenset()
    decision = story.look()
    assert (decision.status.stable, decision.status.serving) == (revision(OLD), "Stable")
    assert decision.stalled is None


def test_released_after_another_took_its_place_it_comes_back_in_steps() -> None:
    story = quarantined(OLD)
    story.look()
    story.facts["quarantined"] = frozenset()
    story.watch(10)
    assert story.known.serving == "LastGood"
    story.watch(100)
    assert story.later(60).status.serving == "Stable"


def test_a_new_digest_waits_for_the_last_good_one_and_then_is_held_against_it() -> None:
    story = quarantined(OLD, lacking=(THIRD,), wanted=NEW)
    story.look()
    assert (story.rollout.phase, story.known.serving) == ("Loading", "Nothing")
    story.lacking = {}
    story.watch(10)
    assert story.known.stable is not None
    assert (story.known.stable.digest, story.known.serving) == (THIRD, "LastGood")


def test_a_new_digest_serves_when_it_is_proven_where_nothing_good_is_left() -> None:
    story = quarantined(OLD, THIRD, wanted=NEW)
    decision = story.look()
    assert (decision.status.stable, decision.status.serving, decision.moved_from) == (revision(NEW), "Stable", "")


def test_a_quarantined_stable_digest_ends_the_rollout_that_was_held_against_it() -> None:
    story = Story(status=stable_since_ever(OLD, THIRD))
    story.watch(25)
    story.facts["quarantined"] = frozenset({OLD})
    decision = story.look()
    assert [entry.reason for entry in decision.made] == [reasons.CANCELLED, reasons.QUARANTINED, reasons.RESTORED]
    assert story.known.rejected is None, "it is not the candidate's fault"
    story.watch(10)


def test_a_candidate_quarantined_before_anybody_heard_it_is_only_not_brought_in() -> None:
    story = Story(facts={"quarantined": frozenset({NEW})})
    decision = story.look()
    assert (decision.status.candidate, decision.status.rejected, decision.ready) == (None, None, True)
    assert decision.stalled is not None
    assert decision.stalled.reason == reasons.QUARANTINED
    story.facts = {}
    story.watch(10)


def test_a_quarantine_holds_while_everything_else_is_suspended() -> None:
    story = quarantined(OLD)
    facts = RolloutFacts(
        archetype="vampire",
        tier="gold",
        wanted=revision(OLD),
        status=story.status,
        engines=story.engines(),
        rollout=Rollout(),
        quarantined=frozenset({OLD}),
    )
    decision = freeze(facts, "ArchetypeAdapter vampire", NOW)
    assert (decision.status.serving, decision.status.reason) == ("LastGood", reasons.SUSPENDED)


# --- pods and routes, before any status says so ---


def voice(**status: Any) -> Any:
    variant = {"tier": "gold", "serving": "Stable", "stable": {"digest": OLD, "uri": "s3://old"}, **status}
    return adapter_fact("vampire", digests={"gold": NEW}, status={"variants": [variant]})


CANDIDATE = {
    "candidate": {"digest": NEW, "uri": "s3://new"},
    "rollout": {
        "phase": "Watching",
        "step": 1,
        "percent": 10,
        "below": 1000,
        "since": "2026-11-01T00:00:00Z",
        "check": 1,
    },
}


@pytest.mark.parametrize(
    ("taken", "routed", "wanted"),
    [((), [OLD, NEW], [OLD, NEW]), ((NEW,), [OLD], [OLD]), ((OLD,), [], [NEW]), ((OLD, NEW), [], [])],
    ids=["nothing", "the candidate", "the stable digest", "both"],
)
def test_what_is_quarantined_is_on_no_route_and_wanted_on_no_pod(
    taken: tuple[str, ...], routed: list[str], wanted: list[str]
) -> None:
    adapter = voice(**CANDIDATE)
    variant = adapter.spec.variants[0]
    alias = pick_alias(adapter, variant, frozen=False, quarantined=frozenset(taken))
    assert alias is not None, "the archetype is known"
    assert [target.digest for target in alias.targets] == routed
    piece = build_piece(
        adapter, variant, frozen=False, barred=False, credentials=lambda _: None, quarantined=frozenset(taken)
    )
    assert [entry.digest for entry in (piece.stable, piece.candidate) if entry is not None] == wanted


def test_a_digest_that_is_still_being_brought_back_is_wanted_and_on_no_route() -> None:
    adapter = voice(serving="BaseModel")
    variant = adapter.spec.variants[0]
    alias = pick_alias(adapter, variant, frozen=False)
    assert alias is not None
    assert alias.targets == ()
    piece = build_piece(adapter, variant, frozen=False, barred=True, credentials=lambda _: None)
    assert piece.stable is not None
    assert piece.stable.digest == OLD


def test_the_regions_list_counts_as_the_voices_own() -> None:
    adapter = adapter_fact("vampire", spec={"quarantinedDigests": [OLD]})
    assert pick_quarantined(adapter, region_fact(spec={"quarantinedDigests": [NEW]})) == {OLD, NEW}
    assert pick_quarantined(adapter, None) == {OLD}
