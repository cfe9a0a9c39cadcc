"""What is counted of interruption queues. Labels are closed sets: no queue, no machine and no account is named."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from npc_operator.domain import reasons

_AGES = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)


class QueueMetrics:
    """One per process, so that counters outlive a leadership."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._messages = Counter(
            "npc_operator_interruption_messages",
            "Messages of interruption queues, by what they told, what became of them, and why where that was nothing.",
            ["kind", "outcome", "reason"],
            registry=registry,
        )
        self._age = Histogram(
            "npc_operator_interruption_message_age_seconds",
            "From a queue's getting a message to its being acted on and deleted, by the queue's clock and ours.",
            ["kind"],
            buckets=_AGES,
            registry=registry,
        )
        self.troubles: Callable[[], Iterable[str]] = tuple
        """What hinders the reading of each queue that is listened to now; empty where nothing does."""
        registry.register(_Troubles(self))

    def counted(self, kind: str, outcome: str, reason: str) -> None:
        """One message. `kind` is a notice's, or None; outcome is Acted, Ignored, Failed, Waiting, or what became of one
        that was set aside (Redrive, Retry, Deleted)."""
        self._messages.labels(kind, outcome, reason).inc()

    def aged(self, kind: str, seconds: float) -> None:
        """How old a message was when it had been acted on."""
        self._age.labels(kind).observe(seconds)


class _Troubles(Collector):
    """Asked at scrape time."""

    def __init__(self, metrics: QueueMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(
            "npc_operator_interruption_queues",
            "Interruption queues that this replica reads, by what hinders it; QueueRead where nothing does.",
            labels=["reason"],
        )
        for reason, count in sorted(Tally(one or reasons.QUEUE_READ for one in self._metrics.troubles()).items()):
            family.add_metric([reason], count)
        yield family
