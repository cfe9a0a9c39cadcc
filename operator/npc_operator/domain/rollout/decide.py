"""The next state of one variant, from what is observed now.

The rules are tried in order and the first that applies decides: what must not be used, what is not wanted any more,
what cannot be had, and only then how the candidate goes on. Everything is decided from what is observed, so a new
leader goes on where the last one stopped; if the status was lost, what the agents serve is stable.
"""

from __future__ import annotations

from dataclasses import replace

from npc_operator.api.archetypeadapter import RolloutStatus
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding
from npc_operator.domain.rollout.canary import advance_canary
from npc_operator.domain.rollout.facts import Decision, RolloutFacts, State, read_state
from npc_operator.domain.rollout.history import BY_OBSERVATION, BY_STRATEGY, halt, remember
from npc_operator.domain.rollout.loading import describe_progress, find_blocking_pod, pick_adopted
from npc_operator.domain.rollout.quarantine import apply_quarantine, describe_quarantine
from npc_operator.domain.rollout.queueing import may_move_at_once, wait_for_turn
from npc_operator.domain.rollout.rollback import describe_rejection, find_bad, find_delay, reject, take_back
from npc_operator.domain.rollout.settle import settle
from npc_operator.domain.rollout.words import describe_approval

BEFORE_TRAFFIC = frozenset({"Waiting", "Gating", "Checking"})
"""Phases of a candidate that has, or is to have, a turn among the region's rollouts."""


def decide_rollout(facts: RolloutFacts, now: float) -> Decision:
    """The next state of one variant."""
    state = _settle_stable(facts, read_state(facts.status), now)
    stable, wanted = state.stable, facts.wanted
    if state.rejected is not None and state.rejected.digest != wanted.digest:
        state = replace(state, rejected=None)
    if facts.fault is not None:
        return settle(facts, _drop(facts, state, now, facts.fault.reason), stalled=facts.fault)
    if stable is not None and stable.digest == wanted.digest:
        # The same bytes: only where they come from may have changed.
        serving = state.serving if state.stands_in() else "Stable"
        return settle(facts, replace(_drop(facts, state, now), stable=wanted, serving=serving, rejected=None))
    if wanted.digest in facts.quarantined:
        if _is_candidate(facts, state) and state.has_traffic() and (bad := find_bad(facts, state)) is not None:
            return reject(facts, state, *bad, now)
        return settle(facts, _drop(facts, state, now), stalled=describe_quarantine(facts, state))
    if state.rejected is not None:
        return settle(facts, _drop(facts, state, now), stalled=describe_rejection(facts, state.rejected))
    if stable is not None and facts.name(stable.digest) == facts.name(wanted.digest):
        clash = Finding(
            reasons.SERVED_NAME_CLASH,
            f"digest {wanted.digest} begins like the stable {stable.digest}; change any byte of the adapter",
        )
        return settle(facts, _drop(facts, state, now, reasons.SERVED_NAME_CLASH), stalled=clash)
    if facts.unread is not None and not (_is_candidate(facts, state) and state.has_traffic()):
        # A new leader has read nothing at first; what the last one had under way is neither dropped nor begun again.
        return settle(facts, state, reconciling=facts.unread)
    if not _is_candidate(facts, state):
        dropped = _drop(facts, _give_up_first(facts, state, now), now)
        state = replace(dropped, candidate=wanted, attempt=state.attempt + 1)
    if facts.left_out or facts.waiting or facts.queued:
        # Without `since`: what has no slot is not late, and its time begins when it has one.
        why = (facts.left_out or facts.waiting or facts.queued or Finding("", "")).reason
        state = replace(halt(state, now, by=BY_OBSERVATION, why=why), candidate=wanted, since=None)
        return settle(facts, state, stalled=facts.waiting, reconciling=facts.queued)
    state = replace(state, candidate=wanted, since=now if state.since is None else state.since)
    if facts.rollout.strategy == "Canary" and stable is not None and not _is_overdue(facts, state, now):
        return advance_canary(facts, state, now)
    return _advance_at_once(facts, state, now)


def _settle_stable(facts: RolloutFacts, state: State, now: float) -> State:
    """With a stable digest that may be used, if there is any."""
    state = apply_quarantine(facts, state, now)
    if state.stable is not None or state.stands_in():
        return state
    adopted = pick_adopted(facts)
    if adopted is None:
        return state
    return remember(
        replace(state, stable=adopted, serving="Stable"),
        adopted,
        reasons.ADOPTED,
        now,
        by=BY_OBSERVATION,
        to_percent=100,
    )


def _is_candidate(facts: RolloutFacts, state: State) -> bool:
    return state.candidate is not None and state.candidate.digest == facts.wanted.digest


