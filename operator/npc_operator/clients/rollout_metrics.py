"""Rollouts in Prometheus' words, read from the published statuses when somebody asks.

There are series only for a voice on a tier that has a candidate, or of which something else than the newest digest
speaks: their number is that of what a person on call may have to look at, not that of the world. Only the leader has
them, so that sums over replicas are right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from npc_operator.domain.facts import Adapter

STOOD_IN = frozenset({"LastGood", "BaseModel", "Scripted", "Nothing"})
"""Values of VariantStatus.serving that are not what the spec asked for."""


class RolloutCollector(Collector):
    """`adapters` gives every voice known, or nothing while this process does not lead."""

    def __init__(self, adapters: Callable[[], Iterable[Adapter]]) -> None:
        self._adapters = adapters

    def collect(self) -> Iterable[Metric]:
        """Every family, in a fixed order."""
        labels = ["namespace", "archetype", "tier"]
        share = GaugeMetricFamily(
            "npc_operator_candidate_share_ratio", "Share of the NPCs that hear the present candidate.", labels=labels
        )
        phase = GaugeMetricFamily(
            "npc_operator_candidate_phase",
            "1 for what the present candidate waits for or goes through.",
            labels=[*labels, "phase"],
        )
        rejected = GaugeMetricFamily(
            "npc_operator_candidate_rejected",
            "1 while the spec names a digest that was taken back, by why.",
            labels=[*labels, "reason"],
        )
        stands_in = GaugeMetricFamily(
            "npc_operator_stand_in",
            "1 while something else than the stable digest speaks, because that one is quarantined.",
            labels=[*labels, "serving"],
        )
        for adapter in self._adapters():
            for status in adapter.status.variants:
                key = (adapter.meta.namespace, adapter.spec.archetype, status.tier)
                if status.candidate is not None:
                    rollout = status.rollout
                    share.add_metric(key, rollout.percent / 100 if rollout is not None else 0.0)
                    phase.add_metric((*key, rollout.phase if rollout is not None else "Loading"), 1)
                if status.rejected is not None:
                    rejected.add_metric((*key, status.rejected.reason), 1)
                if status.serving in STOOD_IN:
                    stands_in.add_metric((*key, status.serving), 1)
        yield from (share, phase, rejected, stands_in)
