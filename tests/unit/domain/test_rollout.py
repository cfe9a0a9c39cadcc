"""One variant on one tier that moves all its traffic at once: state in, state out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from npc_operator.api.archetypeadapter import HistoryEntry, Revision, VariantStatus
from npc_operator.api.rollouts import Rollout
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding, rfc3339
from npc_operator.domain.engines import Engine
from npc_operator.domain.holdings import Held
from npc_operator.domain.rollout import HISTORY, Decision, RolloutFacts, decide_rollout, freeze
from npc_runtime.wire import AdapterPhase, EngineState
from tests.support.builders import agent_fact, digest, pod_fact, report

NOW = 1_790_000_000.0
AT_ONCE = Rollout(strategy="Immediate")
OLD, NEW, THIRD = digest("old"), digest("new"), digest("third")


def revision(value: str) -> Revision:
    return Revision(digest=value, uri=f"s3://adapters/{value[7:12]}", rank=8)


def engine(name: str, *reports: Held, **options: Any) -> Engine:
    pod = pod_fact(name)
    return Engine(pod, agent_fact(pod, reports, **options))


def silent(name: str) -> Engine:
    return Engine(pod_fact(name), None)


def has(value: str, phase: AdapterPhase = AdapterPhase.RESIDENT, **options: Any) -> Held:
    return report("vampire", value, phase, **options)


def status(stable: str | None = OLD, candidate: str | None = None, **more: Any) -> VariantStatus:
    return VariantStatus(
        tier="gold",
        stable=None if stable is None else revision(stable),
        candidate=None if candidate is None else revision(candidate),
        **more,
    )


def decide(wanted: str, before: VariantStatus | None, *engines: Engine, now: float = NOW, **more: Any) -> Decision:
    facts = RolloutFacts(
        archetype="vampire",
        tier="gold",
        wanted=revision(wanted),
        status=before,
        engines=engines,
        **{"rollout": AT_ONCE, **more},
    )
    return decide_rollout(facts, now)


def test_the_first_digest_serves_as_soon_as_every_ready_pod_has_it() -> None:
    waiting = decide(NEW, None, engine("a", has(NEW)), engine("b"))
    assert (waiting.status.stable, waiting.status.candidate) == (None, revision(NEW))
    assert (waiting.ready, waiting.why.reason) == (False, reasons.LOADING)
    moved = decide(NEW, waiting.status, engine("a", has(NEW)), engine("b", has(NEW)))
    assert moved.status.stable == revision(NEW)
    assert moved.moved_from == ""
    assert moved.status.history[0].reason == reasons.FIRST
    assert moved.ready is True


def test_nothing_moves_without_a_ready_engine() -> None:
    decision = decide(NEW, None)
    assert decision.status.stable is None
    assert (decision.ready, decision.why.reason) == (False, reasons.NO_READY_ENGINE)


def test_a_candidate_waits_for_the_last_pod_and_then_moves_once() -> None:
    held = decide(NEW, status(), engine("a", has(OLD), has(NEW)), engine("b", has(OLD)))
    assert held.status.stable == revision(OLD)
    assert held.status.percent == 0
    assert (held.status.resident_replicas, held.status.wanted_replicas) == (1, 2)
    assert held.ready is True
    moved = decide(NEW, held.status, engine("a", has(OLD), has(NEW)), engine("b", has(OLD), has(NEW)))
    assert moved.moved_from == OLD
    assert (moved.status.stable, moved.status.candidate, moved.status.percent) == (revision(NEW), None, 100)
    assert moved.status.history[0].previous == OLD
    again = decide(NEW, moved.status, engine("a", has(NEW)), engine("b", has(NEW)))
    assert again.moved_from is None
    assert again.status.history == moved.status.history


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (engine("b", has(OLD)), reasons.LOADING),
        (engine("b", has(OLD), has(NEW, AdapterPhase.FETCHING)), reasons.LOADING),
        (engine("b", has(OLD), has(NEW, AdapterPhase.RETRYING, reason="Unreachable")), reasons.RETRYING),
        (silent("b"), reasons.AGENT_UNKNOWN),
    ],
)
def test_what_a_candidate_waits_for_is_told(other: Engine, reason: str) -> None:
    decision = decide(NEW, status(), engine("a", has(OLD), has(NEW)), other)
    assert decision.moved_from is None
    assert decision.reconciling is not None
    assert decision.reconciling.reason == reason
    assert decision.stalled is None


def test_the_pod_that_is_furthest_behind_tells_how_far_its_fetch_is() -> None:
    half, less = (
        has(NEW, AdapterPhase.FETCHING, done_bytes=done, total_bytes=160_000_000) for done in (80_000_000, 57_000_000)
    )
    decision = decide(NEW, status(), engine("a", has(OLD), half), engine("b", has(OLD), less))
    assert decision.reconciling is not None
    assert decision.reconciling.message.endswith("0 of 2 pods; pod b fetches it: 35% of 160 MB")


def test_a_refusal_stalls_at_once_and_names_pod_and_reason() -> None:
    refusal = has(NEW, AdapterPhase.REFUSED, reason="RankTooHigh", message="rank 64 of 16")
    decision = decide(NEW, status(), engine("a", has(OLD), has(NEW)), engine("b", has(OLD), refusal))
    assert decision.stalled is not None
    assert decision.stalled.reason == "RankTooHigh"
    assert "pod b" in decision.stalled.message
    assert "rank 64 of 16" in decision.stalled.message
    assert decision.ready is True
    assert decision.status.reason == "RankTooHigh"


@pytest.mark.parametrize(
    ("since", "ready_since", "late"),
    [(NOW - 299, 0, False), (NOW - 301, 0, True), (NOW - 3000, NOW - 100, False), (NOW - 3000, NOW - 301, True)],
)
def test_a_pod_is_late_only_after_its_own_time(since: float, ready_since: float, late: bool) -> None:
    before = status(candidate=NEW, candidate_since=rfc3339(since))
    decision = decide(NEW, before, engine("b", has(OLD), since=ready_since))
    assert (decision.stalled is not None) is late
    if not late:
        assert decision.requeue_after == pytest.approx(max(since, ready_since) + 300 - NOW, abs=1)


def test_an_unheard_pod_is_named_as_such_when_it_is_late() -> None:
    before = status(candidate=NEW, candidate_since=rfc3339(NOW - 1000))
    decision = decide(NEW, before, silent("b"))
    assert decision.stalled is not None
    assert "its agent is not heard" in decision.stalled.message


def test_going_back_cancels() -> None:
    decision = decide(OLD, status(candidate=NEW, candidate_since=rfc3339(NOW)), engine("a", has(OLD), has(NEW)))
    assert decision.status.candidate is None
    assert decision.status.candidate_since == ""
    assert decision.ready is True


def test_another_digest_begins_its_own_time() -> None:
    before = status(candidate=NEW, candidate_since=rfc3339(NOW - 1000))
    decision = decide(THIRD, before, engine("a", has(OLD)))
    assert decision.status.candidate == revision(THIRD)
    assert decision.status.candidate_since == rfc3339(NOW)
    assert decision.stalled is None


def test_looking_again_keeps_the_candidates_time() -> None:
    first = decide(NEW, status(), engine("a", has(OLD)), now=NOW + 0.7)
    second = decide(NEW, first.status, engine("a", has(OLD)), now=NOW + 9)
    assert second.status == first.status


def test_the_same_bytes_from_another_place_are_no_rollout() -> None:
    facts = RolloutFacts(
        archetype="vampire",
        tier="gold",
        wanted=Revision(digest=OLD, uri="s3://elsewhere", rank=8),
        status=status(),
        engines=[engine("a", has(OLD))],
    )
    decision = decide_rollout(facts, NOW)
    assert decision.status.stable is not None
    assert decision.status.stable.uri == "s3://elsewhere"
    assert decision.status.history == ()
    assert decision.moved_from is None


def test_digests_that_look_alike_are_refused() -> None:
    alike = OLD[:-1] + ("0" if OLD[-1] != "0" else "1")
    decision = decide(alike, status(), engine("a", has(OLD)))
    assert decision.stalled is not None
    assert decision.stalled.reason == reasons.SERVED_NAME_CLASH
    assert decision.status.candidate is None
    assert decision.ready is True


def test_a_fault_bars_the_candidate_and_not_what_serves() -> None:
    decision = decide(NEW, status(), engine("a", has(OLD), has(NEW)), fault=Finding("RankAboveTier", "too high"))
    assert (decision.status.stable, decision.status.candidate) == (revision(OLD), None)
    assert decision.ready is True
    assert decision.stalled is not None


def test_what_was_not_read_yet_changes_no_digest_and_needs_no_person() -> None:
    """A new leader has read no Secret in its first moments."""
    unread = Finding(reasons.PREPARING, "Secret bucket is being read")
    begun = decide(NEW, status(), engine("a", has(OLD)), now=NOW - 60).status
    decision = decide(NEW, begun, engine("a", has(OLD), has(NEW)), unread=unread)
    assert (decision.status.stable, decision.status.candidate) == (begun.stable, begun.candidate)
    assert decision.status.candidate_since == begun.candidate_since
    assert (decision.ready, decision.stalled, decision.reconciling) == (True, None, unread)


@pytest.mark.parametrize(
    ("serving", "adopted"),
    [
        ([("a", has(OLD)), ("b", has(OLD)), ("a", has(NEW))], OLD),
        ([("a", has(OLD)), ("b", has(THIRD)), ("c", has(THIRD))], THIRD),
        ([("a", has(NEW)), ("b", has(NEW))], None),
        ([("a", has(OLD, AdapterPhase.LOADING))], None),
        ([], None),
    ],
)
def test_a_lost_status_is_what_most_pods_serve(serving: list[tuple[str, Held]], adopted: str | None) -> None:
    decision = decide(NEW, None, engine("a", has(OLD)), engine("b"), serving=serving)
    assert (decision.status.stable.digest if decision.status.stable else None) == adopted
    if adopted:
        assert decision.status.history[0].reason == reasons.ADOPTED


def test_a_stable_digest_missing_on_a_ready_pod_is_not_ready() -> None:
    decision = decide(OLD, status(), engine("a", has(OLD)), engine("b"))
    assert (decision.ready, decision.why.reason) == (False, reasons.LOADING)
    assert "b" in decision.why.message


def test_a_pod_that_is_only_joining_takes_nothing_away() -> None:
    joining = Engine(pod_fact("b", ready=False), agent_fact(pod_fact("b", ready=False)))
    decision = decide(OLD, status(), engine("a", has(OLD)), joining)
    assert decision.ready is True
    assert (decision.status.resident_replicas, decision.status.wanted_replicas) == (1, 2)


def test_silence_alone_is_unknown_and_never_bad() -> None:
    assert decide(OLD, status(), silent("a")).ready is None
    assert decide(OLD, status(), silent("a"), engine("b", has(OLD))).ready is True


def test_a_draining_or_restarting_engine_does_not_count() -> None:
    pod = pod_fact("b")
    for agent in (agent_fact(pod, draining=True), agent_fact(pod, state=EngineState.STARTING)):
        assert not Engine(pod, agent).counts()
    gone = replace(agent_fact(pod, reachable=False))
    assert Engine(pod, gone).counts()
    assert not Engine(pod_fact("b", ready=False), gone).counts()
    assert not Engine(pod_fact("b", deleting=True), agent_fact(pod)).counts()


def test_history_is_bounded_and_newest_first() -> None:
    old = tuple(HistoryEntry(time=rfc3339(0), digest=digest(str(n)), uri="s3://x") for n in range(HISTORY))
    decision = decide(NEW, status(history=old), engine("a", has(NEW)))
    assert len(decision.status.history) == HISTORY
    assert decision.status.history[0].digest == NEW
    assert decision.status.history[1:] == old[:-1]


def test_frozen_means_the_digests_stay() -> None:
    before = status(candidate=NEW, candidate_since=rfc3339(NOW))
    facts = RolloutFacts(
        archetype="vampire",
        tier="gold",
        wanted=revision(THIRD),
        status=before,
        engines=[engine("a", has(OLD), has(NEW), has(THIRD))],
    )
    decision = freeze(facts, "GpuTier gold", NOW)
    assert (decision.status.stable, decision.status.candidate) == (before.stable, before.candidate)
    assert decision.status.candidate_since == before.candidate_since
    assert decision.stalled is not None
    assert decision.stalled.reason == reasons.SUSPENDED
    assert "GpuTier gold" in decision.stalled.message


SLOTS = Finding(reasons.SLOTS_EXCEEDED, "no slot")


def test_a_swap_that_waits_for_others_calls_for_nobody_and_is_not_late_when_its_turn_comes() -> None:
    queued = decide(NEW, status(), engine("a", has(OLD)), queued=SLOTS)
    assert (queued.ready, queued.stalled, queued.reconciling) == (True, None, SLOTS)
    assert (queued.status.candidate, queued.status.candidate_since) == (revision(NEW), "")
    begun = decide(NEW, queued.status, engine("a", has(OLD)), now=NOW + 3600)
    assert begun.stalled is None
    assert begun.status.candidate_since == rfc3339(NOW + 3600)


def test_a_swap_that_can_get_no_slot_calls_for_a_person_and_the_stable_digest_serves_on() -> None:
    decision = decide(NEW, status(), engine("a", has(OLD)), waiting=SLOTS)
    assert (decision.ready, decision.stalled, decision.reconciling) == (True, SLOTS, None)


@pytest.mark.parametrize("wanted", [OLD, NEW])
def test_a_voice_that_lost_its_slot_is_not_ready_and_says_so_although_pods_still_have_it(wanted: str) -> None:
    decision = decide(wanted, status(), engine("a", has(OLD)), left_out=SLOTS)
    assert (decision.ready, decision.why, decision.stalled) == (False, SLOTS, SLOTS)
    assert decision.status.stable == revision(OLD)
    assert (decision.status.percent, decision.status.reason) == (0, reasons.SLOTS_EXCEEDED)


def test_a_late_pod_is_told_with_what_its_agent_says_even_without_a_reason() -> None:
    waits = has(NEW, AdapterPhase.LOADING, message="waits for a slot that zombie--1 still uses")
    before = status(candidate=NEW, candidate_since=rfc3339(NOW - 1000))
    decision = decide(NEW, before, engine("a", has(OLD), waits))
    assert decision.stalled is not None
    assert "pod a: still Loading: waits for a slot that zombie--1 still uses (" in decision.stalled.message


def test_a_refusal_without_a_reason_is_told_by_its_message() -> None:
    decision = decide(NEW, status(), engine("a", has(OLD), has(NEW, AdapterPhase.REFUSED, message="too odd")))
    assert decision.stalled is not None
    assert decision.stalled.reason == reasons.LOAD_TIMEOUT
    assert "pod a: too odd (" in decision.stalled.message
