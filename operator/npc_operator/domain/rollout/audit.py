"""The audit trail: one record for each decision about traffic, as the operator's audit log has it."""

from __future__ import annotations

from collections.abc import Iterable

from npc_operator.api.archetypeadapter import HistoryEntry
from npc_operator.domain.facts import Adapter

Record = dict[str, str | int]


def build_records(adapter: Adapter, tier: str, made: Iterable[HistoryEntry]) -> tuple[Record, ...]:
    """What was decided about one tier's view of a voice, oldest first. Nothing in it is secret: digests, shares,
    reasons and counts."""
    return tuple(
        {
            "time": entry.time,
            "namespace": adapter.meta.namespace,
            "adapter": adapter.meta.name,
            "uid": adapter.meta.uid,
            "generation": adapter.meta.generation,
            "archetype": adapter.spec.archetype,
            "tier": tier,
            "decision": entry.reason,
            "digest": entry.digest,
            "uri": entry.uri,
            "previous": entry.previous,
            "fromPercent": entry.from_percent,
            "toPercent": entry.to_percent,
            "verdict": entry.verdict,
            "by": entry.by,
        }
        for entry in made
    )
