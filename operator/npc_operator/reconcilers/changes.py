"""What changed between two words about the same thing, as far as somebody else has to look again because of it."""

from __future__ import annotations

from dataclasses import replace

from npc_operator.api.archetypeadapter import Revision, VariantStatus
from npc_operator.domain.facts import Adapter, AgentFact, GatewayFact, Pod
from npc_operator.domain.holdings import Held
from npc_operator.domain.progress import coarse_share
from npc_operator.domain.reasons import SLOTS_EXCEEDED
from npc_operator.domain.turns import holds_turn
from npc_operator.loop.store import Change
from npc_runtime.wire import NO_STAMP, AdapterPhase

TELLING = frozenset({AdapterPhase.RESIDENT, AdapterPhase.REFUSED, AdapterPhase.RETRYING, AdapterPhase.DRAINING})
"""Phases of which entering or leaving changes what a status says; the others are progress."""


def is_reshaped(change: Change) -> bool:
    """Whether anything but the status of one of our objects changed."""
    old, new = change.old, change.new
    if old is None or new is None or old.spec != new.spec:
        return True
    before, after = old.meta, new.meta
    return bool(
        before.uid != after.uid
        or before.labels != after.labels
        or before.annotations != after.annotations
        or before.deletion_timestamp != after.deletion_timestamp
    )


def archetype_of(adapter: Adapter) -> str:
    return adapter.spec.archetype


def is_gated(adapter: Adapter | None) -> bool:
    """Whether the user has a test of their own for candidates of the voice."""
    return adapter is not None and adapter.spec.rollout.analysis.gate is not None


def waits_for_slot(adapter: Adapter) -> bool:
    """Whether a status says that something of the voice has no slot."""
    return any(status.reason == SLOTS_EXCEEDED for status in adapter.status.variants)


def waits_for_turn(adapter: Adapter) -> bool:
    """Whether a candidate of the voice is loaded and may not have traffic yet, because others have."""
    return any(status.rollout is not None and status.rollout.phase == "Waiting" for status in adapter.status.variants)


def has_turn(adapter: Adapter | None) -> bool:
    """Whether a candidate of the voice has traffic, or is about to."""
    return adapter is not None and any(holds_turn(status.rollout) for status in adapter.status.variants)


def reach_of(adapter: Adapter | None) -> dict[str, object]:
    """Per tier, what of an adapter reaches pods and routes."""
    if adapter is None:
        return {}
    published = {status.tier: _published(status) for status in adapter.status.variants}
    spec = adapter.spec
    common = (
        spec.archetype,
        spec.importance,
        spec.probe,
        spec.suspend,
        spec.rollout,
        spec.quarantined_digests,
        adapter.meta.uid,
        adapter.meta.labels,
    )
    return {variant.tier: (variant, common, published.get(variant.tier)) for variant in spec.variants}


def _published(status: VariantStatus) -> tuple[object, ...]:
    """What of a variant's status reaches pods and routes: not how many answers were judged."""
    rollout = status.rollout
    moving = None if rollout is None else (rollout.phase, rollout.below, rollout.percent, rollout.since, rollout.check)
    rejected = "" if status.rejected is None else status.rejected.digest
    return (status.stable, status.candidate, status.serving, moving, rejected)


def serving_traits(pod: Pod) -> tuple[object, ...]:
    return (pod.uid, pod.ip, pod.ready, pod.deleting, pod.phase, pod.engine_key_id, pod.prioritised, pod.slots)


def interruption_traits(pod: Pod | None) -> tuple[object, ...]:
    """What of a pod matters to whether it goes, or can help one that does; not the note about it, which is ours."""
    return () if pod is None else (pod.node, pod.disrupted, *serving_traits(pod))


def node_of(pod: Pod) -> str:
    return pod.node


def line_traits(fact: GatewayFact) -> tuple[object, ...]:
    """What a gateway says of lines that did not go as they should, and of pods that it has lines on."""
    return (fact.boot_id, fact.counted, fact.departures, fact.lines)


def without_counts(fact: GatewayFact) -> GatewayFact:
    """What a gateway says beside its counts."""
    return replace(fact, rollouts=(), degraded=(), counted=NO_STAMP, departures=(), lines=())


def engine_traits(fact: AgentFact) -> tuple[object, ...]:
    return (fact.pod_uid, fact.boot_id, fact.draining, fact.reachable, fact.engine.state, fact.engine.instance)


def moved_archetypes(old: AgentFact, new: AgentFact) -> set[str]:
    """Archetypes of which something worth telling changed on the pod."""
    moved = set()
    for name in new.adapters.since(old.adapters):
        before, after = old.adapters.entries.get(name), new.adapters.entries.get(name)
        if before is not None and after is not None and not _worth_telling(before, after):
            continue
        moved |= {held.archetype for held in (before, after) if held is not None}
    return moved


def told_archetypes(old: GatewayFact | None, new: GatewayFact | None) -> set[str]:
    """Archetypes of whose candidates a gateway has something new to tell. One that is not heard tells nothing."""
    if new is None:
        return set()
    known = {} if old is None else {(one.archetype, one.tier, one.candidate): one for one in old.rollouts}
    return {
        report.archetype
        for report in new.rollouts
        if known.get((report.archetype, report.tier, report.candidate)) != report
    }


def _worth_telling(before: Held, after: Held) -> bool:
    if before.phase != after.phase and (before.phase in TELLING or after.phase in TELLING):
        return True
    return before.archetype != after.archetype or _said(before) != _said(after)


def _said(report: Held) -> tuple[str, str, int, int]:
    fetched = coarse_share(report.done_bytes, report.total_bytes)
    return (report.reason, report.message, fetched, report.identity_checked)


def changed_residency(old: AgentFact, new: AgentFact) -> bool:
    """Whether an adapter was proven or lost its proof."""
    return old.resident() != new.resident()


def refers_to(revision: Revision | None, secret: str) -> bool:
    return revision is not None and revision.secret_ref is not None and revision.secret_ref.name == secret


def degraded_archetypes(old: GatewayFact | None, new: GatewayFact | None) -> set[str]:
    """Archetypes of which a gateway tells another level than before, or tells nothing more because it is gone."""
    before, after = (
        frozenset() if fact is None else frozenset((one.archetype, one.tier, one.level) for one in fact.degraded)
        for fact in (old, new)
    )
    return {archetype for archetype, _, _ in before ^ after}
