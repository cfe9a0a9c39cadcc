"""What a tier's status says, from its pods, its Deployments and its agents. One rule, one finding; the first of each
list speaks.

A pod that waits for a node is not a fault (an autoscaler may bring one), one that a person has to look at is. What is
not known is not held against a tier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from npc_operator.api import names
from npc_operator.api.capacity import CapacityStatus
from npc_operator.api.gputier import GpuTierStatus, Slices, SliceStatus
from npc_operator.api.interruption import InterruptionStatus
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding, Summary, build_conditions, clip, join_messages
from npc_operator.domain.engines import Engine
from npc_operator.domain.facts import ContainerFact, SecretFact, Tier
from npc_operator.domain.progress import coarse_share, describe_bytes
from npc_operator.domain.replicas import Split
from npc_runtime.wire import EngineState

PULL_FAULTS = frozenset({"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull"})
CONFIG_FAULTS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


@dataclass(frozen=True, slots=True)
class TierFacts:
    """Everything a tier's status is made of."""

    tier: Tier
    region: str
    """Name of the region that names the tier; empty if none does."""
    wanted: int
    split: Split
    """What both slices should have: with overprovision, stand-ins and replacements this is more than is wanted."""
    engines: Sequence[Engine]
    capacity: CapacityStatus = field(default_factory=CapacityStatus)
    """Why they should have so many."""
    interruptions: InterruptionStatus = field(default_factory=InterruptionStatus)
    deployments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Status of the slices' Deployments, as far as known."""
    preparing: bool = False
    """The namespace's keys are not there yet, so no pod can start."""
    model_secret: SecretFact | None = None
    """Of model.secretRef; None if unknown or not referred to."""
    faults: tuple[Finding, ...] = ()
    """Children that could not be written and need a person."""
    errors: tuple[str, ...] = ()
    """Children that could not be written now."""
    adapters: int = 0
    resident_adapters: int = 0
    left_out: Finding | None = None
    fallback: Finding | None = None
    """What is wrong with spec.fallbackTier."""
    selector: str = ""
    newborn: bool = False
    """The tier was created a moment ago."""
    node_pools: tuple[tuple[str, str, Finding], ...] = ()
    """The conditions about its nodes and its interruption queue, where there are such."""

    def alive(self) -> list[Engine]:
        return [engine for engine in self.engines if engine.alive()]

    def ready(self) -> list[Engine]:
        return [engine for engine in self.alive() if engine.pod.ready]

    def beyond(self) -> int:
        """Pods that are there on purpose beyond the wanted number: overprovision, stand-ins and replacements."""
        intended = self.split.on_demand + self.split.spot
        return max(0, min(len(self.alive()), intended) - self.wanted)


Rule = Callable[[TierFacts], Finding | None]


def find_suspended(facts: TierFacts) -> Finding | None:
    if not facts.tier.spec.suspend:
        return None
    return Finding(reasons.SUSPENDED, "spec.suspend is true: what runs goes on serving, nothing changes")


def find_child_faults(facts: TierFacts) -> Finding | None:
    return facts.faults[0] if facts.faults else None


def find_missing_secret(facts: TierFacts) -> Finding | None:
    reference, secret = facts.tier.spec.model.secret_ref, facts.model_secret
    if reference is None or secret is None or secret.resource_version:
        return None
    return Finding(reasons.SECRET_NOT_FOUND, f"Secret {reference.name} of model.secretRef does not exist; create it")


def find_refused_pods(facts: TierFacts) -> Finding | None:
    """The API server creates no pods: a quota, a limit range or an admission rule."""
    for slice_, status in sorted(facts.deployments.items()):
        for condition in status.get("conditions") or ():
            if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
                return Finding(reasons.QUOTA_EXCEEDED, f"{slice_}: {condition.get('message', 'pods are refused')}")
    return None


def find_pull_faults(facts: TierFacts) -> Finding | None:
    found = [_describe(engine, one) for engine, one in _waiting(facts) if one.waiting_reason in PULL_FAULTS]
    return Finding(reasons.IMAGE_PULL_FAILED, join_messages(found)) if found else None


def find_config_faults(facts: TierFacts) -> Finding | None:
    found = [
        (one.waiting_reason, _describe(engine, one))
        for engine, one in _waiting(facts)
        if one.waiting_reason in CONFIG_FAULTS
    ]
    return Finding(found[0][0], join_messages(text for _, text in found)) if found else None


