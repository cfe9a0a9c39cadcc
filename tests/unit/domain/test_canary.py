"""A candidate's way in steps: state in, state out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from npc_operator.domain import reasons
from npc_operator.domain.analysis.evidence import Evidence, Side, Verdict
from npc_operator.domain.conditions import Finding, rfc3339
from npc_operator.domain.rollout import GRANTED, Turn
from npc_operator.domain.rollout.canary import threshold
from npc_runtime.wire import AdapterPhase
from tests.unit.domain.rollouts import BAD, ENOUGH, NEW, NOW, OLD, THIRD, TOO_FEW, Story, revision, stable_since_ever

SHARES = [(0, 10), (10, 25), (25, 50), (50, 100)]


def shares(story: Story) -> list[tuple[int, int]]:
    return [(entry.from_percent, entry.to_percent) for entry in story.made if entry.reason == reasons.STEPPED]


# --- the ordinary way ---


def test_a_good_candidate_takes_over_step_by_step_and_then_is_stable() -> None:
    story = Story()
    story.watch(100)
    assert shares(story) == SHARES
    assert story.known.stable == revision(OLD)
    moved = story.later(60)
    assert (moved.moved_from, moved.status.stable, moved.status.candidate) == (OLD, revision(NEW), None)
    assert (moved.status.rollout, moved.status.percent, moved.status.serving) == (None, 100, "Stable")
    assert story.reasons() == [*[reasons.STEPPED] * 4, reasons.MOVED]
    assert story.made[-1].verdict == ENOUGH.numbers
    assert (story.made[-1].previous, story.made[-1].by) == (OLD, "rollout.steps")


def test_what_is_served_stays_ready_all_the_way() -> None:
    story = Story()
    for _ in range(12):
        assert story.later(61).ready is True


def test_the_first_digest_of_a_voice_has_nothing_to_be_compared_with() -> None:
    story = Story(status=None)
    story.lacking = dict.fromkeys(story.pods, (OLD, THIRD))
    moved = story.look()
    assert (moved.moved_from, moved.status.stable, moved.status.rollout) == ("", revision(NEW), None)


def test_a_candidate_loads_on_every_pod_before_anything_else() -> None:
    story = Story(lacking={"b": (NEW,)})
    decision = story.look()
    assert (story.rollout.phase, story.rollout.check) == ("Loading", 0)
    assert decision.reconciling is not None
    assert "1 of 2 pods" in decision.reconciling.message
    assert decision.requeue_after == 300
    story.lacking = {}
    story.look()
    assert (story.rollout.phase, story.rollout.check) == ("Checking", 1)


def test_a_pod_that_refuses_it_while_it_loads_holds_it_and_is_named() -> None:
    story = Story(phases={("b", NEW): (AdapterPhase.REFUSED, "RankTooHigh")})
    decision = story.look()
    assert decision.stalled is not None
    assert (decision.stalled.reason, story.known.rejected) == ("RankTooHigh", None)
    assert "pod b" in decision.stalled.message


def test_a_step_waits_for_its_time_to_the_second_and_says_when() -> None:
    story = Story()
    story.now += 0.4
    first = story.watch(10)
    assert story.rollout.since == rfc3339(NOW + 1)
    assert first.requeue_after == pytest.approx(60.6)
    story.now = NOW + 60.9
    assert story.look().requeue_after == pytest.approx(0.1)
    assert (story.rollout.phase, story.rollout.percent) == ("Watching", 10)
    story.now = NOW + 61
    story.look()
    assert story.rollout.phase == "Checking"


def test_nothing_is_written_while_answers_are_counted() -> None:
    story = Story(verdict=TOO_FEW)
    story.watch(10)
    before = story.known
    for count in range(5):
        story.evidence = Evidence(candidate=Side(requests=100 + count), step_requests=count)
        story.later(7)
    assert story.known == before
    story.verdict = ENOUGH
    story.later(60)
    assert story.rollout.requests == 104, "it goes along with other news"


def test_one_step_of_100_is_judged_all_the_same() -> None:
    story = Story(spec={"steps": [100]})
    story.watch(100)
    assert (shares(story), story.rollout.below) == ([(0, 100)], 10_000)
    story.verdict = BAD
    assert story.later(1).status.rejected is not None


# --- identity ---


@pytest.mark.parametrize("percent", [0, 10, 25, 50])
def test_no_step_is_taken_before_every_pod_has_proven_its_identity_again(percent: int) -> None:
    story = Story()
    if percent:
        story.watch(percent)
        story.now += 60
    story.mute = ("b",)
    for _ in range(3):
        decision = story.later(30)
        assert (story.rollout.phase, story.rollout.percent) == ("Checking", percent)
        assert decision.reconciling is not None
        assert "pod b" in decision.reconciling.message
    story.mute = ()
    story.look()
    assert story.rollout.phase == "Watching"
    assert story.rollout.percent > percent


@pytest.mark.parametrize(
    ("percent", "heard"),
    [
        (0, "nobody hears it yet, the stable digest serves on"),
        (25, "25% of the NPCs hear it as before, the stable digest serves all others"),
    ],
)
def test_a_pod_that_never_proves_its_identity_is_named_until_it_does(percent: int, heard: str) -> None:
    story = Story(spec={"loadTimeoutSeconds": 120})
    if percent:
        story.watch(percent)
        story.now += 60
    story.mute = ("b",)
    asked = story.look()
    assert (story.rollout.phase, story.rollout.check_since) == ("Checking", rfc3339(story.now))
    assert (asked.stalled, asked.requeue_after) == (None, 120)
    assert story.later(119).stalled is None
    late = story.later(1)
    assert late.stalled is not None
    assert (late.stalled.reason, late.ready) == (reasons.IDENTITY_TIMEOUT, True)
    for words in ("within 120 s on pod b for vampire--", heard, "look at the pod's agent or delete the pod"):
        assert words.casefold() in late.stalled.message.casefold()
    assert "pod a" not in late.stalled.message
    assert story.later(100_000).status == late.status, "it holds, and says no more"
    assert (story.rollout.percent, story.known.stable, story.known.rejected) == (percent, revision(OLD), None)
    story.mute = ()
    proven = story.look()
    assert (proven.stalled, proven.status.reason) == (None, reasons.WATCHING)
    assert story.rollout.percent > percent


@pytest.mark.parametrize(
    ("change", "late_after"),
    [
        ({"mute": ("b",)}, 300),
        ({"mute": ("a", "b")}, 300),
        ({"mute": ("b",), "ready_since": {"b": NOW - 3600}}, 300),
        ({"mute": ("b",), "ready_since": {"b": NOW + 200}}, 500),
        ({"mute": ("b",), "unheard": ("b",)}, 300),
        ({"mute": ("b",), "spec": {"loadTimeoutSeconds": 5}}, 5),
        ({"lacking": {"b": (OLD,)}}, 300),
        ({"pods": ()}, None),
        ({}, None),
    ],
    ids=[
        "one pod",
        "every pod",
        "an old engine",
        "an engine that came later",
        "an agent that is not heard",
        "the spec's own time",
        "the stable digest is what it lacks",
        "no pod at all",
        "all have proven it",
    ],
)
def test_a_proof_is_late_after_the_time_for_loading(change: dict[str, Any], late_after: float | None) -> None:
    story = Story(mute=("a", "b"))
    story.look()
    story.mute = ()
    for name, value in change.items():
        setattr(story, name, value)
    seen = None
    for second in range(0, 1000, 5):
        story.now = NOW + second
        decision = story.look()
        if decision.stalled is not None:
            assert decision.stalled.reason == reasons.IDENTITY_TIMEOUT
            seen = second
            break
    assert seen == late_after


def test_a_pod_that_is_late_says_why_if_it_can() -> None:
    story = Story(mute=("a", "b"), unheard=("b",))
    story.look()
    late = story.later(300)
    assert late.stalled is not None
    names = f"vampire--{OLD[7:19]} and vampire--{NEW[7:19]}"
    assert f"pod a for {names}; pod b for {names} (its agent is not heard); nobody" in late.stalled.message


def test_whoever_takes_over_goes_on_with_the_time_of_a_proof() -> None:
    story = Story(mute=("b",))
    story.look()
    story.later(290)
    again = Story(mute=("b",), status=story.known, now=story.now + 10)
    late = again.look()
    assert late.stalled is not None
    forgotten = Story(mute=("b",), now=story.now + 10)
    forgotten.status = story.known.model_copy(update={"rollout": story.rollout.model_copy(update={"check_since": ""})})
    assert forgotten.look().requeue_after == 300, "an operator that wrote no time is no reason to wait for ever"
    assert forgotten.later(300).stalled is not None


def test_each_step_has_the_whole_time_for_its_proof() -> None:
    story = Story()
    for percent in (10, 25, 50, 100):
        story.mute = ("b",)
        story.look_until("Checking")
        assert story.rollout.check_since == rfc3339(story.now)
        assert story.later(299).stalled is None
        story.mute = ()
        story.watch(percent)
        story.now += 60


def test_each_step_asks_for_a_proof_of_its_own() -> None:
    story, numbers = Story(), []
    for percent in (10, 25, 50, 100):
        story.watch(percent)
        numbers.append(story.rollout.check)
    assert numbers == [1, 2, 3, 4]


def test_a_proof_given_in_an_earlier_rollout_is_not_taken_for_the_next() -> None:
    story = Story()
    story.watch(25)
    checked = story.engines()
    again = Story()
    again.engines = lambda: checked  # type: ignore[method-assign] # pods remember the proof with number 2
    again.look()
    assert (again.rollout.phase, again.rollout.check) == ("Checking", 3)


def test_a_pod_that_joins_in_mid_rollout_must_prove_it_before_the_next_step_and_disturbs_nothing() -> None:
    story = Story()
    story.watch(10)
    story.pods, story.lacking = ("a", "b", "c"), {"c": (NEW,)}
    story.look()
    assert (story.rollout.phase, story.rollout.percent) == ("Watching", 10)
    story.later(60)
    story.later(1)
    assert (story.rollout.phase, story.rollout.percent) == ("Checking", 10)
    story.lacking = {}
    story.look()
    assert story.rollout.percent == 25


def test_without_any_ready_engine_no_step_is_taken_and_nothing_is_taken_back() -> None:
    story = Story()
    story.watch(10)
    story.pods = ()
    for _ in range(3):
        story.later(60)
    assert (story.rollout.percent, story.known.rejected) == (10, None)


# --- turn, gate, ceiling ---


def test_a_candidate_that_is_loaded_waits_for_its_turn() -> None:
    story = Story(facts={"turn": Turn(granted=False)})
    decision = story.look()
    assert (story.rollout.phase, decision.status.reason) == ("Waiting", reasons.WAITING_FOR_TURN)
    story.facts["turn"] = GRANTED
    story.watch(10)


def test_who_waits_for_a_turn_says_behind_whom_and_since_when() -> None:
    holders = ("king (since 2026-11-01T00:00:00Z)", "bat (about to begin)")
    story = Story(facts={"turn": Turn(granted=False, holders=holders)})
    message = story.look().status.message
    assert all(holder in message for holder in holders)


@pytest.mark.parametrize(("free_after", "looks"), [(None, 30.0), (60.0, 30.0), (3.5, 3.5)])
def test_who_waits_for_a_turn_looks_again_when_one_may_be_free(free_after: float | None, looks: float) -> None:
    story = Story(facts={"turn": Turn(granted=False, free_after=free_after)})
    assert story.look().requeue_after == looks


def test_what_would_move_at_once_waits_for_its_turn_like_any_other() -> None:
    story = Story(spec={"strategy": "Immediate"}, facts={"turn": Turn(granted=False)})
    decision = story.look()
    assert (story.rollout.phase, decision.status.reason) == ("Waiting", reasons.WAITING_FOR_TURN)
    assert decision.status.stable == revision(OLD)
    story.facts["turn"] = GRANTED
    assert story.look().status.stable == revision(NEW)


def test_what_would_move_at_once_claims_no_turn_that_it_could_not_use() -> None:
    story = Story(spec={"strategy": "Immediate"}, facts={"turn": Turn(granted=False)})
    story.look()
    story.lacking["b"] = (NEW,)
    assert story.look().status.rollout is None
    story.lacking.clear()
    story.look()
    assert story.rollout.phase == "Waiting"


@pytest.mark.parametrize(("wanted", "waits"), [(THIRD, False), (NEW, True)])
def test_going_back_at_once_to_what_served_before_waits_for_nobody(wanted: str, waits: bool) -> None:
    story = Story(wanted=wanted, status=stable_since_ever(OLD, THIRD), spec={"strategy": "Immediate"})
    story.facts["turn"] = Turn(granted=False)
    status = story.look().status
    assert (status.stable != revision(wanted)) == waits


def test_the_first_digest_of_a_voice_waits_for_nobody() -> None:
    story = Story(status=None, facts={"turn": Turn(granted=False)})
    assert story.look().status.stable == revision(NEW)


def test_a_turn_is_not_lost_by_a_lowered_limit() -> None:
    story = Story()
    story.watch(10)
    story.facts["turn"] = Turn(granted=False)
    story.watch(100)


def test_the_gate_looks_before_any_npc_hears_it() -> None:
    story = Story(spec={"analysis": {"gate": {"image": "gate:1"}}})
    assert story.look().status.reason == reasons.GATING
    story.gate("Running", "17 of 40 questions")
    decision = story.look()
    assert decision.reconciling is not None
    assert "17 of 40 questions" in decision.reconciling.message
    story.gate("Passed")
    story.watch(10)
    story.facts.pop("gate")  # the Job is removed some time after
    story.watch(100)


def test_a_failed_gate_takes_the_candidate_back_before_anybody_heard_it() -> None:
    story = Story(spec={"analysis": {"gate": {"image": "gate:1"}}})
    story.look()
    story.gate("Failed", "it swears")
    decision = story.look()
    assert decision.stalled is not None
    assert decision.stalled.reason == reasons.GATE_FAILED
    assert "it swears" in decision.stalled.message
    assert (story.made[-1].reason, story.made[-1].from_percent, story.made[-1].by) == (
        reasons.ROLLED_BACK,
        0,
        "rollout.analysis.gate",
    )
    assert story.later(1000).status.candidate is None


@pytest.mark.parametrize(
    ("own", "regions", "reached"),
    [(30, 100, 30), (100, 25, 25), (50, 40, 40), (5, 100, 5)],
    ids=["between two steps", "the region's", "the lower one", "below the first step"],
)
def test_a_rollout_holds_at_the_ceiling_until_its_digest_is_approved(own: int, regions: int, reached: int) -> None:
    story = Story(spec={"ceilingPercent": own}, facts={"ceiling_percent": regions})
    story.watch(reached)
    held = story.later(60)
    assert (story.rollout.phase, story.rollout.percent, held.status.reason) == (
        "Holding",
        reached,
        reasons.AWAITING_APPROVAL,
    )
    assert held.stalled is not None
    assert f"spec.rollout.approvedDigest to {NEW}" in held.stalled.message
    assert (held.ready, held.requeue_after) == (True, None)
    assert story.later(100_000).status == held.status
    assert story.reasons().count(reasons.HELD) == 1

    story.spec["approvedDigest"] = THIRD
    assert story.later(60).status == held.status, "another digest was approved"
    story.spec["approvedDigest"] = NEW
    story.facts["approved_by"] = "kubectl-npc"
    story.watch(100)
    assert story.later(60).moved_from == OLD
    above = [entry for entry in story.made if entry.reason == reasons.STEPPED and entry.to_percent > reached]
    assert {entry.by for entry in above} == {"kubectl-npc"}


def test_who_forgot_the_answers_of_a_step_that_awaits_approval_does_not_ask_for_them_again() -> None:
    story = Story(spec={"ceilingPercent": 10})
    story.watch(10)
    held = story.later(60)
    story.verdict, story.evidence = TOO_FEW, Evidence()
    assert story.later(3600).status == held.status
    story.spec["approvedDigest"] = NEW
    story.look()
    assert story.rollout.phase == "Checking"


def test_a_ceiling_of_nothing_holds_without_taking_a_turn() -> None:
    story = Story(spec={"ceilingPercent": 0}, facts={"turn": Turn(granted=False)})
    decision = story.look()
    assert (story.rollout.phase, story.rollout.since, decision.status.reason) == (
        "Holding",
        "",
        reasons.AWAITING_APPROVAL,
    )


def test_pinned_npcs_alone_hear_it_under_a_ceiling_of_nothing() -> None:
    overrides = [{"npc": "npc-7", "to": "Candidate"}]
    story = Story(spec={"ceilingPercent": 0, "overrides": overrides}, verdict=TOO_FEW)
    story.watch(0)
    assert (story.rollout.below, bool(story.rollout.since), story.rollout.check) == (0, True, 1)
    story.evidence = Evidence(lowest_heard=4000)
    story.later(60)
    assert (story.rollout.phase, story.rollout.below) == ("Holding", 0)
    story.verdict = BAD
    assert story.later(1).status.rejected is not None


def test_pins_to_stable_alone_need_no_share() -> None:
    story = Story(spec={"ceilingPercent": 0, "overrides": [{"npcPrefix": "king-", "to": "Stable"}]})
    story.look()
    assert (story.rollout.phase, story.rollout.since) == ("Holding", "")


def test_a_lowered_ceiling_takes_nothing_back() -> None:
    story = Story()
    story.watch(50)
    story.spec["ceilingPercent"] = 10
    story.later(60)
    assert (story.rollout.phase, story.rollout.percent) == ("Holding", 50)


# --- few players ---


@pytest.mark.parametrize(
    ("policy", "phase", "reason"),
    [("Probe", "Probing", reasons.PROBING), ("Hold", "Holding", reasons.TOO_LITTLE_TRAFFIC)],
)
def test_after_three_times_its_length_a_step_with_too_few_answers_asks_or_waits(
    policy: str, phase: str, reason: str
) -> None:
    story = Story(spec={"onTooLittleTraffic": policy}, verdict=TOO_FEW)
    story.watch(10)
    waiting = story.later(60)
    assert (story.rollout.phase, waiting.requeue_after) == ("Watching", 120)
    story.later(119)
    assert story.rollout.phase == "Watching"
    decision = story.later(1)
    assert (story.rollout.phase, decision.status.reason) == (phase, reason)
    assert story.later(3600).status == decision.status
    assert decision.stalled is None
    story.verdict = ENOUGH
    story.watch(25)


def test_after_three_times_its_length_a_step_may_go_on_without_answers() -> None:
    story = Story(spec={"onTooLittleTraffic": "Proceed"}, verdict=TOO_FEW)
    story.watch(10)
    story.later(179)
    assert story.rollout.phase == "Watching"
    story.later(1)
    story.look()
    assert story.rollout.percent == 25


@pytest.mark.parametrize(
    ("percent", "lowest", "below"),
    [
        (10, None, 1000),
        (10, 999, 1000),
        (10, 1000, 1001),
        (10, 9_999, 10_000),
        (100, 3, 10_000),
        (100, None, 10_000),
        (0, 4000, 0),
    ],
    ids=["nobody heard", "heard inside", "just outside", "the last bucket", "all", "all of nobody", "pins alone"],
)
def test_a_share_reaches_the_lowest_npc_that_was_heard(percent: int, lowest: int | None, below: int) -> None:
    assert threshold(percent, lowest) == below


def test_the_threshold_is_raised_as_soon_as_somebody_is_heard_and_never_falls() -> None:
    story = Story(verdict=TOO_FEW)
    story.watch(10)
    assert story.rollout.below == 1000
    story.evidence = Evidence(lowest_heard=3333)
    story.later(1)
    assert story.rollout.below == 3334
    story.evidence = Evidence(lowest_heard=12)
    story.later(1)
    assert story.rollout.below == 3334
    story.verdict = ENOUGH
    story.watch(25)
    assert story.rollout.below == 3334
    story.watch(50)
    assert story.rollout.below == 5000


# --- bad news ---


def crash(story: Story) -> None:
    story.facts["crashes"] = 2


def refuse(story: Story) -> None:
    story.phases = {("b", NEW): (AdapterPhase.REFUSED, "DigestMismatch")}


def fail_probe(story: Story) -> None:
    story.phases = {("b", NEW): (AdapterPhase.RETRYING, "ProbeFailed")}


def lose_identity(story: Story) -> None:
    story.phases = {("b", NEW): (AdapterPhase.RETRYING, "IdentityLost")}


def judge_bad(story: Story) -> None:
    story.verdict = BAD


def quarantine(story: Story) -> None:
    story.facts["quarantined"] = frozenset({NEW})


BAD_NEWS: list[tuple[Callable[[Story], None], str, str]] = [
    (judge_bad, "CandidateErrors", "rollout.analysis"),
    (crash, reasons.CRASH_LOOPING, "engine"),
    (refuse, reasons.PROBE_LOST, "probe"),
    (fail_probe, reasons.PROBE_LOST, "probe"),
    (lose_identity, reasons.IDENTITY_LOST, "probe"),
    (quarantine, reasons.QUARANTINED, "quarantinedDigests"),
]


@pytest.mark.parametrize("percent", [10, 50, 100])
@pytest.mark.parametrize(("news", "reason", "by"), BAD_NEWS, ids=lambda value: getattr(value, "__name__", ""))
def test_bad_news_take_the_candidate_back_at_once_and_for_good(
    news: Callable[[Story], None], reason: str, by: str, percent: int
) -> None:
    story = Story()
    story.watch(percent)
    news(story)
    decision = story.later(1)
    status = decision.status
    assert (status.candidate, status.rollout, status.percent, status.stable) == (None, None, 0, revision(OLD))
    assert status.rejected is not None
    assert (status.rejected.digest, status.rejected.reason) == (NEW, reason)
    assert decision.stalled is not None
    assert decision.stalled.reason == reason
    assert decision.ready is True, "the stable digest serves on"
    entry = status.history[0]
    assert (entry.reason, entry.from_percent, entry.to_percent, entry.by) == (reasons.ROLLED_BACK, percent, 0, by)
    assert entry.verdict.startswith(f"{reason}: ")

    # Not tried again, whatever happens, until another digest is named.
    story.verdict, story.phases, story.facts = ENOUGH, {}, {}
    for _ in range(3):
        again = story.later(10_000)
        assert (again.status.candidate, again.made) == (None, ())
    story.wanted = THIRD
    story.watch(10)
    assert story.known.rejected is None


@pytest.mark.parametrize("reason", ["Unreachable", "ProbeTimeout", "EngineUnavailable"])
def test_a_pod_that_cannot_reach_it_for_a_while_says_nothing_against_it(reason: str) -> None:
    story = Story()
    story.watch(10)
    story.phases = {("b", NEW): (AdapterPhase.RETRYING, reason)}
    story.later(1)
    assert (story.rollout.phase, story.known.rejected) == ("Watching", None)


def test_one_engine_that_ended_is_no_reason_and_is_remembered() -> None:
    story = Story()
    story.watch(10)
    story.facts["crashes"] = 1
    story.later(1)
    assert (story.rollout.percent, story.rollout.crashes) == (10, 1)


def test_stables_identity_lost_holds_the_step_and_does_not_blame_the_candidate() -> None:
    story = Story()
    story.watch(10)
    story.phases = {("a", OLD): (AdapterPhase.RETRYING, "IdentityLost")}
    decision = [story.later(60), story.later(1)][-1]
    assert (story.rollout.phase, story.known.rejected) == ("Checking", None)
    assert decision.reconciling is not None
    assert "pod a" in decision.reconciling.message
    assert "IdentityLost" in decision.reconciling.message


@pytest.mark.parametrize("due", [60, 180, 100_000])
def test_bad_wins_where_a_step_is_due_at_the_same_moment(due: float) -> None:
    story = Story()
    story.watch(25)
    story.verdict = BAD
    decision = story.later(due)
    assert decision.status.rejected is not None
    assert shares(story)[-1] == (10, 25)


def test_bad_is_heard_while_a_step_waits_for_proofs_or_for_approval() -> None:
    checking = Story()
    checking.watch(10)
    checking.mute = ("b",)
    checking.later(60)
    assert checking.rollout.phase == "Checking"
    holding = Story(spec={"ceilingPercent": 10})
    holding.watch(10)
    holding.later(60)
    assert holding.rollout.phase == "Holding"
    for story in (checking, holding):
        story.verdict = BAD
        assert story.later(1).status.rejected is not None


# --- people ---


def test_the_old_digest_put_back_cancels_and_forgets_the_rejection() -> None:
    story = Story(facts={"changed_by": "argocd"})
    story.watch(25)
    story.wanted = OLD
    back = story.look()
    assert (back.status.candidate, back.status.rollout, back.status.percent) == (None, None, 100)
    assert (back.made[0].reason, back.made[0].from_percent, back.made[0].by) == (reasons.CANCELLED, 25, "argocd")
    story.wanted, story.verdict = NEW, ENOUGH
    story.watch(10)
    story.verdict = BAD
    story.look()
    assert story.known.rejected is not None
    story.wanted = OLD
    cleared = story.look()
    assert (cleared.status.rejected, cleared.stalled) == (None, None)
    story.wanted, story.verdict = NEW, ENOUGH
    story.watch(10)


def test_each_try_of_a_candidate_has_a_number_of_its_own_whatever_ended_the_last_one() -> None:
    story = Story()
    assert story.known.attempt == 0
    story.watch(10)
    assert story.known.attempt == 1
    story.watch(50)
    assert story.known.attempt == 1, "steps are of one attempt"
    story.verdict = BAD
    assert story.look().status.rejected is not None
    story.wanted, story.verdict = OLD, ENOUGH
    assert story.look().status.attempt == 1
    story.wanted = NEW
    story.watch(10)
    assert story.known.attempt == 2
    story.facts["queued"] = Finding("WaitingForSlot", "no room")
    story.look()
    del story.facts["queued"]
    story.watch(10)
    assert story.known.attempt == 2, "what waited is the same try"
    story.wanted = THIRD
    story.watch(100)
    story.later(600)
    assert (story.known.stable, story.known.attempt) == (revision(THIRD), 3)


def test_a_new_digest_in_mid_rollout_begins_from_the_beginning() -> None:
    story = Story()
    story.watch(50)
    story.wanted, story.lacking = THIRD, {"b": (THIRD,)}
    decision = story.look()
    assert (story.known.candidate, story.rollout.phase, story.rollout.percent) == (revision(THIRD), "Loading", 0)
    assert decision.status.candidate_since == rfc3339(story.now)
    assert (decision.made[0].reason, decision.made[0].digest, decision.made[0].from_percent) == (
        reasons.CANCELLED,
        NEW,
        50,
    )


def test_all_at_once_in_mid_rollout_moves_the_rest_but_not_a_bad_one() -> None:
    story = Story()
    story.watch(10)
    worse = story.copy()
    story.spec["strategy"] = worse.spec["strategy"] = "Immediate"
    assert story.look().moved_from == OLD
    assert (story.made[-1].from_percent, story.made[-1].to_percent) == (10, 100)
    worse.verdict = BAD
    assert worse.look().status.rejected is not None


def test_a_ceiling_holds_what_would_move_at_once_too() -> None:
    story = Story(spec={"strategy": "Immediate"}, facts={"ceiling_percent": 50})
    decision = story.look()
    assert (decision.moved_from, decision.status.reason) == (None, reasons.AWAITING_APPROVAL)
    story.spec["approvedDigest"] = NEW
    assert story.look().moved_from == OLD


def test_a_fault_of_the_new_digest_takes_its_share_and_does_not_reject_it() -> None:
    story = Story()
    story.watch(25)
    story.facts["fault"] = Finding(reasons.SECRET_NOT_FOUND, "no Secret")
    decision = story.look()
    assert (decision.status.candidate, decision.status.rejected, decision.ready) == (None, None, True)
    assert (decision.made[0].reason, decision.made[0].from_percent) == (reasons.CANCELLED, 25)
    assert reasons.SECRET_NOT_FOUND in decision.made[0].verdict


def test_what_a_new_leader_has_not_read_does_not_keep_a_bad_candidate_on() -> None:
    story = Story()
    story.watch(25)
    story.facts["unread"] = Finding(reasons.PREPARING, "Secret bucket is being read")
    story.later(1)
    assert story.rollout.percent == 25
    story.verdict = BAD
    assert story.later(1).status.rejected is not None


# --- whoever comes next ---


def moments() -> list[tuple[str, Story]]:
    """A rollout after each of its looks."""
    story = Story(
        spec={"analysis": {"gate": {"image": "gate:1"}}, "ceilingPercent": 50}, facts={"turn": Turn(granted=False)}
    )
    found: list[tuple[str, Story]] = []

    def look() -> None:
        story.look()
        percent = 0 if story.known.rollout is None else story.rollout.percent
        found.append((f"{story.known.reason} at {percent}%", story.copy()))

    story.lacking = {"b": (NEW,)}
    look()
    story.lacking = {}
    look()
    story.facts["turn"] = GRANTED
    look()
    story.gate("Passed")
    for _ in range(20):
        look()
        if story.rollout.phase == "Watching":
            story.now += 60
        if story.rollout.phase == "Holding":
            story.spec["approvedDigest"] = NEW
        if story.rollout.percent == 100:
            break
    return found


@pytest.mark.parametrize(("moment", "story"), moments(), ids=[name for name, _ in moments()])
def test_an_operator_that_starts_anew_at_any_moment_goes_on_and_decides_nothing_twice(
    moment: str, story: Story
) -> None:
    """Its evidence may be lost too; then it is gathered anew."""
    before = story.known
    story.verdict, story.evidence = TOO_FEW, Evidence()
    again = story.look()
    if before.rollout is not None and again.status.rollout is not None:
        assert again.status.rollout.percent in (before.rollout.percent, *(to for _, to in SHARES))
        assert again.status.rollout.below >= before.rollout.below
    story.spec["approvedDigest"], story.facts["turn"] = NEW, GRANTED
    story.lacking = {}
    story.gate("Passed")
    story.verdict = ENOUGH
    story.watch(100)
    assert story.later(60).moved_from == OLD
    assert shares(story) == SHARES
    assert story.reasons().count(reasons.MOVED) == 1


def test_a_lost_status_in_mid_rollout_begins_again_from_the_older_digest() -> None:
    story = Story()
    story.watch(50)
    story.status = None
    story.lacking = dict.fromkeys(story.pods, (THIRD,))
    story.facts["serving"] = [
        (engine.pod.name, held)
        for engine in story.engines()
        if engine.agent is not None
        for held in engine.agent.adapters.of("vampire")
    ]
    decision = story.look()
    assert decision.status.stable is not None
    assert decision.status.stable.digest == OLD
    assert decision.made[0].reason == reasons.ADOPTED
    assert story.rollout.percent == 0


def test_two_tiers_of_one_voice_go_their_own_ways() -> None:
    gold, bronze = Story(), Story(verdict=TOO_FEW)
    gold.watch(50)
    bronze.watch(10)
    bronze.verdict = BAD
    assert bronze.later(1).status.rejected is not None
    assert gold.later(1).status.rejected is None


def test_history_keeps_the_ways_back_however_many_steps_were_taken() -> None:
    story = Story(status=stable_since_ever(OLD, THIRD))
    for number in range(6):
        story.wanted = NEW if number % 2 else THIRD
        story.watch(25)
        story.verdict = BAD
        story.look()
        story.verdict = ENOUGH
    assert len(story.known.history) == 10
    kept = [entry.digest for entry in story.known.history if entry.reason == reasons.MOVED]
    assert kept == [OLD, THIRD]


def test_every_message_fits_the_schema() -> None:
    story = Story()
    story.watch(10)
    long = "x" * 5000
    story.verdict = Verdict(Finding("CandidateErrors", long), enough=True, numbers=long)
    status = story.later(1).status
    assert status.rejected is not None
    assert len(status.rejected.message) <= 512
    assert len(status.history[0].verdict) <= 256
    assert len(status.message) <= 1024
