"""A candidate's way in steps: loaded everywhere, its turn, the user's own test, then NPC by NPC, each step judged.

Every phase is in the status, and everything else is looked at anew each time, so whoever comes next goes on from there.
Bad news is heard first, in every phase; a step is never taken back but by taking the candidate back altogether.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from npc_operator.api.archetypeadapter import RolloutStatus
from npc_operator.domain import reasons
from npc_operator.domain.conditions import parse_rfc3339, rfc3339
from npc_operator.domain.rollout import identity
from npc_operator.domain.rollout.facts import Decision, RolloutFacts, State
from npc_operator.domain.rollout.history import BY_CEILING, BY_STEPS, BY_TRAFFIC, remember
from npc_operator.domain.rollout.loading import describe_progress, find_blocking_pod
from npc_operator.domain.rollout.queueing import wait_for_turn
from npc_operator.domain.rollout.rollback import find_bad, find_failed_gate, reject
from npc_operator.domain.rollout.settle import settle
from npc_operator.domain.rollout.words import (
    describe_approval,
    describe_check,
    describe_gate,
    describe_late_check,
    describe_probing,
    describe_shortage,
    describe_watch,
)
from npc_runtime.wire import NPC_BUCKETS

PATIENCE = 3
"""A step that has too few answers after so many times its length does something about it."""
SKEW_SECONDS = 2.0
"""How far ahead the beginning of a step may be: whole seconds are written, and two leaders' clocks differ."""
UNWATCHED_LOOK_SECONDS = 1.0
"""How soon to ask again whether every gateway is heard."""


def advance_canary(facts: RolloutFacts, state: State, now: float) -> Decision:
    """The next state of a candidate that takes over in steps."""
    rollout = state.rollout or RolloutStatus(phase="Loading")
    state = replace(state, candidate=facts.wanted, rollout=rollout)
    if rollout.phase == "Loading":
        if not facts.all_have(facts.wanted.digest) or state.stands_in():
            return _load(facts, state, now)
    elif (bad := find_bad(facts, state)) is not None:
        return reject(facts, state, *bad, now)
    if state.has_traffic():
        return _watch(facts, state, rollout, now)
    return _prepare(facts, state, rollout, now)


def _load(facts: RolloutFacts, state: State, now: float) -> Decision:
    since = now if state.since is None else state.since
    held, deadline = find_blocking_pod(facts, since, now)
    awaited = ""
    if state.stands_in() and state.stable is not None and facts.all_have(facts.wanted.digest):
        awaited, deadline = state.stable.digest, since + facts.rollout.load_timeout_seconds
    return settle(
        facts,
        state,
        stalled=held,
        reconciling=describe_progress(facts, awaited),
        requeue_after=None if deadline is None else max(0.0, deadline - now),
    )


def _prepare(facts: RolloutFacts, state: State, rollout: RolloutStatus, now: float) -> Decision:
    """It is loaded and nobody hears it yet."""
    target = next_percent(facts, rollout)
    if target is None and not any(one.to == "Candidate" for one in facts.rollout.overrides):
        return _hold_for_approval(facts, state, rollout, now)
    if rollout.phase not in ("Gating", "Checking") and not facts.turn.granted:
        return wait_for_turn(facts, state)
    if facts.rollout.analysis.gate is not None and rollout.check == 0:
        failed = find_failed_gate(facts)
        if failed is not None:
            return reject(facts, state, *failed, now)
        if facts.gate is None or facts.gate.state != "Passed":
            return settle(facts, _put(state, rollout, phase="Gating"), reconciling=describe_gate(facts))
    return _check(facts, state, rollout, target or 0, now)


