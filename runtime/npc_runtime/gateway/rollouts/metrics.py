"""Candidates in Prometheus' words, beside the stable digests that they are held against: per archetype and tier that
has a candidate just now, never per digest, so that the number of series is that of rollouts under way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from npc_runtime import wire
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
            "Of those: failed, truncated, empty, or mismatched, which is to hold what no answer may hold.",
            labels=(*labels, "kind"),
        )
        beside = CounterMetricFamily(
            "npc_gateway_stable_answers", "Answers of the stable digest beside a candidate.", labels=labels
        )
        beside_bad = CounterMetricFamily(
            "npc_gateway_stable_bad_answers", "Of those, the bad ones.", labels=(*labels, "kind")
        )
        pairs = CounterMetricFamily(
            "npc_gateway_candidate_pairs",
            "First tokens of the candidate that were compared with the stable digest's on the same pod.",
            labels=labels,
        )
        slower = CounterMetricFamily(
            "npc_gateway_candidate_slower_pairs", "Of those, where the candidate was slower.", labels=labels
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
            beside.add_metric(key, seen.stable_counts.requests)
            for family, counts in ((bad, seen.candidate_counts), (beside_bad, seen.stable_counts)):
                for kind, count in _bad_by_kind(counts):
                    family.add_metric((*key, kind), count)
            pairs.add_metric(key, seen.pairs)
            slower.add_metric(key, seen.slower)
            fallen.add_metric(key, seen.fallen)
            unjudged.add_metric(key, seen.unjudged)
            withdrawn.add_metric(key, 1 if seen.withdrawn else 0)
        yield from (answers, bad, beside, beside_bad, pairs, slower, fallen, unjudged, withdrawn)


def _bad_by_kind(counts: wire.AnswerCounts) -> tuple[tuple[str, int], ...]:
    """An answer is bad in one way only, so these add up."""
    return (
        ("failed", counts.errors),
        ("truncated", counts.truncated),
        ("empty", counts.empty),
        ("mismatched", counts.mismatched),
    )
