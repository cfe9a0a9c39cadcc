"""What people read while a rollout is under way.

No number in it moves while nothing else does: a status is no gauge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from npc_operator.api.archetypeadapter import RolloutStatus
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding, join_messages
from npc_operator.domain.engines import Engine
from npc_operator.domain.rollout.facts import RolloutFacts, State
from npc_operator.domain.rollout.identity import find_unproven
from npc_operator.domain.rollout.loading import quote

SHOWN_HOLDERS = 5
"""Voices with a turn that a message names: as many as have one by default."""


def _about(facts: RolloutFacts) -> str:
    return f"tier {facts.tier}: {facts.name(facts.wanted.digest)}"


def describe_share(rollout: RolloutStatus) -> str:
    """Who hears it."""
    return f"{rollout.percent}% of the NPCs" if rollout.percent else "the pinned NPCs alone"


def describe_turn(facts: RolloutFacts) -> Finding:
    text = f"{_about(facts)} is loaded and waits for its turn among the region's rollouts (rolloutLimits.maxConcurrent)"
    if facts.turn.holders:
        text = f"{text}, behind {join_messages(facts.turn.holders, SHOWN_HOLDERS)}"
    return Finding(reasons.WAITING_FOR_TURN, text)


def describe_gate(facts: RolloutFacts) -> Finding:
    said = f": {facts.gate.message}" if facts.gate is not None and facts.gate.message else ""
    return Finding(reasons.GATING, f"{_about(facts)} is looked at by the gate before any NPC hears it{said}")


def describe_check(facts: RolloutFacts, state: State, number: int) -> Finding:
    """Before a step: whose proof is missing."""
    if not facts.engines:
        return Finding(reasons.NO_READY_ENGINE, f"{_about(facts)} waits: no pod has a ready engine")
    missing = _describe_unproven(find_unproven(facts, state, number))
    text = f"{_about(facts)}: its identity is proven again before the next step; missing: {missing}"
    return Finding(reasons.CHECKING, text)


def describe_late_check(facts: RolloutFacts, rollout: RolloutStatus, late: Iterable[tuple[Engine, str]]) -> Finding:
    """Proofs that did not come in time: whose, what goes on meanwhile, and what to do."""
    heard = "nobody hears it yet, the stable digest serves on"
    if rollout.since:
        heard = f"{describe_share(rollout)} hear it as before, the stable digest serves all others"
    text = (
        f"{_about(facts)}: its identity was not proven again within {facts.rollout.load_timeout_seconds} s on "
        f"{_describe_unproven(late)}; {heard}. Look at the pod's agent or delete the pod: the rollout goes on by "
        "itself once every pod has proven it"
    )
    return Finding(reasons.IDENTITY_TIMEOUT, text)


def _describe_unproven(found: Iterable[tuple[Engine, str]]) -> str:
    """Pod by pod: which served names, and what its agent says of them."""
    pods: dict[str, tuple[Engine, list[str]]] = {}
    for engine, name in found:
        pods.setdefault(engine.pod.name, (engine, []))[1].append(name)
    return join_messages(_describe_pod(engine, names) for engine, names in pods.values())


def _describe_pod(engine: Engine, names: Sequence[str]) -> str:
    said = [quote(report) for name in names if (report := engine.report(name)) is not None and report.reason]
    if engine.agent is None or not engine.agent.reachable:
        said = ["its agent is not heard"]
    return f"pod {engine.pod.name} for {' and '.join(names)}{f' ({said[0]})' if said else ''}"


def describe_watch(facts: RolloutFacts, rollout: RolloutStatus) -> Finding:
    """During a step."""
    spec = facts.rollout
    text = (
        f"{_about(facts)} answers {describe_share(rollout)} since {rollout.since} (step {rollout.step} of "
        f"{len(spec.steps)}); the step takes {spec.step_seconds} s and {spec.analysis.min_requests} answers"
    )
    return Finding(reasons.WATCHING, text)


def describe_probing(facts: RolloutFacts, rollout: RolloutStatus) -> Finding:
    text = (
        f"{_about(facts)} answers {describe_share(rollout)} since {rollout.since}, and too few of them speak: the "
        f"gateways ask the probe's question until there are {facts.rollout.analysis.min_requests} answers"
    )
    return Finding(reasons.PROBING, text)


def describe_shortage(facts: RolloutFacts, rollout: RolloutStatus) -> Finding:
    text = (
        f"{_about(facts)} answers {describe_share(rollout)} since {rollout.since} and waits for players until there "
        f"are {facts.rollout.analysis.min_requests} answers (rollout.onTooLittleTraffic is Hold)"
    )
    return Finding(reasons.TOO_LITTLE_TRAFFIC, text)


def describe_approval(facts: RolloutFacts, rollout: RolloutStatus) -> Finding:
    """At the ceiling, or above one that was lowered since: which field a person has to set."""
    whose = (
        "rollout.ceilingPercent"
        if facts.rollout.ceiling_percent <= facts.ceiling_percent
        else "rolloutLimits.ceilingPercent of the region"
    )
    text = (
        f"{_about(facts)} holds at {rollout.percent}% of the NPCs ({whose} is {facts.ceiling()}); to let it go on set "
        f"spec.rollout.approvedDigest to {facts.wanted.digest}"
    )
    return Finding(reasons.AWAITING_APPROVAL, text)