def find_crash_loops(facts: TierFacts) -> Finding | None:
    found = [
        f"pod {engine.pod.name}: container {one.name} ended {one.restarts} times"
        f" ({one.terminated_reason or 'Error'}{'' if one.exit_code is None else f', exit code {one.exit_code}'});"
        f" see kubectl logs {engine.pod.name} -c {one.name} --previous"
        for engine, one in _waiting(facts)
        if one.waiting_reason == "CrashLoopBackOff"
    ]
    return Finding(reasons.CRASH_LOOPING, join_messages(found)) if found else None


def find_missed_deadline(facts: TierFacts) -> Finding | None:
    for slice_, status in sorted(facts.deployments.items()):
        if slice_ == names.SLICE_SPOT and _only_lacks_nodes(facts, slice_):
            continue  # a Deployment's deadline passes in a closed market, too
        for condition in status.get("conditions") or ():
            if condition.get("type") == "Progressing" and condition.get("reason") == reasons.PROGRESS_DEADLINE:
                return Finding(reasons.PROGRESS_DEADLINE, f"{slice_}: {condition.get('message', 'no progress')}")
    return None


def _only_lacks_nodes(facts: TierFacts, slice_: str) -> bool:
    """Whether nobody misses the pods of a slice that are not ready, and none of them ever got as far as a node."""
    return _stood_in_for(facts) and not any(
        engine.pod.node and not engine.pod.ready for engine in facts.alive() if engine.pod.slice == slice_
    )


def _stood_in_for(facts: TierFacts) -> bool:
    return facts.capacity.extra_on_demand > 0 and len(facts.ready()) >= facts.wanted


def describe_no_region(facts: TierFacts) -> Finding | None:
    if facts.region:
        return None
    name = facts.tier.meta.name
    message = f"no NPCRegion names tier {name}, so it keeps {facts.wanted} replicas; add it to a region's spec.tiers"
    return Finding(reasons.NO_REGION, message)


def find_no_region(facts: TierFacts) -> Finding | None:
    return None if facts.newborn else describe_no_region(facts)


def find_fallback(facts: TierFacts) -> Finding | None:
    return None if facts.newborn else facts.fallback


def find_left_out(facts: TierFacts) -> Finding | None:
    return facts.left_out


STALLED: tuple[Rule, ...] = (
    find_suspended,
    find_child_faults,
    find_missing_secret,
    find_refused_pods,
    find_pull_faults,
    find_config_faults,
    find_crash_loops,
    find_missed_deadline,
    find_no_region,
    find_fallback,
    find_left_out,
)


def find_preparing(facts: TierFacts) -> Finding | None:
    return (
        Finding(reasons.PREPARING, "the namespace's keys and certificates are being made") if facts.preparing else None
    )


def find_errors(facts: TierFacts) -> Finding | None:
    return Finding(reasons.RETRYING, join_messages(facts.errors)) if facts.errors else None


def find_unschedulable(facts: TierFacts) -> Finding | None:
    """Spot pods without a node are nothing to wait for while on-demand pods stand in: the market may be closed for
    days."""
    if _stood_in_for(facts):
        return None
    found = [
        f"pod {engine.pod.name}: {engine.pod.unschedulable}" for engine in facts.alive() if engine.pod.unschedulable
    ]
    return Finding(reasons.UNSCHEDULABLE, join_messages(found, limit=1)) if found else None


def find_fetching(facts: TierFacts) -> Finding | None:
    text = describe_model(facts)
    return Finding(reasons.FETCHING_MODEL, text) if text else None


def find_rolling(facts: TierFacts) -> Finding | None:
    for slice_, status in sorted(facts.deployments.items()):
        total, updated = status.get("replicas", 0), status.get("updatedReplicas", 0)
        if total and updated < total:
            return Finding(reasons.ROLLING, f"{slice_}: {updated} of {total} pods have the present template")
    return None


def find_starting(facts: TierFacts) -> Finding | None:
    ready, alive = len(facts.ready()), len(facts.alive())
    if ready < facts.wanted:
        return Finding(reasons.STARTING, f"{ready} of {facts.wanted} pods are ready; {_what_starts(facts)}")
    if alive - facts.beyond() > facts.wanted and not find_rolling(facts):
        return Finding(reasons.STARTING, f"{alive} pods are there, {facts.wanted + facts.beyond()} are wanted")
    return None


