"""Taking a candidate back: what is bad enough for it, and what is written down.

It needs neither fetch nor load, because the stable digest stays on every pod for as long as there is a candidate. What
was taken back is not tried again until the variant names another digest; the status remembers it over every restart.
"""

from __future__ import annotations

from dataclasses import replace

from npc_operator.api.archetypeadapter import Rejection, Revision
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding, clip, join_messages, rfc3339
from npc_operator.domain.rollout.facts import Decision, RolloutFacts, State
from npc_operator.domain.rollout.history import (
    BY_ANALYSIS,
    BY_ENGINE,
    BY_GATE,
    BY_PROOF,
    BY_QUARANTINE,
    remember,
)
from npc_operator.domain.rollout.loading import quote
from npc_operator.domain.rollout.settle import settle
from npc_runtime.wire import AdapterPhase

CRASHES = 2
"""Engine processes that have to end before the candidate is held responsible: one may end for any reason."""
LOSING = frozenset({"IdentityLost", "ProbeFailed", "ProbeMismatch"})
"""An agent's reasons for trying again that speak against the adapter itself, not against the way to it."""
OR_ENGINE = frozenset({"ProbeFailed"})
"""Of those, what an engine in trouble says of every adapter: they count where the stable digest is proven beside it."""


def find_bad(facts: RolloutFacts, state: State) -> tuple[Finding, str] | None:
    """Why a candidate that every pod had proven must be taken back, and which policy says so; the surest first."""
    if facts.wanted.digest in facts.quarantined:
        return Finding(reasons.QUARANTINED, "its digest is quarantined"), facts.quarantined_by or BY_QUARANTINE
    lost = _find_lost(facts, state)
    if lost is not None:
        return lost, BY_PROOF
    if facts.crashes >= CRASHES and state.has_traffic():
        message = f"{facts.crashes} engine processes ended while they had it"
        return Finding(reasons.CRASH_LOOPING, message), BY_ENGINE
    # Also of one that lost its traffic to a want of slots and is about to have some again.
    return None if facts.verdict.bad is None else (facts.verdict.bad, BY_ANALYSIS)


def find_failed_gate(facts: RolloutFacts) -> tuple[Finding, str] | None:
    """The user's own test did not let it pass."""
    if facts.gate is None or facts.gate.state != "Failed":
        return None
    return Finding(reasons.GATE_FAILED, facts.gate.message or "the gate did not pass"), BY_GATE


def _find_lost(facts: RolloutFacts, state: State) -> Finding | None:
    name = facts.name(facts.wanted.digest)
    stable = "" if state.stable is None else facts.name(state.stable.digest)
    found = []
    for engine in facts.engines:
        report = engine.report(name)
        if report is None:
            continue
        losing = report.phase is AdapterPhase.RETRYING and report.reason in LOSING
        if losing and report.reason in OR_ENGINE and not engine.proven(stable):
            continue
        if losing or report.phase is AdapterPhase.REFUSED:
            found.append((report.reason, f"pod {engine.pod.name}: {quote(report)}"))
    if not found:
        return None
    identity = any(reason == reasons.IDENTITY_LOST for reason, _ in found)
    reason = reasons.IDENTITY_LOST if identity else reasons.PROBE_LOST
    return Finding(reason, join_messages(text for _, text in found))


def reject(facts: RolloutFacts, state: State, finding: Finding, by: str, now: float) -> Decision:
    """The candidate is off; the stable digest has all traffic."""
    state = take_back(facts, state, facts.wanted, finding, by, now)
    stalled = None if state.rejected is None else describe_rejection(facts, state.rejected)
    return replace(settle(facts, state, stalled=stalled), after_first_bad=find_delay(facts, finding, by, now))


def take_back(facts: RolloutFacts, state: State, candidate: Revision, finding: Finding, by: str, now: float) -> State:
    """Without the candidate, which is not to be tried again."""
    percent = state.rollout.percent if state.rollout is not None else 0
    numbers = facts.verdict.numbers if by == BY_ANALYSIS else finding.message
    after = find_delay(facts, finding, by, now)
    if after is not None:
        numbers = f"{after:.1f} s after the first bad answer: {numbers}"
    rejected = Rejection(
        digest=candidate.digest,
        time=rfc3339(now),
        reason=clip(finding.reason, 64),
        message=clip(finding.message, 512),
    )
    return remember(
        replace(state, candidate=None, since=None, rollout=None, rejected=rejected),
        candidate,
        reasons.ROLLED_BACK,
        now,
        by=by,
        previous=state.stable.digest if state.stable is not None else "",
        from_percent=percent,
        verdict=f"{finding.reason}: {numbers}",
    )


def find_delay(facts: RolloutFacts, finding: Finding, by: str, now: float) -> float | None:
    """Seconds since the first bad answer, where that is what it was taken back for. Two machines' clocks may differ by
    more than it took: never less than nothing."""
    first = facts.evidence.first_bad_at
    if first is None or by != BY_ANALYSIS or finding.reason == reasons.CANDIDATE_SLOW:
        return None
    return max(0.0, now - first)


def describe_rejection(facts: RolloutFacts, rejected: Rejection) -> Finding:
    """What a person reads for as long as the spec names what was taken back."""
    message = (
        f"tier {facts.tier}: {facts.name(rejected.digest)} was taken back at {rejected.time}: {rejected.message}; "
        "the stable digest serves, and this one is not tried again until the variant names another digest"
    )
    return Finding(rejected.reason, message)
