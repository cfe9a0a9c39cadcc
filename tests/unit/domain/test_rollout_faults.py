"""Rollouts whose surroundings change under them: clocks, ceilings, engines in trouble, digests that were bad before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from npc_operator.api.archetypeadapter import HistoryEntry
from npc_operator.api.rollouts import Rollout
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding, parse_rfc3339, rfc3339
from npc_operator.domain.holdings import Held
from npc_operator.domain.rollout import GRANTED, RolloutFacts, Turn, freeze
from npc_operator.domain.turns import holds_turn
from npc_runtime.wire import AdapterPhase, served_name
from tests.unit.domain.rollouts import BAD, ENOUGH, NEW, NOW, OLD, THIRD, TOO_FEW, Story, revision, stable_since_ever

SILENT = Finding(reasons.GATEWAY_SILENT, "gateway gw-1 is not heard")


# --- clocks ---


@pytest.mark.parametrize("back", [30, 3600, 86_400])
def test_a_clock_that_is_set_back_makes_a_step_at_most_as_long_again(back: float) -> None:
    story = Story()
    story.watch(10)
    decision = story.later(30 - back)
    assert parse_rfc3339(story.rollout.since) == story.now
    assert decision.requeue_after == 60
    story.later(60)
    story.look()
    assert story.rollout.percent == 25


def test_a_step_of_which_nobody_can_read_when_it_began_begins_now() -> None:
    story = Story()
    story.watch(10)
    story.status = story.known.model_copy(update={"rollout": story.rollout.model_copy(update={"since": "yesterday"})})
    story.later(1000)
    assert parse_rfc3339(story.rollout.since) == story.now
    story.watch(25)


def test_leaders_whose_clocks_differ_a_little_do_not_begin_a_step_anew() -> None:
    story = Story()
    story.now += 0.5
    story.watch(10)
    since = story.rollout.since
    story.later(-1.4)
    assert story.rollout.since == since


# --- gateways that are not heard ---


@pytest.mark.parametrize("percent", [10, 100])
def test_nobody_more_hears_a_candidate_that_not_every_gateway_speaks_of(percent: int) -> None:
    story = Story()
    story.watch(percent)
    story.facts["unwatched"] = SILENT
    story.later(30)
    assert story.known.reason == reasons.WATCHING, "nothing is due"
    decision = story.later(30)
    assert (decision.reconciling, decision.requeue_after, decision.ready) == (SILENT, 1.0, True)
    assert (story.rollout.percent, story.known.stable) == (percent, revision(OLD))
    assert story.later(10_000).status == decision.status
    del story.facts["unwatched"]
    if percent == 100:
        assert story.look().moved_from == OLD
    else:
        story.watch(25)


def test_a_step_that_waits_for_proofs_waits_for_gateways_too() -> None:
    story = Story()
    story.watch(10)
    story.now += 60
    story.mute = ("b",)
    story.look()
    assert story.rollout.phase == "Checking"
    story.mute, story.facts["unwatched"] = (), SILENT
    story.look()
    assert (story.rollout.phase, story.rollout.percent) == ("Checking", 10)
    del story.facts["unwatched"]
    story.look()
    assert (story.rollout.phase, story.rollout.percent) == ("Watching", 25)


def test_a_bad_candidate_is_taken_back_whether_or_not_every_gateway_is_heard() -> None:
    story = Story(facts={"unwatched": SILENT})
    story.watch(10)
    story.verdict = BAD
    assert story.later(1000).status.rejected is not None


# --- ceilings ---


def test_what_all_npcs_hear_does_not_become_stable_once_the_approval_is_withdrawn() -> None:
    story = Story(spec={"ceilingPercent": 25, "approvedDigest": NEW})
    story.watch(100)
    story.spec["approvedDigest"] = ""
    held = story.later(60)
    assert (story.rollout.phase, story.rollout.percent, story.known.stable) == ("Holding", 100, revision(OLD))
    assert held.stalled is not None
    assert "holds at 100% of the NPCs (rollout.ceilingPercent is 25)" in held.stalled.message
    story.spec["approvedDigest"] = NEW
    assert story.look().moved_from == OLD


def test_a_held_rollout_says_what_share_it_has_and_not_what_the_ceiling_is() -> None:
    story = Story()
    story.watch(50)
    story.facts["ceiling_percent"] = 10
    held = story.later(60)
    assert held.stalled is not None
    assert "holds at 50% of the NPCs (rolloutLimits.ceilingPercent of the region is 10)" in held.stalled.message


# --- engines in trouble ---


def test_a_probe_that_fails_where_stable_is_not_proven_either_blames_the_engine() -> None:
    story = Story()
    story.watch(10)
    trouble = (AdapterPhase.RETRYING, "ProbeFailed")
    story.phases = {("b", NEW): trouble, ("b", OLD): trouble}
    story.later(1)
    assert (story.rollout.percent, story.known.rejected) == (10, None)
    story.phases = {("b", NEW): trouble}
    assert story.later(1).status.rejected is not None


@pytest.mark.parametrize("reason", ["IdentityLost", "ProbeMismatch"])
def test_what_only_the_adapter_can_do_wrong_counts_on_any_engine(reason: str) -> None:
    story = Story()
    story.watch(10)
    story.phases = {("b", NEW): (AdapterPhase.RETRYING, reason), ("b", OLD): (AdapterPhase.LOADING, "")}
    assert story.later(1).status.rejected is not None


def test_what_was_bad_before_its_slot_was_taken_gets_no_traffic_again() -> None:
    story = Story()
    story.watch(25)
    story.facts["queued"] = Finding(reasons.SLOTS_EXCEEDED, "no slot")
    story.verdict = BAD
    story.look()
    assert (story.known.rollout, story.known.rejected) == (None, None)
    del story.facts["queued"]
    for _ in range(4):
        story.later(1)
    assert story.known.rejected is not None
    assert [entry.to_percent for entry in story.made if entry.reason == reasons.STEPPED] == [10, 25]


# --- quarantine ---


def test_a_digest_that_was_taken_back_since_it_was_stable_is_no_last_good_one() -> None:
    status = stable_since_ever(OLD, THIRD, NEW)
    back = HistoryEntry(time=rfc3339(NOW), digest=THIRD, uri="s3://x", reason=reasons.ROLLED_BACK, previous=OLD)
    status = status.model_copy(update={"history": (back, *status.history)})
    story = Story(wanted=OLD, status=status, facts={"quarantined": frozenset({OLD})})
    story.look()
    assert story.known.stable is not None
    assert story.known.stable.digest == NEW


@pytest.mark.parametrize("ceiling", [100, 10])
def test_a_voice_without_any_adapter_does_not_wait_for_ever_for_one_that_cannot_be_brought_back(ceiling: int) -> None:
    status = stable_since_ever(OLD, THIRD)
    story = Story(status=status, facts={"quarantined": frozenset({OLD})}, spec={"ceilingPercent": ceiling})
    story.phases = {(pod, THIRD): (AdapterPhase.RETRYING, "Unreachable") for pod in story.pods}
    waiting = story.look()
    assert (story.known.serving, story.known.candidate) == ("Nothing", revision(NEW))
    assert waiting.requeue_after == 300
    story.later(299)
    assert story.known.serving == "Nothing"
    decision = story.later(1)
    assert (story.known.serving, story.known.stable, decision.ready) == ("Stable", revision(NEW), True)


def test_what_comes_back_in_time_is_what_the_next_digest_is_compared_with() -> None:
    story = Story(status=stable_since_ever(OLD, THIRD), facts={"quarantined": frozenset({OLD})})
    story.phases = {(pod, THIRD): (AdapterPhase.LOADING, "") for pod in story.pods}
    story.look()
    story.phases = {}
    story.later(100)
    assert story.known.serving == "LastGood"
    story.watch(10)
    assert story.known.stable is not None
    assert story.known.stable.digest == THIRD


# --- the first digest ---


def held(value: str, pod: str = "a") -> tuple[str, Held]:
    return pod, Held(served_name("vampire", value), "vampire", value, AdapterPhase.RESIDENT)


def test_a_first_digest_that_was_corrected_before_every_pod_had_it_is_not_taken_for_what_served() -> None:
    story = Story(wanted=OLD, status=None, lacking={"b": (OLD,)}, facts={"changed_by": "kubectl"})
    story.look()
    assert (story.known.candidate, story.known.stable) == (revision(OLD), None)
    story.wanted = NEW
    story.lacking = {"a": (NEW,), "b": (OLD, NEW)}
    story.facts["serving"] = [held(OLD)]
    for _ in range(3):
        story.later(10)
        assert (story.known.candidate, story.known.stable) == (revision(NEW), None)
    assert [(entry.reason, entry.digest, entry.by) for entry in story.made] == [
        (reasons.CANCELLED, OLD, "kubectl"),
    ]
    story.lacking = {}
    assert story.later(1).status.stable == revision(NEW)


def test_what_pods_serve_although_the_status_was_lost_is_still_taken_for_stable() -> None:
    story = Story(wanted=NEW, status=None, facts={"serving": [held(OLD), held(OLD, "b")]})
    story.look()
    assert story.known.stable is not None
    assert story.known.stable.digest == OLD
    assert story.made[0].reason == reasons.ADOPTED


# --- suspended ---


def frozen(story: Story) -> None:
    facts = RolloutFacts(
        archetype="vampire",
        tier="gold",
        wanted=revision(story.wanted),
        status=story.status,
        engines=story.engines(),
        rollout=Rollout.model_validate(story.spec),
    )
    story.status = freeze(facts, "NPCRegion eu-west", story.now).status


@pytest.mark.parametrize("phase", ["Waiting", "Gating", "Checking"])
def test_who_is_suspended_before_anybody_hears_it_keeps_no_turn_and_goes_on_later(phase: str) -> None:
    story = Story()
    if phase == "Waiting":
        story.facts["turn"] = Turn(granted=False)
    elif phase == "Gating":
        story.spec["analysis"] = {"gate": {"image": "gate:1"}}
        story.gate("Running")
    else:
        story.mute = ("a",)
    story.look_until(phase)
    frozen(story)
    assert story.known.candidate == revision(NEW)
    assert (story.rollout.phase, holds_turn(story.rollout)) == ("Loading", False)
    story.facts["turn"], story.mute = GRANTED, ()
    if phase == "Gating":
        story.gate("Passed")
    story.watch(10)


def test_who_is_suspended_with_traffic_keeps_it() -> None:
    story = Story(verdict=ENOUGH)
    story.watch(25)
    before = story.rollout
    frozen(story)
    assert story.rollout == before
    assert replace(story, verdict=TOO_FEW).look().status.percent == 25
