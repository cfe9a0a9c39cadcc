"""A cluster in memory around the real store, queue, triggers and reconcilers, with time that only moves when told.

Deployments get pods as their controller would make them; pods get agents or gateways; what those report goes into the
store as the long polls would bring it. A leader can be ended before or after any call that changes something.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from npc_operator.api import names
from npc_operator.clients.certificates import read_certificate
from npc_operator.domain.conditions import condition, rfc3339
from npc_operator.domain.facts import (
    Adapter,
    AgentFact,
    CertificateFact,
    Child,
    GatewayFact,
    NodeFact,
    Pod,
    Region,
    SecretFact,
    Tier,
)
from npc_operator.domain.keys import Key
from npc_operator.domain.outcomes import Done, Outcome, Retry, Terminal, Wait
from npc_operator.domain.reports import lost_contact, merge_report
from npc_operator.edge.parse import identify, learn, parse, unlearn
from npc_operator.loop.queue import KeyedQueue
from npc_operator.loop.store import Change, Store
from npc_operator.manifests.network import OperatorPeer
from npc_operator.manifests.secrets import decode
from npc_operator.ports import Images, Manifest, ObjectRef, Outside, PortError
from npc_operator.reconcilers import Reconcilers, triggers
from npc_operator.reconcilers.triggers import pick_lane
from npc_runtime.wire import EngineState, Stamp
from tests.support.builders import NAMESPACE
from tests.support.fake_agents import FakeAgent, FakeAgents
from tests.support.fake_gateways import FakeGateway, FakeGateways
from tests.support.fake_groups import FakeGroups
from tests.support.fake_kube import Crash, FakeKube

CHILDREN = ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "Job")
UNWATCHED = frozenset({"NodePool", "CapacityBuffer"})
USERS = frozenset({"name", "namespace", "labels", "annotations"})
"""What users write of an object's metadata; the API server adds the rest."""
START = 1_790_000_000.0


class SteppedKube:
    """ports.Kube over FakeKube that tells before and after each call that changes something."""

    def __init__(self, kube: FakeKube, before: Callable[[str], None], after: Callable[[str], None]) -> None:
        self._kube = kube
        self._before = before
        self._after = after

    async def get(self, ref: ObjectRef) -> Manifest | None:
        return await self._kube.get(ref)

    def list(
        self, api_version: str, kind: str, *, namespace: str | None, selector: str = ""
    ) -> AsyncIterator[Manifest]:
        return self._kube.list(api_version, kind, namespace=namespace, selector=selector)

    async def apply(self, manifest: Manifest, *, manager: str, subresource: str = "") -> Manifest:
        what = f"apply {manifest['kind']}/{manifest['metadata']['name']}{'/' + subresource if subresource else ''}"
        self._before(what)
        applied = await self._kube.apply(manifest, manager=manager, subresource=subresource)
        self._after(what)
        return applied

    async def create(self, manifest: Manifest, *, manager: str) -> Manifest:
        what = f"create {manifest['kind']}/{manifest['metadata']['name']}"
        self._before(what)
        created = await self._kube.create(manifest, manager=manager)
        self._after(what)
        return created

    async def delete(self, ref: ObjectRef, *, resource_version: str) -> None:
        self._before(f"delete {ref.kind}/{ref.name}")
        await self._kube.delete(ref, resource_version=resource_version)
        self._after(f"delete {ref.kind}/{ref.name}")

    async def evict(self, ref: ObjectRef, *, resource_version: str) -> None:
        self._before(f"evict {ref.kind}/{ref.name}")
        await self._kube.evict(ref, resource_version=resource_version)
        self._after(f"evict {ref.kind}/{ref.name}")


class FakeClock:
    def __init__(self) -> None:
        self.time = START
        self.skew = 0.0
        """By how much the wall clock was set."""

    def now(self) -> float:
        return self.time + self.skew

    def monotonic(self) -> float:
        return self.time


