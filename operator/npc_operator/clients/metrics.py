"""What the operator tells Prometheus, all in one place: names are a promise to people's dashboards and alerts.

Labels are bounded by the code (kinds, verbs, outcomes) and, where a person must be told which region it was, by the
number of namespaces; never by the number of characters in a world. What has series per voice is only there while a
rollout is under way or needs a person (`rollout_metrics`).
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from npc_operator.clients.queue_metrics import QueueMetrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_VERDICT_BUCKETS = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
_STEP_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0)
_RECONCILE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class _Readings(Collector):
    """Gauges whose values are asked for at scrape time, so that nothing has to keep them fresh."""

    def __init__(self) -> None:
        self.queue_depth: Callable[[], float] = lambda: 0.0
        self.queue_oldest: Callable[[], float] = lambda: 0.0
        self.queue_running: Callable[[], float] = lambda: 0.0
        self.watch_ages: Callable[[], dict[str, float]] = dict
        self.facts: Callable[[], dict[str, int]] = dict

    def collect(self) -> list[Metric]:
        plain = (
            ("npc_operator_queue_depth", "Keys that something happened to and that do not run yet.", self.queue_depth),
            ("npc_operator_queue_oldest_seconds", "How long the longest-waiting key has waited.", self.queue_oldest),
            ("npc_operator_reconciles_running", "Reconciles that run right now.", self.queue_running),
        )
        families: list[Metric] = [GaugeMetricFamily(name, text, value=read()) for name, text, read in plain]
        age = GaugeMetricFamily(
            "npc_operator_watch_age_seconds",
            "Seconds since a kind of object was last heard of; far above the resync interval its watch is dead.",
            labels=["kind"],
        )
        for kind, seconds in sorted(self.watch_ages().items()):
            age.add_metric([kind], seconds)
        count = GaugeMetricFamily("npc_operator_facts", "Facts held in memory, by type.", labels=["type"])
        for kind, number in sorted(self.facts().items()):
            count.add_metric([kind], number)
        return [*families, age, count]


class Metrics:
    """One per process; `render` gives the exposition text."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.readings = _Readings()
        self.registry.register(self.readings)
        self._reconcile_seconds = Histogram(
            "npc_operator_reconcile_seconds",
            "How long one reconcile took, by kind of key and how it ended.",
            ["kind", "outcome"],
            buckets=_RECONCILE_BUCKETS,
            registry=self.registry,
        )
        self._panics = Counter(
            "npc_operator_panics",
            "Reconciles ended by an unexpected exception: each one is a bug.",
            ["kind"],
            registry=self.registry,
        )
        self._api_writes = Counter(
            "npc_operator_api_writes",
            "Writes to the API server, by verb and kind of object; at rest only the Lease is written.",
            ["verb", "kind"],
            registry=self.registry,
        )
        self._api_errors = Counter(
            "npc_operator_api_errors",
            "Requests the API server did not fulfil, by verb, kind of object and reason.",
            ["verb", "kind", "reason"],
            registry=self.registry,
        )
        self._pushes = Counter(
            "npc_operator_pushes",
            "Orders handed to agents and gateways, by receiver and result.",
            ["receiver", "result"],
            registry=self.registry,
        )
        self._events_lost = Counter(
            "npc_operator_events_lost",
            "Kubernetes Events that were not written, by why.",
            ["reason"],
            registry=self.registry,
        )
        self._watch_restarts = Counter(
            "npc_operator_watch_restarts",
            "Times the watchers crashed and were started again.",
            registry=self.registry,
        )
        self._decisions = Counter(
            "npc_operator_decisions",
            "Decisions about the traffic of a voice on a tier; `reason` says why a candidate was taken back.",
            ["namespace", "decision", "reason"],
            registry=self.registry,
        )
        self._verdict_seconds = Histogram(
            "npc_operator_first_bad_to_verdict_seconds",
            "From a candidate's first bad answer, by the gateway's clock, to its being taken back for bad answers.",
            ["namespace"],
            buckets=_VERDICT_BUCKETS,
            registry=self.registry,
        )
        self.queues = QueueMetrics(self.registry)
        self._interruptions = Counter(
            "npc_operator_interruptions",
            "Engine pods whose node was said to go away, by what was said.",
            ["namespace", "tier", "kind"],
            registry=self.registry,
        )
        self._interruption_steps = Histogram(
            "npc_operator_interruption_step_seconds",
            "From the first notice about an engine pod to each step of what is done about it.",
            ["namespace", "step"],
            buckets=_STEP_BUCKETS,
            registry=self.registry,
        )
        self._interruption_lines = Counter(
            "npc_operator_interruption_lines",
            "Lines that interruptions cost: lost, re-routed or downgraded.",
            ["namespace", "tier", "cost"],
            registry=self.registry,
        )
        self._interruption_seconds = Counter(
            "npc_operator_interruption_below_target_seconds",
            "Seconds during interruptions in which fewer pods of a tier were ready than wanted.",
            ["namespace", "tier"],
            registry=self.registry,
        )
        self._node_words = Counter(
            "npc_operator_node_words_ignored",
            "Taints and conditions of nodes, and what agents say of theirs, that this version does not understand.",
            ["sender", "reason"],
            registry=self.registry,
        )
        self.leader = Gauge("npc_operator_leader", "1 while this process leads.", registry=self.registry)
        self.leadership_epoch = Gauge(
            "npc_operator_leadership_epoch", "Epoch of the present leadership, 0 without one.", registry=self.registry
        )
        self.loop_lag = Gauge(
            "npc_operator_event_loop_lag_seconds",
            "How late the event loop woke at its last check.",
            registry=self.registry,
        )

    def reconciled(self, key: object, outcome: str, seconds: float) -> None:
        """A reconcile ended. `key.kind` is its kind; the outcome Panic is counted on its own, too."""
        kind = str(getattr(key, "kind", "unknown"))
        self._reconcile_seconds.labels(kind, outcome).observe(seconds)
        if outcome == "Panic":
            self._panics.labels(kind).inc()

    def wrote(self, verb: str, kind: str) -> None:
        self._api_writes.labels(verb, kind).inc()

    def failed(self, verb: str, kind: str, reason: str) -> None:
        self._api_errors.labels(verb, kind, reason).inc()

    def pushed(self, receiver: str, result: str) -> None:
        self._pushes.labels(receiver, result).inc()

    def event_lost(self, reason: str) -> None:
        self._events_lost.labels(reason).inc()

    def decided(self, namespace: str, decision: str, reason: str, *, after_first_bad: float | None) -> None:
        """ports.Meter."""
        self._decisions.labels(namespace, decision, reason).inc()
        if after_first_bad is not None:
            self._verdict_seconds.labels(namespace).observe(after_first_bad)

    def interrupted(self, namespace: str, tier: str, kind: str) -> None:
        """ports.Meter."""
        self._interruptions.labels(namespace, tier, kind).inc()

    def interruption_step(self, namespace: str, step: str, seconds: float) -> None:
        """ports.Meter."""
        self._interruption_steps.labels(namespace, step).observe(seconds)

    def interruption_cost(
        self, namespace: str, tier: str, *, lost: int, rerouted: int, downgraded: int, seconds_below_target: float
    ) -> None:
        """ports.Meter."""
        for cost, lines in (("lost", lost), ("rerouted", rerouted), ("downgraded", downgraded)):
            self._interruption_lines.labels(namespace, tier, cost).inc(lines)
        self._interruption_seconds.labels(namespace, tier).inc(seconds_below_target)

    def node_word_ignored(self, word: str) -> None:
        """ports.Meter; also what nodes say themselves (`NodeFact.strange`)."""
        sender, _, reason = word.partition("/")
        self._node_words.labels(sender, reason).inc()

    def watch_restarted(self) -> None:
        self._watch_restarts.inc()

    def render(self) -> bytes:
        """The text format Prometheus scrapes (CONTENT_TYPE)."""
        return generate_latest(self.registry)
