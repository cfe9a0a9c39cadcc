"""Digests that must not be used: what takes the place of a stable one.

First the newest digest that was stable before it, which has to be loaded and proven as any other; until then, and where
there is none, the base model with the persona's prompt or scripted lines, as the gateways' fallback has it.
"""

from __future__ import annotations

from dataclasses import replace

from npc_operator.api.archetypeadapter import Revision
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding
from npc_operator.domain.desired import ANY_RANK
from npc_operator.domain.rollout.facts import RolloutFacts, State
from npc_operator.domain.rollout.history import BECAME_STABLE, BY_QUARANTINE, halt, remember
from npc_runtime.wire import AdapterPhase

_ANSWERS = {
    "BaseModel": "the base model answers with the persona's prompt",
    "Scripted": "scripted lines answer",
    "Nothing": "no adapter answers on this tier, and the voice has neither persona.systemPrompt nor scriptedLines",
}


def apply_quarantine(facts: RolloutFacts, state: State, now: float) -> State:
    """The state without a quarantined stable digest; with the last good one as soon as that is proven everywhere."""
    stable = state.stable
    if stable is not None and stable.digest in facts.quarantined and not state.stands_in():
        state = remember(
            halt(state, now, by=BY_QUARANTINE),
            stable,
            reasons.QUARANTINED,
            now,
            by=facts.quarantined_by or BY_QUARANTINE,
            from_percent=100,
        )
        state = replace(state, serving=facts.stand_in)
    if not state.stands_in():
        return state
    # Looked for again each time: the one that was found may be refused or quarantined meanwhile, and what was
    # quarantined may be released.
    good = pick_last_good(facts, state)
    if good is None or state.stable is None or good.digest != state.stable.digest:
        state = replace(state, stable=good, serving=facts.stand_in)
    if state.stable is None or not facts.all_have(state.stable.digest):
        return state
    replaced = next((entry.digest for entry in state.history if entry.reason == reasons.QUARANTINED), "")
    return remember(
        replace(state, serving="LastGood"),
        state.stable,
        reasons.RESTORED,
        now,
        by=BY_QUARANTINE,
        previous="" if replaced == state.stable.digest else replaced,
        to_percent=100,
    )


def pick_last_good(facts: RolloutFacts, state: State) -> Revision | None:
    """The newest digest that was stable, may be used, was not taken back since, and is refused by no pod."""
    taken_back = set() if state.rejected is None else {state.rejected.digest}
    for entry in state.history:
        if entry.reason == reasons.ROLLED_BACK:
            taken_back.add(entry.digest)
        if entry.reason not in BECAME_STABLE or entry.digest in taken_back:
            continue
        if entry.digest in facts.quarantined or _is_refused(facts, entry.digest):
            continue
        if not entry.uri and not facts.all_have(entry.digest):
            continue  # nobody knows any more where it came from
        # History does not say with which credentials it was fetched, nor how high its rank was: the variant's own
        # credentials fit the same store, and the engine's own bound on ranks holds anyway.
        return Revision(digest=entry.digest, uri=entry.uri, secret_ref=facts.wanted.secret_ref, rank=ANY_RANK)
    return None


def _is_refused(facts: RolloutFacts, digest: str) -> bool:
    name = facts.name(digest)
    reports = (engine.report(name) for engine in facts.engines)
    return any(report is not None and report.phase is AdapterPhase.REFUSED for report in reports)


def describe_quarantine(facts: RolloutFacts, state: State) -> Finding:
    """What a person reads while the spec names a quarantined digest."""
    text = f"tier {facts.tier}: {facts.name(facts.wanted.digest)} is quarantined"
    if state.stable is None:
        answers = f"no earlier digest is left, so {_ANSWERS[facts.stand_in]}"
    elif state.stands_in():
        answers = f"{facts.name(state.stable.digest)} is being brought back; until then {_ANSWERS[facts.stand_in]}"
    else:
        answers = f"{facts.name(state.stable.digest)} serves"
    return Finding(reasons.QUARANTINED, f"{text}; {answers}; name another digest")
