"""From a decided state to the status that is published: everything that is counted, and what is said of it."""

from __future__ import annotations

from npc_operator.api.archetypeadapter import VariantStatus
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding, clip, parse_rfc3339, rfc3339
from npc_operator.domain.rollout.facts import Decision, RolloutFacts, Serving, State
from npc_operator.domain.rollout.loading import describe_serving


def settle(
    facts: RolloutFacts,
    state: State,
    *,
    stalled: Finding | None = None,
    reconciling: Finding | None = None,
    moved_from: str | None = None,
    requeue_after: float | None = None,
) -> Decision:
    """Count, and say what serves."""
    before = facts.status or VariantStatus(tier=facts.tier)
    stalled = stalled if facts.left_out is None or facts.fault is not None else facts.left_out
    newest = state.candidate or state.stable or facts.wanted
    newest_name = facts.name(newest.digest)
    ready, why = describe_serving(facts, state)
    if ready is not True and reconciling is None and stalled is None and state.stable is not None:
        reconciling = why
    said = stalled or reconciling or (why if ready is not True else None)
    status = VariantStatus(
        tier=facts.tier,
        serving=_what_answers(facts, state),
        stable=state.stable,
        candidate=state.candidate,
        candidate_since=_same_time(before, state.since) if state.candidate is not None else "",
        attempt=state.attempt,
        rollout=state.rollout,
        rejected=state.rejected,
        percent=_share_of_newest(facts, state),
        resident_replicas=sum(engine.proven(newest_name) for engine in facts.engines),
        wanted_replicas=len(facts.engines),
        reason=clip(said.reason, 64) if said is not None else reasons.SERVING,
        message=clip(said.message, 1024) if said is not None else "",
        history=state.history,
    )
    return Decision(
        status=_unless_only_counts(before, status),
        ready=ready,
        why=why,
        reconciling=reconciling,
        stalled=stalled,
        made=state.made,
        moved_from=moved_from,
        requeue_after=requeue_after,
    )


def _what_answers(facts: RolloutFacts, state: State) -> Serving:
    if state.stands_in():
        return facts.stand_in  # the persona may have changed
    if state.stable is None:
        return ""
    return state.serving or "Stable"


def _share_of_newest(facts: RolloutFacts, state: State) -> int:
    if facts.left_out is not None or state.stands_in():
        return 0
    if state.stable is not None and state.stable.digest == facts.wanted.digest:
        return 100
    return state.rollout.percent if state.rollout is not None else 0


def _same_time(before: VariantStatus, since: float | None) -> str:
    if since is None:
        return ""
    # Whole seconds are written, so the text already there is kept instead of being rounded again.
    return before.candidate_since if parse_rfc3339(before.candidate_since) == since else rfc3339(since)


def _unless_only_counts(before: VariantStatus, after: VariantStatus) -> VariantStatus:
    """How many answers were judged changes all the time, and is no reason to write: it goes along with other news."""
    if after.rollout is None or before.rollout is None or after.rollout.requests == before.rollout.requests:
        return after
    rollout = after.rollout.model_copy(update={"requests": before.rollout.requests})
    quiet = after.model_copy(update={"rollout": rollout})
    return quiet if quiet == before else after