class FakeStamps:
    """ports.Stamps of one leadership."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self._generations = itertools.count(1)

    def next(self) -> Stamp:
        return Stamp(epoch=self.epoch, generation=next(self._generations))

    async def outrank(self, current: Stamp) -> bool:
        if current.epoch >= self.epoch:
            self.epoch = current.epoch + 1
        return True


@dataclass
class FakeRecorder:
    events: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)

    def normal(self, ref: ObjectRef, reason: str, message: str) -> None:
        self.events.append((ref.name, reason, message))

    def warning(self, ref: ObjectRef, reason: str, message: str) -> None:
        self.events.append((ref.name, reason, message))

    def reasons(self, name: str) -> list[str]:
        return [reason for who, reason, _ in self.events if who == name]


@dataclass
class FakeMeter:
    decisions: list[tuple[str, str, float | None]] = dataclasses.field(default_factory=list)
    """(decision, why a candidate was taken back, seconds after its first bad answer)."""

    interruptions: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    """(tier, kind)."""
    steps: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    """(step of an interruption, seconds after its notice)."""
    costs: dict[str, float] = dataclasses.field(default_factory=dict)
    strange: list[str] = dataclasses.field(default_factory=list)

    def decided(self, namespace: str, decision: str, reason: str, *, after_first_bad: float | None) -> None:
        self.decisions.append((decision, reason, after_first_bad))

    def interrupted(self, namespace: str, tier: str, kind: str) -> None:
        self.interruptions.append((tier, kind))

    def interruption_step(self, namespace: str, step: str, seconds: float) -> None:
        self.steps.append((step, seconds))

    def node_word_ignored(self, word: str) -> None:
        self.strange.append(word)

    def interruption_cost(self, namespace: str, tier: str, **added: float) -> None:
        for name, value in added.items():
            self.costs[name] = self.costs.get(name, 0) + value


class World:
    """Everything a test touches."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = Store(self.clock)
        self.api = FakeKube()
        self.agents = FakeAgents()
        self.gateways = FakeGateways()
        self.groups = FakeGroups()
        self.recorder = FakeRecorder()
        self.meter = FakeMeter()
        self.images = Images(engine="vllm:default", fleet="npc-fleet:1")
        self.pods_become_ready = True
        self.controllers_run = True
        """False: the cluster's own controllers and kubelets are slow."""
        self.hold_new_agents = False
        """True: agents of new pods prove nothing until the test says so."""
        self.deployment_conditions: list[dict[str, str]] = []
        self.runs = 0
        self.delivering = True
        """False: the watch is silent (what the store knows grows old)."""
        self._addresses = itertools.count(1)
        self._epochs = itertools.count(1)
        self._calls = itertools.count()
        self._end_at: tuple[int, str] | None = None
        self.calls: list[str] = []
        self.crashed = ""
        """The call at which the leader ended."""
        self.api.listen(self._on_object)
        before, after = (lambda what: self._step(what, "before")), (lambda what: self._step(what, "after"))
        self.kube = SteppedKube(self.api, before, after)
        for port in (self.agents, self.gateways, self.groups):
            port.before, port.after = before, after
        for kind in (Region, Tier, Adapter, Pod, Child, NodeFact):
            self.store.mark_synced(kind)
        self.queue: KeyedQueue[Key] = KeyedQueue(self.clock, jitter=lambda: 0.0)
        self._unsubscribe: Callable[[], None] = lambda: None
        self.lead()

    # --- leadership ---

    def lead(self) -> None:
        """A new leader begins: nothing remembered, everything looked at."""
        self._unsubscribe()
        self.queue = KeyedQueue(self.clock, jitter=lambda: 0.0)
        queue = self.queue
        outside = Outside(
            kube=self.kube,
            agents=self.agents,
            gateways=self.gateways,
            groups=self.groups,
            recorder=self.recorder,
            meter=self.meter,
            clock=self.clock,
            stamps=FakeStamps(next(self._epochs)),
            images=self.images,
        )
        peer = OperatorPeer("npc-system", {"app.kubernetes.io/name": "npc-operator"})
        self.reconcilers = Reconcilers(self.store, outside, operator=peer)
        self._unsubscribe = self.store.subscribe(lambda change: self._mark(queue, change))
        for kind in self.store.kinds():
            for namespace, name, fact in self.store.items(kind):
                self._mark(queue, Change(kind, namespace, name, None, fact))

    def resync(self) -> None:
        """Every object again, as a LIST brings it."""
        for kind in (*names.PLURALS, *CHILDREN, "Pod", "Secret"):
            for manifest in self.peek(kind):
                self._learn(manifest)
        for fact_type in self.store.kinds():
            for namespace, name, fact in self.store.items(fact_type):
                self._mark(self.queue, Change(fact_type, namespace, name, None, fact))

    def _mark(self, queue: KeyedQueue[Key], change: Change) -> None:
        for key in triggers(self.store, change):
            queue.add(key, pick_lane(self.store, key))

    def end_at(self, call: int, when: str) -> None:
        """End the leader `before` or `after` its n-th mutating call from now."""
        self.calls.clear()
        self._end_at = (call, when)

    def _step(self, what: str, when: str) -> None:
        if when == "before":
            self.calls.append(what)
        if self._end_at == (len(self.calls) - 1, when):
            self._end_at = None
            self.crashed = what
            raise Crash(what)

    # --- time ---

    async def settle(self, seconds: float = 60.0) -> int:
        """Run what is to be done within `seconds`, which pass; returns how many reconciles. Survives one end."""
        end = self.clock.time + seconds
        begun = self.runs
        while self.runs - begun < 20_000:
            key = self.queue.take()
            if key is None:
                # Everybody else acts while the operator has nothing to do.
                self._controllers()
                key = self.queue.take()
            if key is None:
                due = self._next_due()
                if due is None or due > end:
                    self.clock.time = max(self.clock.time, end)
                    return self.runs - begun
                self.clock.time = max(self.clock.time, due)
                continue
            self.runs += 1
            try:
                outcome = await self.reconcilers.reconcile(key)
            except Crash:
                self.lead()
                continue
            except PortError as error:
                outcome = Retry(str(error)) if error.retryable else Terminal(str(error))
            self._settle(key, outcome)
        raise AssertionError("it never settles")

    def _settle(self, key: Key, outcome: Outcome) -> None:
        match outcome:
            case Done(requeue_after=after):
                self.queue.forgive(key)
                if after is not None:
                    self.queue.add_after(key, after)
            case Wait(after=after):
                self.queue.add_after(key, after)
            case Retry():
                self.queue.backoff(key)
            case Terminal():
                pass
            case _:
                assert_never(outcome)
        self.queue.done(key)

    def _next_due(self) -> float | None:
        timers = self.queue._timers
        return timers[0][0] if timers else None

    # --- what watches and polls bring ---

    def _on_object(self, event: str, manifest: dict[str, Any]) -> None:
        if not self.delivering or manifest["kind"] in UNWATCHED:
            return
        if event == "DELETED":
            self._unlearn(manifest)
        else:
            self._learn(manifest)

    def _learn(self, manifest: Mapping[str, Any]) -> None:
        kind, meta = manifest["kind"], manifest["metadata"]
        if kind == "Secret":
            fact = SecretFact(meta["namespace"], meta["name"], meta["resourceVersion"], decode(manifest.get("data")))
            self.store.put(SecretFact, meta["namespace"], meta["name"], fact, version=int(meta["resourceVersion"]))
            self._learn_certificate(meta["namespace"], meta["name"])
            if (meta.get("labels") or {}).get(names.LABEL_MANAGED_BY) != names.MANAGED_BY:
                return
            manifest = {key: value for key, value in manifest.items() if key != "data"}
        learn(self.store, parse(manifest["apiVersion"], kind, manifest))
        tls = manifest["spec"].get("gateway", {}).get("tls") if kind == names.KIND_REGION else None
        if tls is not None:
            self._learn_certificate(meta["namespace"], tls["secretName"])

    def _learn_certificate(self, namespace: str, name: str) -> None:
        """Read where a region names it, like the watch of that Secret."""
        regions = [one["spec"].get("gateway", {}).get("tls") or {} for one in self.peek(names.KIND_REGION)]
        if name in {tls.get("secretName") for tls in regions}:
            found = self.api.find("Secret", namespace, name)
            self.store.put(CertificateFact, namespace, name, read_certificate(found))

    def _unlearn(self, at: Mapping[str, Any]) -> None:
        kind, meta = at["kind"], at["metadata"]
        if kind == "Secret":
            gone = SecretFact(meta["namespace"], meta["name"], "", {})
            self.store.put(SecretFact, meta["namespace"], meta["name"], gone, version=int(meta["resourceVersion"]))
            self._learn_certificate(meta["namespace"], meta["name"])
        unlearn(self.store, identify(kind, at))
        if kind == "Pod":
            self.store.drop(AgentFact, meta["namespace"], meta["name"])
            self.store.drop(GatewayFact, meta["namespace"], meta["name"])

    # --- what controllers and kubelets do ---

    def _controllers(self) -> None:
        if not self.controllers_run:
            return
        self.api.collect_garbage()
        for manifest in self.peek("Deployment"):
            if manifest["spec"]["template"]["metadata"]["labels"][names.LABEL_COMPONENT] == names.COMPONENT_HEADROOM:
                continue
            self._deployment(manifest["metadata"]["namespace"], manifest["metadata"]["name"], manifest)
        self.report()

    def _deployment(self, namespace: str, name: str, manifest: dict[str, Any]) -> None:
        """Make before break: a pod of the present template first, then one of an older one goes."""
        template = manifest["spec"]["template"]
        mine = [
            pod
            for pod in self.peek("Pod")
            if pod["metadata"]["ownerReferences"][0]["name"] == name and "deletionTimestamp" not in pod["metadata"]
        ]
        # The scheduler's choice of a node is no difference.
        present = [pod for pod in mine if {**pod["spec"], "nodeName": ""} == {**template["spec"], "nodeName": ""}]
        older = [pod for pod in mine if pod not in present]
        wanted = manifest["spec"]["replicas"]
        present += [self._start_pod(namespace, name, manifest) for _ in range(wanted - len(present))]
        ready = sum(self.is_ready(pod) for pod in present)
        going = older[: max(0, len(older) - (wanted - ready))] + present[wanted:]
        for pod in going:
            self.api.remove("Pod", namespace, pod["metadata"]["name"])
        older = [pod for pod in older if pod not in going]
        status = {
            "observedGeneration": manifest["metadata"]["generation"],
            "replicas": min(len(present), wanted) + len(older),
            "updatedReplicas": min(len(present), wanted),
            "readyReplicas": ready,
            "conditions": self.deployment_conditions,
        }
        if manifest.get("status") != status:
            self.api.set_status("Deployment", namespace, name, status)

    def _start_pod(self, namespace: str, owner: str, deployment: dict[str, Any]) -> dict[str, Any]:
        number = next(self._addresses)
        address, name = f"10.0.{number // 250}.{number % 250 + 1}", f"{owner}-{number}"
        template = deployment["spec"]["template"]
        owner_reference = {"kind": "Deployment", "name": owner, "uid": deployment["metadata"]["uid"]}
        pod = self.api.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": namespace,
                    "labels": {**template["metadata"]["labels"]},
                    "annotations": {**template["metadata"].get("annotations", {})},
                    "ownerReferences": [owner_reference],
                    "creationTimestamp": rfc3339(self.clock.now()),
                },
                # A machine of its own, unless a test has machines.
                "spec": {**template["spec"], "nodeName": f"machine-{number}"},
                "status": {"phase": "Running", "podIP": address},
            }
        )
        if template["metadata"]["labels"][names.LABEL_COMPONENT] == names.COMPONENT_ENGINE:
            agent = self.agents.agent(address)
            agent.pod_uid = pod["metadata"]["uid"]
            if not self.pods_become_ready:
                agent.state = EngineState.STARTING
            agent.since = self.clock.time
            agent.holding = self.hold_new_agents
        else:
            self.gateways.gateway(address).pod_uid = pod["metadata"]["uid"]
        return pod

    def is_ready(self, pod: Mapping[str, Any]) -> bool:
        return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))

    def report(self) -> None:
        """What agents and gateways say reaches the store, and readiness reaches the pods."""
        for pod in self.peek("Pod"):
            meta, address = pod["metadata"], pod["status"].get("podIP", "")
            namespace, name, uid = meta["namespace"], meta["name"], meta["uid"]
            if address in self.agents.by_address:
                agent = self.agents.by_address[address]
                old = self.store.get(AgentFact, namespace, name)
                if not agent.deaf and not agent.late:
                    self.store.put(AgentFact, namespace, name, merge_report(old, agent.report(), pod_uid=uid))
                elif agent.deaf and old is not None:
                    self.store.put(AgentFact, namespace, name, lost_contact(old))
                settled = all(
                    entry.served_name in agent.verdicts or entry.served_name in agent.resident
                    for entry in agent.desired
                )
                self._set_ready(
                    pod, agent.state is EngineState.READY and agent.stamp.epoch > 0 and settled and not agent.draining
                )
            elif address in self.gateways.by_address:
                gateway = self.gateways.by_address[address]
                heard = self.store.get(GatewayFact, namespace, name)
                if gateway.deaf and heard is not None:
                    self.store.put(GatewayFact, namespace, name, dataclasses.replace(heard, reachable=False))
                if not gateway.deaf:
                    said = gateway.report()
                    fact = GatewayFact(
                        uid,
                        said.boot_id,
                        said.stamp,
                        rollouts=said.rollouts,
                        degraded=said.degraded,
                        counted=said.counted,
                        departures=said.departures,
                        lines=said.lines,
                    )
                    self.store.put(GatewayFact, namespace, name, fact)
                    self._set_ready(pod, gateway.table is not None)

    def _set_ready(self, pod: Mapping[str, Any], ready: bool) -> None:
        if self.is_ready(pod) == ready:
            return
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        meta = pod["metadata"]
        self.api.set_status("Pod", meta["namespace"], meta["name"], {**pod["status"], "conditions": conditions})

    # --- what a test asks ---

    def status(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.live(kind, name).get("status", {})
        return found

    def live(self, kind: str, name: str) -> dict[str, Any]:
        found = self.api.find(kind, NAMESPACE, name)
        assert found is not None, f"there is no {kind} {name}"
        return found

    def peek(self, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind by name, to be read and not changed: copying them is most of what a test would do."""
        return [found for (of_kind, _, _), found in sorted(self.api._objects.items()) if of_kind == kind]

    def said_raw(self, kind: str, name: str, about: str) -> dict[str, Any]:
        """A condition as it stands, of an object that cannot be parsed."""
        conditions = self.status(kind, name)["conditions"]
        found: dict[str, Any] = next(one for one in conditions if one["type"] == about)
        return found

    def certificates(self) -> list[CertificateFact]:
        """All that the operator keeps of certificates for game servers."""
        return list(self.store.all(CertificateFact))

    def forget_certificates(self) -> None:
        """As at the beginning of a leadership, before any Secret was read."""
        for name in list(self.store.list(CertificateFact, NAMESPACE)):
            self.store.drop(CertificateFact, NAMESPACE, name)

    def learn_absent(self, secret: str) -> None:
        """The Secret was looked for and is not there."""
        self.store.put(SecretFact, NAMESPACE, secret, SecretFact(NAMESPACE, secret, "", {}))

    def pod_status(self, name: str, **status: Any) -> None:
        """Kubelet or the scheduler reports."""
        self.api.set_status("Pod", NAMESPACE, name, {**self.live("Pod", name)["status"], **status})

    def put(self, *manifests: Mapping[str, Any]) -> None:
        """A user applies objects."""
        for manifest in manifests:
            given = {key: value for key, value in manifest["metadata"].items() if key in USERS}
            self.api.put({**manifest, "metadata": given})

    def put_now(self, *manifests: Mapping[str, Any]) -> None:
        """A user applies objects, and their age counts from now."""
        for manifest in manifests:
            self.put(manifest)
            self.edit(manifest["kind"], manifest["metadata"]["name"], self._born_now)

    def _born_now(self, live: dict[str, Any]) -> None:
        live["metadata"]["creationTimestamp"] = rfc3339(self.clock.time)

    def writes_of(self, kind: str) -> int:
        """How many calls changed, or wanted to change, an object of a kind."""
        return sum(call.kind == kind for call in self.api.calls)

    def writes(self) -> list[str]:
        """What the operator asked the API server to change."""
        return [str(call) for call in self.api.calls]

    def said(self, kind: str, name: str, about: str) -> tuple[str, str, str]:
        """(status, reason, message) of a condition; empty where it is absent."""
        known = parse(names.API_VERSION, kind, self.live(kind, name)).fact
        assert isinstance(known, Region | Tier | Adapter), known
        found = condition(known.status.conditions, about)
        return ("", "", "") if found is None else (found.status, found.reason, found.message)

    def variant(self, adapter: str, tier: str = "gold") -> dict[str, Any]:
        variants = self.status(names.KIND_ADAPTER, adapter)["variants"]
        found: dict[str, Any] = next(one for one in variants if one["tier"] == tier)
        return found

    def pods(self, tier: str) -> dict[str, FakeAgent]:
        """Agents of a tier's pods by pod name."""
        return {
            pod["metadata"]["name"]: self.agents.by_address[pod["status"]["podIP"]]
            for pod in self.peek("Pod")
            if pod["metadata"]["labels"].get(names.LABEL_TIER) == tier and "podIP" in pod["status"]
        }

    def doors(self) -> dict[str, FakeGateway]:
        return {
            pod["metadata"]["name"]: self.gateways.by_address[pod["status"]["podIP"]]
            for pod in self.peek("Pod")
            if pod["status"].get("podIP") in self.gateways.by_address
        }

    def edit(self, kind: str, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        self.api.edit(kind, NAMESPACE, name, change)

    def set_digest(self, adapter: str, value: str, tier: str = "gold") -> None:
        def change(manifest: dict[str, Any]) -> None:
            for variant in manifest["spec"]["variants"]:
                if variant["tier"] == tier:
                    variant["source"]["digest"] = value
                    variant["source"]["uri"] = f"s3://adapters/{adapter}/{value[7:15]}"

        self.edit(names.KIND_ADAPTER, adapter, change)