def _watch(facts: RolloutFacts, state: State, rollout: RolloutStatus, now: float) -> Decision:
    """Some NPCs hear it, and nothing speaks against it."""
    rollout = _begun_by_now(rollout, now)
    below = max(rollout.below, threshold(rollout.percent, facts.evidence.lowest_heard))
    counts = {"requests": facts.evidence.candidate.requests, "crashes": facts.crashes}
    rollout = rollout.model_copy(update={"below": below, **counts})
    target = next_percent(facts, rollout)
    if rollout.phase == "Checking" and target is not None:
        return _go_on(facts, state, rollout, target, now)
    began = parse_rfc3339(rollout.since) or now
    had_enough = _was_held_for_approval(facts, rollout)
    due = began + facts.rollout.step_seconds
    late = began + PATIENCE * facts.rollout.step_seconds
    if now < due:
        return _keep_watching(facts, state, rollout, now, until=due)
    # Where only pinned NPCs hear it, nobody can say how many answers there will be; and what has held for approval had
    # enough before, even if whoever counted them is gone.
    if not facts.verdict.enough and rollout.percent > 0 and not had_enough:
        if now < late:
            return _keep_watching(facts, state, rollout, now, until=late)
        if facts.rollout.on_too_little_traffic == "Probe":
            return settle(facts, _put(state, rollout, phase="Probing"), reconciling=describe_probing(facts, rollout))
        if facts.rollout.on_too_little_traffic == "Hold":
            state = _note_hold(state, facts, rollout, now, by=BY_TRAFFIC, why=reasons.TOO_LITTLE_TRAFFIC)
            return settle(facts, _put(state, rollout, phase="Holding"), reconciling=describe_shortage(facts, rollout))
    if target is None and (rollout.percent < 100 or facts.ceiling() < 100):
        return _hold_for_approval(facts, state, rollout, now)
    return _go_on(facts, state, rollout, target, now)


def _go_on(facts: RolloutFacts, state: State, rollout: RolloutStatus, target: int | None, now: float) -> Decision:
    """To the next share, or, with all of them, to being stable: only while every gateway is heard. One that is cut off
    goes on with the share it knows, and takes a bad candidate off alone."""
    if facts.unwatched is not None:
        state = replace(state, rollout=rollout)
        return settle(facts, state, reconciling=facts.unwatched, requeue_after=UNWATCHED_LOOK_SECONDS)
    if target is None:
        return _promote(facts, state, rollout, now)
    return _check(facts, state, rollout, target, now)


def _begun_by_now(rollout: RolloutStatus, now: float) -> RolloutStatus:
    """A step that began in time to come was begun by another clock, or before this one was set back: it would last as
    much longer, so it begins now. So does one of which nobody can read when it began."""
    began = parse_rfc3339(rollout.since)
    if began is not None and began <= now + SKEW_SECONDS:
        return rollout
    return rollout.model_copy(update={"since": rfc3339(math.ceil(now))})


def _keep_watching(facts: RolloutFacts, state: State, rollout: RolloutStatus, now: float, *, until: float) -> Decision:
    state = _put(state, rollout, phase="Watching")
    return settle(facts, state, reconciling=describe_watch(facts, rollout), requeue_after=max(0.0, until - now))


def _check(facts: RolloutFacts, state: State, rollout: RolloutStatus, target: int, now: float) -> Decision:
    """Every pod proves once more what it serves, then the step is taken. A pod that never says so holds the step: it is
    named, and nobody loses what they hear now."""
    number, asked = rollout.check, parse_rfc3339(rollout.check_since)
    if rollout.phase != "Checking":
        number, asked = identity.next_number(facts, state, rollout), None
    rollout = rollout.model_copy(
        update={"check": number, "check_since": rfc3339(now) if asked is None else rollout.check_since}
    )
    if identity.is_proven(facts, state, number):
        return _step(facts, state, rollout, target, now)
    held, load_by = find_blocking_pod(facts, state.since or now, now)
    late, prove_by = identity.find_late(facts, state, number, now if asked is None else asked, now)
    deadline = min((due for due in (load_by, prove_by) if due is not None), default=None)
    return settle(
        facts,
        _put(state, rollout, phase="Checking"),
        stalled=held or (describe_late_check(facts, rollout, late) if late else None),
        reconciling=describe_check(facts, state, number),
        requeue_after=None if deadline is None else max(0.0, deadline - now),
    )


