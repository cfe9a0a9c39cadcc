"""Candidates in Prometheus' words: per archetype and tier that has one just now, never per digest, so that the number
of series is that of rollouts under way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from npc_runtime.gateway.rollouts.guard import bad_answers
from npc_runtime.gateway.rollouts.tally import Seen


class CandidateCollector(Collector):
    """Renders what was told last, when Prometheus asks."""

    def __init__(self, seen: Callable[[], Sequence[Seen]]) -> None:
        self._seen = seen

    def collect(self) -> Iterable[Metric]:
        """Every family, in a fixed order."""
        labels = ("archetype", "tier")
        answers = CounterMetricFamily(
            "npc_gateway_candidate_answers", "Answers of the present candidate.", labels=labels
        )
        bad = CounterMetricFamily(
            "npc_gateway_candidate_bad_answers",
            "Of those: failed, truncated, empty, or holding what no answer may hold.",
            labels=labels,
        )
        fallen = CounterMetricFamily(
            "npc_gateway_candidate_fallen_lines",
            "Lines meant for the candidate that the stable digest answered, because no pod could.",
            labels=labels,
        )
        unjudged = CounterMetricFamily(
            "npc_gateway_candidate_unjudged_answers",
            "Answers of the candidate that nobody had time to read, taken for good.",
            labels=labels,
        )
        withdrawn = GaugeMetricFamily(
            "npc_gateway_candidate_withdrawn", "1 where this gateway took the candidate off by itself.", labels=labels
        )
        for seen in self._seen():
            key = (seen.archetype, seen.tier)
            answers.add_metric(key, seen.candidate_counts.requests)
            bad.add_metric(key, bad_answers(seen.candidate_counts))
            fallen.add_metric(key, seen.fallen)
            unjudged.add_metric(key, seen.unjudged)
            withdrawn.add_metric(key, 1 if seen.withdrawn else 0)
        yield from (answers, bad, fallen, unjudged, withdrawn)
