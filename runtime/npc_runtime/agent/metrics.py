"""The agent's Prometheus metrics: base units, and labels that stay few whatever is deployed (archetypes are capped,
NPCs and players never appear).
"""

from __future__ import annotations

from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

from ..wire import AdapterPhase, Stamp
from .errors import Reason
from .facts import Stage
from .metadata import Failure
from .report import Content

ARCHETYPE_LIMIT = 200
"""Distinct archetypes with series of their own; the rest share `_other`."""
OTHER = "_other"

_STEP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class Metrics:
    """All series of one agent, in a registry of their own."""

    def __init__(self, *, namespace: str, region: str, tier: str, pod: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        info = Info("npc_agent", "What this agent belongs to.", registry=self.registry)
        info.info({"namespace": namespace, "region": region, "tier": tier, "pod": pod})
        self._archetypes: set[str] = set()
        self._resident_labels: set[str] = set()
        self._make_state_gauges()
        self._steps = Histogram(
            "npc_agent_step_seconds",
            "Time of one step of one adapter.",
            ["stage"],
            buckets=_STEP_BUCKETS,
            registry=self.registry,
        )
        self._proofs = Counter(
            "npc_agent_proofs_total", "Adapters proven by an inference.", ["archetype"], registry=self.registry
        )
        self._failures = Counter(
            "npc_agent_failures_total", "Failed steps.", ["archetype", "reason"], registry=self.registry
        )
        self._fetched = Counter("npc_agent_fetched_bytes_total", "Bytes fetched.", ["scheme"], registry=self.registry)
        self._inspected = Counter(
            "npc_agent_inspected_bytes_total", "Bytes of adapters that passed inspection.", registry=self.registry
        )
        self._orders = Counter("npc_agent_orders_total", "Desired sets received.", ["outcome"], registry=self.registry)
        self._lag = Histogram(
            "npc_agent_loop_lag_seconds",
            "How late the event loop runs what is due.",
            buckets=_LAG_BUCKETS,
            registry=self.registry,
        )
        self._metadata_failures = Counter(
            "npc_agent_metadata_failures_total",
            "Questions to the machine's metadata service without an answer that is understood.",
            ["reason"],
            registry=self.registry,
        )
        self._requests = Counter(
            "npc_agent_requests_total", "Requests on the TLS port.", ["route", "code"], registry=self.registry
        )

    def render(self) -> bytes:
        """The text exposition."""
        return generate_latest(self.registry)

    def step(self, stage: Stage, seconds: float) -> None:
        """One step took this long, whatever came of it."""
        self._steps.labels(stage.lower()).observe(seconds)

    def proof(self, archetype: str) -> None:
        """An adapter of this archetype was proven."""
        self._proofs.labels(self._bounded(archetype)).inc()

    def failure(self, archetype: str, reason: Reason) -> None:
        """A step of an adapter of this archetype failed."""
        self._failures.labels(self._bounded(archetype), reason).inc()

    def fetched(self, uri: str, count: int) -> None:
        """Bytes that came from a source."""
        self._fetched.labels(urlsplit(uri).scheme).inc(count)

    def inspected(self, count: int) -> None:
        """Bytes that passed inspection."""
        self._inspected.inc(count)

    def order(self, stamp: Stamp) -> None:
        """An order was accepted (or taken up again after a restart)."""
        self._orders.labels("accepted").inc()
        self._generation.set(stamp.generation)
        self._epoch.set(stamp.epoch)

    def order_refused(self, why: str) -> None:
        """A push was refused; `why` is one of the wire's reasons."""
        self._orders.labels(why).inc()

    def request(self, route: str, code: int) -> None:
        """A request on the TLS port was answered."""
        self._requests.labels(route, str(code)).inc()

    def metadata_failed(self, reason: Failure) -> None:
        """The machine's metadata service was asked in vain."""
        self._metadata_failures.labels(reason).inc()

    def lag(self, seconds: float) -> None:
        """The loop ran something this late."""
        self._lag.observe(seconds)

    def show(self, content: Content) -> None:
        """Sets the gauges from what the status report says now."""
        counts = dict.fromkeys(AdapterPhase, 0)
        resident: dict[str, int] = {}
        for adapter in content.adapters:
            counts[adapter.phase] += 1
            label = self._bounded(adapter.archetype)
            resident[label] = resident.get(label, 0) + (adapter.phase is AdapterPhase.RESIDENT)
        for phase, count in counts.items():
            self._adapters.labels(phase.lower()).set(count)
        for label in self._resident_labels - set(resident):
            self._resident.remove(label)
        self._resident_labels = set(resident)
        for label, count in resident.items():
            self._resident.labels(label).set(count)
        self._engine_up.set(content.accepting or content.engine.state == "Ready")
        self._ready.set(content.ready)
        self._draining.set(content.draining)
        self._slots_used.set(content.slots_used)
        self._slots.set(content.slots_total)
        self._cache_bytes.set(content.cache_bytes)
        self._cache_limit.set(content.cache_limit_bytes)

    def _make_state_gauges(self) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"npc_agent_{name}", text, labels, registry=self.registry)

        self._adapters = gauge("adapters", "Adapters by what they are doing.", "phase")
        self._resident = gauge("resident_adapters", "Adapters proven on this engine.", "archetype")
        self._engine_up = gauge("engine_up", "1 while the engine answers.")
        self._ready = gauge("ready", "1 while the pod may take traffic.")
        self._draining = gauge("draining", "1 while no new line is taken.")
        self._slots_used = gauge("slots_used", "Adapters the engine holds: stable, candidate and draining.")
        self._slots = gauge("slots", "Adapters the engine keeps in memory (--max-cpu-loras).")
        self._cache_bytes = gauge("cache_bytes", "Bytes of adapters on disk.")
        self._cache_limit = gauge("cache_limit_bytes", "Bytes of adapters allowed on disk.")
        self._epoch = gauge("order_epoch", "Epoch of the last accepted order.")
        self._generation = gauge("order_generation", "Generation of the last accepted order.")

    def _bounded(self, archetype: str) -> str:
        if archetype not in self._archetypes:
            if len(self._archetypes) >= ARCHETYPE_LIMIT:
                return OTHER
            self._archetypes.add(archetype)
        return archetype