def _give_up_first(facts: RolloutFacts, state: State, now: float) -> State:
    """The spec names another digest before the first was on every pod: what some have of it never served, and the
    history says so, or it would pass for what a lost status had as stable."""
    if state.candidate is None or state.stable is not None or state.stands_in():
        return state
    return remember(state, state.candidate, reasons.CANCELLED, now, by=facts.changed_by or BY_OBSERVATION)


def _drop(facts: RolloutFacts, state: State, now: float, why: str = "") -> State:
    """Without the present candidate. That one with traffic lost it is a decision of whoever changed the spec, or has
    another reason."""
    by = BY_OBSERVATION if why else facts.changed_by or BY_OBSERVATION
    return replace(halt(state, now, by=by, why=why), candidate=None, since=None)


def _is_overdue(facts: RolloutFacts, state: State, now: float) -> bool:
    """Whether no adapter answers although the wanted digest could: what a step would be compared with was to be brought
    back first, and does not come."""
    since = now if state.since is None else state.since
    late = now >= since + facts.rollout.load_timeout_seconds
    return state.stands_in() and late and facts.all_have(facts.wanted.digest)


def _advance_at_once(facts: RolloutFacts, state: State, now: float) -> Decision:
    """All traffic moves when every pod has it: the first digest of a voice, or because the spec says so."""
    wanted, stable = facts.wanted, None if state.stands_in() else state.stable
    if state.has_traffic() and (bad := find_bad(facts, state)) is not None:
        return reject(facts, state, *bad, now)
    if stable is not None and facts.ceiling() < 100:
        held = facts.all_have(wanted.digest) or state.has_traffic()
        rollout = state.rollout or RolloutStatus(phase="Loading")
        state = replace(state, rollout=rollout.model_copy(update={"phase": "Holding" if held else "Loading"}))
        if held:
            return settle(facts, state, stalled=describe_approval(facts, state.rollout or rollout))
    elif facts.all_have(wanted.digest):
        if not may_move_at_once(facts, state):
            return wait_for_turn(facts, state)
        previous = stable.digest if stable is not None else ""
        before = state.rollout.percent if state.rollout is not None else 0
        state = replace(state, stable=wanted, candidate=None, since=None, rollout=None, serving="Stable")
        state = remember(
            state,
            wanted,
            reasons.MOVED if previous else reasons.FIRST,
            now,
            by=BY_STRATEGY,
            previous=previous,
            from_percent=before,
            to_percent=100,
        )
        return settle(facts, state, moved_from=previous)
    elif state.rollout is not None and state.rollout.phase == "Waiting":
        # A pod that has just come is to have it first: nobody else waits for a turn that could not be used.
        state = replace(state, rollout=None)
    held_up, deadline = find_blocking_pod(facts, now if state.since is None else state.since, now)
    return settle(
        facts,
        state,
        stalled=held_up,
        reconciling=describe_progress(facts),
        requeue_after=None if deadline is None else max(0.0, deadline - now),
    )


def freeze(facts: RolloutFacts, by: str, now: float) -> Decision:
    """Suspended `by` the voice itself, its tier or its region: the digests stay, only the counts follow what is
    observed. What protects players goes on all the same: a quarantine holds, because it was named after that or needs
    nobody's leave, and a candidate that some hear is still judged and taken back. `facts` tell what was seen of the
    status's candidate, whatever the spec has come to name."""
    state = apply_quarantine(facts, read_state(facts.status), now)
    if state.rollout is not None and state.rollout.phase in BEFORE_TRAFFIC and not state.has_traffic():
        # What goes nowhere must keep no turn from others.
        state = replace(state, rollout=RolloutStatus(phase="Loading"))
    if state.candidate is not None and state.candidate.digest in facts.quarantined:
        state = replace(halt(state, now, by=facts.quarantined_by or BY_OBSERVATION), candidate=None, since=None)
    delay, candidate, rollout = None, state.candidate, state.rollout
    if candidate is not None and rollout is not None and state.has_traffic():
        seen = replace(facts, wanted=candidate)
        state = replace(state, rollout=rollout.model_copy(update={"crashes": facts.crashes}))
        if (bad := find_bad(seen, state)) is not None:
            state, delay = take_back(seen, state, candidate, *bad, now), find_delay(seen, *bad, now)
    text = f"spec.suspend of {by} is true: what is resident serves on, nothing changes"
    if state.rejected is not None:
        text = f"{text}. {describe_rejection(facts, state.rejected).message}"
    return replace(settle(facts, state, stalled=Finding(reasons.SUSPENDED, text)), after_first_bad=delay)