def find_awaited_region(facts: TierFacts) -> Finding | None:
    """Just created: the region, or the tier to fall back to, may be the next object to be applied."""
    return (describe_no_region(facts) or facts.fallback) if facts.newborn else None


RECONCILING: tuple[Rule, ...] = (
    find_preparing,
    find_awaited_region,
    find_errors,
    find_unschedulable,
    find_fetching,
    find_rolling,
    find_starting,
)


def describe_model(facts: TierFacts) -> str:
    """Progress of the base model's fetch, coarsely, for the pod that is furthest behind."""
    found: list[tuple[float, str]] = []
    for engine in facts.alive():
        if engine.agent is None or engine.agent.engine.state is not EngineState.FETCHING_MODEL:
            continue
        done, total = engine.agent.engine.done_bytes, engine.agent.engine.total_bytes
        text = f"pod {engine.pod.name} fetches the base model: {describe_bytes(done, total)}"
        found.append((coarse_share(done, total), text))
    return clip(min(found)[1], 256) if found else ""


def _what_starts(facts: TierFacts) -> str:
    """What the first pod that is not ready is doing."""
    for engine in facts.alive():
        if engine.pod.ready:
            continue
        if not engine.pod.node:
            return f"pod {engine.pod.name} waits for a node"
        if engine.agent is None:
            return f"pod {engine.pod.name} is starting"
        if engine.agent.engine.state is EngineState.READY:
            return f"pod {engine.pod.name} loads its adapters"
        return f"pod {engine.pod.name}: engine {engine.agent.engine.state.value}"
    return "pods are being created"


def _waiting(facts: TierFacts) -> list[tuple[Engine, ContainerFact]]:
    return [(engine, one) for engine in facts.alive() for one in engine.pod.containers if one.waiting_reason]


def _describe(engine: Engine, one: ContainerFact) -> str:
    return f"pod {engine.pod.name}: container {one.name}: {one.waiting_reason}: {one.waiting_message}"


def summarize_tier(facts: TierFacts) -> Summary:
    """The tier's conditions: ready when as many pods are ready as are wanted, whatever else is going on."""
    ready = len(facts.ready())
    stalled = next((found for rule in STALLED if (found := rule(facts)) is not None), None)
    reconciling = next((found for rule in RECONCILING if (found := rule(facts)) is not None), None)
    if facts.wanted == 0:
        why = Finding(reasons.SCALED_TO_ZERO, "no replicas are wanted")
    elif ready >= facts.wanted:
        why = Finding(reasons.SERVING, f"{facts.wanted} of {facts.wanted} pods are ready")
    else:
        why = reconciling or stalled or Finding(reasons.STARTING, f"{ready} of {facts.wanted} pods are ready")
    if facts.tier.spec.suspend:
        reconciling = None
    return Summary(ready=ready >= facts.wanted, why=why, reconciling=reconciling, stalled=stalled)


def build_tier_status(facts: TierFacts, now: float) -> GpuTierStatus:
    """The whole status, as it is published."""
    tier = facts.tier
    ready = facts.ready()

    def slice_status(slice_: str) -> SliceStatus:
        return SliceStatus(desired=facts.split.of(slice_), ready=sum(engine.pod.slice == slice_ for engine in ready))

    return GpuTierStatus(
        observed_generation=tier.meta.generation,
        # Without those an autoscaler that divides by it would take them for a load that sank.
        replicas=len(facts.alive()) - facts.beyond(),
        ready_replicas=len(ready),
        wanted_replicas=facts.wanted,
        selector=facts.selector,
        capacity=facts.capacity,
        interruptions=facts.interruptions,
        slices=Slices(on_demand=slice_status(names.SLICE_ON_DEMAND), spot=slice_status(names.SLICE_SPOT)),
        adapters=facts.adapters,
        resident_adapters=facts.resident_adapters,
        model=describe_model(facts),
        conditions=build_conditions(
            summarize_tier(facts),
            tier.status.conditions,
            generation=tier.meta.generation,
            now=now,
            more=facts.node_pools,
        ),
    )