def _step(facts: RolloutFacts, state: State, rollout: RolloutStatus, target: int, now: float) -> Decision:
    taken = rollout.model_copy(
        update={
            "phase": "Watching",
            "step": sum(step <= target for step in facts.rollout.steps),
            "percent": target,
            "below": max(rollout.below, threshold(target, facts.evidence.lowest_heard)),
            # Whole seconds are written: rounded up, so that a step never lasts less than it should.
            "since": rfc3339(math.ceil(now)),
            "requests": facts.evidence.candidate.requests,
        }
    )
    above = target > min(facts.rollout.ceiling_percent, facts.ceiling_percent)
    state = remember(
        replace(state, rollout=taken),
        facts.wanted,
        reasons.STEPPED,
        now,
        by=(facts.approved_by if above else "") or _decided_by(facts, rollout),
        previous=state.stable.digest if state.stable is not None else "",
        from_percent=rollout.percent,
        to_percent=target,
        verdict=_describe_numbers(facts, rollout),
    )
    until = math.ceil(now) + facts.rollout.step_seconds
    return settle(facts, state, reconciling=describe_watch(facts, taken), requeue_after=until - now)


def _promote(facts: RolloutFacts, state: State, rollout: RolloutStatus, now: float) -> Decision:
    previous = state.stable.digest if state.stable is not None else ""
    state = remember(
        replace(state, stable=facts.wanted, candidate=None, since=None, rollout=None, serving="Stable"),
        facts.wanted,
        reasons.MOVED,
        now,
        by=_decided_by(facts, rollout),
        previous=previous,
        from_percent=rollout.percent,
        to_percent=100,
        verdict=_describe_numbers(facts, rollout),
    )
    return settle(facts, state, moved_from=previous)


def _proceeds(facts: RolloutFacts, rollout: RolloutStatus) -> bool:
    """Whether a rollout goes on although too few players spoke, because the spec says so."""
    heard = bool(rollout.since) and rollout.percent > 0
    return heard and not facts.verdict.enough and facts.rollout.on_too_little_traffic == "Proceed"


def _decided_by(facts: RolloutFacts, rollout: RolloutStatus) -> str:
    return BY_TRAFFIC if _proceeds(facts, rollout) else BY_STEPS


def _describe_numbers(facts: RolloutFacts, rollout: RolloutStatus) -> str:
    """By which numbers a step is taken, and whether they are too few."""
    numbers = facts.verdict.numbers if rollout.since else ""
    return f"{reasons.TOO_LITTLE_TRAFFIC}: {numbers}" if _proceeds(facts, rollout) else numbers


def _hold_for_approval(facts: RolloutFacts, state: State, rollout: RolloutStatus, now: float) -> Decision:
    state = _note_hold(state, facts, rollout, now, by=BY_CEILING, why=reasons.AWAITING_APPROVAL)
    return settle(facts, _put(state, rollout, phase="Holding"), stalled=describe_approval(facts, rollout))


def _note_hold(state: State, facts: RolloutFacts, rollout: RolloutStatus, now: float, *, by: str, why: str) -> State:
    """Into the history, once: what holds already is there."""
    if rollout.phase == "Holding" and facts.status is not None and facts.status.reason == why:
        return state
    return remember(
        state,
        facts.wanted,
        reasons.HELD,
        now,
        by=by,
        from_percent=rollout.percent,
        to_percent=rollout.percent,
        verdict=": ".join(filter(None, (why, facts.verdict.numbers if rollout.since else ""))),
    )


def _was_held_for_approval(facts: RolloutFacts, rollout: RolloutStatus) -> bool:
    said = facts.status.reason if facts.status is not None else ""
    return rollout.phase == "Holding" and said == reasons.AWAITING_APPROVAL


def _put(state: State, rollout: RolloutStatus, **changes: Any) -> State:
    return replace(state, rollout=rollout.model_copy(update=changes))


def next_percent(facts: RolloutFacts, rollout: RolloutStatus) -> int | None:
    """The share that the next step gives the candidate, at most the ceiling; None where that is no more than it has."""
    target = next((step for step in facts.rollout.steps if step > rollout.percent), 100)
    target = min(target, facts.ceiling())
    return target if target > rollout.percent else None


def threshold(percent: int, lowest_heard: int | None) -> int:
    """NPCs in lower buckets hear the candidate. Raised so that one NPC heard lately is among them: few NPCs, such as a
    Gold archetype's, often leave a small share empty. A share of nothing stays nothing.
    """
    below = percent * NPC_BUCKETS // 100
    if not 0 < percent < 100 or lowest_heard is None or lowest_heard < below:
        return below
    return min(NPC_BUCKETS, lowest_heard + 1)
