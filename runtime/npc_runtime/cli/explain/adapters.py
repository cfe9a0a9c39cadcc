"""Why a voice does not serve its newest digest: per tier what the status says, then the tier and pods it hangs on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .. import vocabulary as v
from ..facts import Adapter, Pod, VariantState, World
from ..rollouts import short
from .advice import AGENTS, next_step
from .chain import Link, gather, sentence
from .degraded import explain_degraded
from .moves import explain_moves
from .operators import explain_unobserved
from .pods import explain_pod
from .tiers import explain_tier

FINE = frozenset({"Serving", ""})
TOLD = frozenset({"RolledBack"})
"""Reasons that only say that `moves` has something to tell."""
OF_THE_TIER = frozenset({"NoReadyEngine", "SlotsExceeded", "NoRegion"})
"""Reasons of a voice whose cause is to be found at its tier."""
_WHY = re.compile(r"\bpod [a-z0-9.-]+: ([A-Z][A-Za-z]+): ")
_PAUSED = re.compile(r"\bspec\.suspend of ([A-Za-z]+) ([a-z0-9][a-z0-9.-]*) is true")
_POD = re.compile(r"\bpod ([a-z0-9][a-z0-9.-]*[a-z0-9])")


@dataclass(frozen=True, slots=True)
class AdapterCase:
    """One voice among everything else, at one moment."""

    adapter: Adapter
    world: World
    now: float

    @property
    def thing(self) -> str:
        return f"adapter {self.adapter.meta.name}"


def find_unobserved(case: AdapterCase) -> Sequence[Link]:
    return explain_unobserved(case.thing, v.KIND_ADAPTER, case.adapter.meta, case.adapter.conditions)


def find_terminating(case: AdapterCase) -> Sequence[Link]:
    if not case.adapter.meta.deleted:
        return ()
    says = "It is being deleted; its digests leave the pods when nobody uses them any more."
    return [Link(object=case.thing, reason="Terminating", since=case.adapter.meta.deleted, says=says, next="nothing")]


def find_degraded(case: AdapterCase) -> Sequence[Link]:
    return explain_degraded(case.adapter, case.world, case.now)


def find_variants(case: AdapterCase) -> Sequence[Link]:
    return [link for state in case.adapter.states for link in explain_variant(case, state)]


def find_unsaid(case: AdapterCase) -> Sequence[Link]:
    """A Stalled condition that no variant repeats."""
    condition = case.adapter.conditions.find(v.STALLED)
    if condition is None or condition.status != "True":
        return ()
    if any(condition.reason == one for state in case.adapter.states for one in _said(state)):
        return ()
    step = _advice(case, condition.reason)
    says = f"A person is needed: {sentence(condition.message)}"
    return [Link(object=case.thing, reason=condition.reason, since=condition.since, says=says, next=step)]


def explain_variant(case: AdapterCase, state: VariantState) -> list[Link]:
    """One tier of a voice, and what is below it."""
    moves = explain_moves(case.adapter, state, case.world)
    if state.reason in FINE or (moves and state.reason in TOLD) or any(link.reason == state.reason for link in moves):
        return moves
    newest = short(state.candidate or _wanted(case, state.tier))
    serves = _serves(state)
    proven = f"{newest} is proven on {state.resident} of {state.wanted} pods" if state.wanted else "no pod counts yet"
    condition = case.adapter.conditions.find(v.STALLED) or case.adapter.conditions.find(v.READY)
    since = state.candidate_since or (condition.since if condition is not None else "")
    pods = _named_pods(case, state)
    step = _resume(case, state) or _advice(
        case, _innermost(state), tier=state.tier, pod=pods[0].meta.name if pods else ""
    )
    said = state.message.removeprefix(f"tier {state.tier}: ") or state.reason
    says = f"On tier {state.tier} {serves}, and {proven}: {sentence(said)}"
    links = [*moves, Link(object=case.thing, reason=state.reason, since=since, says=says, next=step)]
    tier = case.world.tier(state.tier)
    if tier is not None and state.reason in OF_THE_TIER:
        links += explain_tier(tier, case.world, case.now)
    for pod in pods:
        links += explain_pod(pod, case.world, case.now)
    return links


def _resume(case: AdapterCase, state: VariantState) -> str:
    """How to go on where the status names what is paused, which may be the tier or the region; empty elsewhere."""
    found = _PAUSED.search(state.message) if state.reason == "Suspended" else None
    if found is None or found.group(1) not in v.SHORT:
        return ""
    short = v.SHORT[found.group(1)]
    return next_step("Suspended", namespace=case.adapter.meta.namespace, short=short, name=found.group(2))


def _serves(state: VariantState) -> str:
    stable = short(state.stable)
    if not state.stable:
        return "nothing of it is served yet"
    if not state.candidate:
        return f"{stable} is what it serves"
    if state.rollout is not None and state.rollout.percent:
        return f"{short(state.candidate)} keeps its {state.rollout.percent}% of the NPCs and {stable} all others"
    return f"traffic stays on {stable}"


def _said(state: VariantState) -> tuple[str, ...]:
    """The reasons by which a tier's state is told."""
    return (state.reason, *((state.rejected.reason, *TOLD) if state.rejected is not None else ()))


def _innermost(state: VariantState) -> str:
    """The agent's own reason where the status only says that something is tried again or late."""
    if state.reason not in ("Retrying", "LoadTimeout"):
        return state.reason
    found = _WHY.search(state.message)
    return found.group(1) if found is not None and found.group(1) in AGENTS else state.reason


def _wanted(case: AdapterCase, tier: str) -> str:
    return next((one.digest for one in case.adapter.variants if one.tier == tier), "")


def _named_pods(case: AdapterCase, state: VariantState) -> list[Pod]:
    """The pods that a message speaks of, as far as they exist."""
    # AgentUnknown lists names without the word; every pod of the tier is looked for in the message.
    words = set(_POD.findall(state.message)) | set(re.split(r"[\s;:,]+", state.message))
    return [pod for pod in case.world.pods_of(state.tier) if pod.meta.name in words]


def _advice(case: AdapterCase, reason: str, *, tier: str = "", pod: str = "") -> str:
    meta = case.adapter.meta
    return next_step(
        reason, namespace=meta.namespace, short=v.SHORT[v.KIND_ADAPTER], name=meta.name, tier=tier, pod=pod
    )


RULES = (find_unobserved, find_terminating, find_degraded, find_variants, find_unsaid)


def explain_adapter(adapter: Adapter, world: World, now: float) -> tuple[Link, ...]:
    """The chain of a voice; empty if every tier serves the newest digest, and players hear it."""
    return gather(RULES, AdapterCase(adapter, world, now))
