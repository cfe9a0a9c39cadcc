"""A cluster in memory around the real store, queue, triggers and reconcilers, with time that only moves when told.

Deployments get pods as their controller would make them; pods get agents or gateways; what those report goes into the
store as the long polls would bring it. A leader can be ended before or after any call that changes something.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from npc_operator.api import names
from npc_operator.domain.conditions import condition, rfc3339
from npc_operator.domain.facts import Adapter, AgentFact, Child, GatewayFact, Pod, Region, SecretFact, Tier
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.domain.outcomes import Done, Outcome, Retry, Terminal, Wait
from npc_operator.domain.reports import lost_contact, merge_report
from npc_operator.edge.parse import identify, learn, parse, unlearn
from npc_operator.loop.queue import KeyedQueue, Lane
from npc_operator.loop.store import Change, Store
from npc_operator.manifests.network import OperatorPeer
from npc_operator.manifests.secrets import decode
from npc_operator.ports import Images, ObjectRef, PortError
from npc_operator.reconcilers import Reconcilers, triggers
from npc_runtime.wire import EngineState, Stamp
from tests.component.operator.small_kube import SmallKube
from tests.support.builders import NAMESPACE
from tests.support.fake_agents import FakeAgent, FakeAgents
from tests.support.fake_gateways import FakeGateway, FakeGateways

START = 1_790_000_000.0


class Crash(BaseException):
    """The process ends here."""


class FakeClock:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> float:
        return self.time

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


class World:
    """Everything a test touches."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = Store(self.clock)
        self.kube = SmallKube(lambda: rfc3339(self.clock.time))
        self.agents = FakeAgents()
        self.gateways = FakeGateways()
        self.recorder = FakeRecorder()
        self.images = Images(engine="vllm:default", fleet="npc-fleet:1")
        self.pods_become_ready = True
        self.runs = 0
        self.delivering = True
        """False: the watch is silent (what the store knows grows old)."""
        self._addresses = itertools.count(1)
        self._epochs = itertools.count(1)
        self._calls = itertools.count()
        self._end_at: tuple[int, str] | None = None
        self.calls: list[str] = []
        self.kube.listeners.append(self._on_object)
        for port in (self.kube, self.agents, self.gateways):
            port.before = lambda what: self._step(what, "before")
            port.after = lambda what: self._step(what, "after")
        for kind in (Region, Tier, Adapter, Pod, Child):
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
        self.reconcilers = Reconcilers(
            store=self.store,
            kube=self.kube,
            agents=self.agents,
            gateways=self.gateways,
            recorder=self.recorder,
            clock=self.clock,
            stamps=FakeStamps(next(self._epochs)),
            images=self.images,
            operator=OperatorPeer("npc-system", {"app.kubernetes.io/name": "npc-operator"}),
        )
        self._unsubscribe = self.store.subscribe(lambda change: self._mark(queue, change))
        for kind in self.store.kinds():
            for namespace, name, fact in self.store.items(kind):
                self._mark(queue, Change(kind, namespace, name, None, fact))

    def resync(self) -> None:
        """Every object again, as a LIST brings it."""
        for manifest in list(self.kube.objects.values()):
            self._learn(manifest)
        for kind in self.store.kinds():
            for namespace, name, fact in self.store.items(kind):
                self._mark(self.queue, Change(kind, namespace, name, None, fact))

    def _mark(self, queue: KeyedQueue[Key], change: Change) -> None:
        for key in triggers(self.store, change):
            urgent = key.kind in (KeyKind.AGENT, KeyKind.GATEWAY, KeyKind.ROUTES)
            queue.add(key, Lane.URGENT if urgent else Lane.NORMAL)

    def end_at(self, call: int, when: str) -> None:
        """End the leader `before` or `after` its n-th mutating call from now."""
        self.calls.clear()
        self._end_at = (call, when)

    def _step(self, what: str, when: str) -> None:
        if when == "before":
            self.calls.append(what)
        if self._end_at == (len(self.calls) - 1, when):
            self._end_at = None
            raise Crash(what)

    # --- time ---

    async def settle(self, seconds: float = 60.0) -> int:
        """Run everything that is to be done within `seconds`, which pass; returns how many reconciles. Survives one end."""
        end = self.clock.time + seconds
        begun = self.runs
        while self.runs - begun < 20_000:
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

    def _on_object(self, manifest: Mapping[str, Any] | None, at: Mapping[str, Any]) -> None:
        if not self.delivering:
            return
        if manifest is None:
            self._unlearn(at)
        else:
            self._learn(manifest)

    def _learn(self, manifest: Mapping[str, Any]) -> None:
        kind, meta = manifest["kind"], manifest["metadata"]
        if kind == "Secret":
            fact = SecretFact(meta["namespace"], meta["name"], meta["resourceVersion"], decode(manifest.get("data")))
            self.store.put(SecretFact, meta["namespace"], meta["name"], fact, version=int(meta["resourceVersion"]))
            if (meta.get("labels") or {}).get(names.LABEL_MANAGED_BY) != names.MANAGED_BY:
                return
            manifest = {key: value for key, value in manifest.items() if key != "data"}
        learn(self.store, parse(manifest["apiVersion"], kind, manifest))

    def _unlearn(self, at: Mapping[str, Any]) -> None:
        kind, meta = at["kind"], at["metadata"]
        if kind == "Secret":
            gone = SecretFact(meta["namespace"], meta["name"], "", {})
            self.store.put(SecretFact, meta["namespace"], meta["name"], gone, version=int(meta["resourceVersion"]))
        unlearn(self.store, identify(kind, at))
        if kind == "Pod":
            self.store.drop(AgentFact, meta["namespace"], meta["name"])
            self.store.drop(GatewayFact, meta["namespace"], meta["name"])

    # --- what controllers and kubelets do ---

    def _controllers(self) -> None:
        for (kind, namespace, name), manifest in list(self.kube.objects.items()):
            if kind == "Deployment":
                self._deployment(namespace, name, manifest)
        self.report()

    def _deployment(self, namespace: str, name: str, manifest: dict[str, Any]) -> None:
        """Make before break: a pod of the present template first, then one of an older one goes."""
        template = manifest["spec"]["template"]
        mine = [
            pod
            for (kind, where, _), pod in self.kube.objects.items()
            if kind == "Pod" and where == namespace and pod["metadata"]["ownerReferences"][0]["name"] == name
        ]
        present = [pod for pod in mine if pod["spec"] == template["spec"]]
        older = [pod for pod in mine if pod["spec"] != template["spec"]]
        wanted = manifest["spec"]["replicas"]
        present += [self._start_pod(namespace, name, manifest) for _ in range(wanted - len(present))]
        ready = sum(self.is_ready(pod) for pod in present)
        for pod in older[: max(0, len(older) - (wanted - ready))]:
            self.kube.remove("Pod", namespace, pod["metadata"]["name"])
            older.remove(pod)
        for pod in present[wanted:]:
            self.kube.remove("Pod", namespace, pod["metadata"]["name"])
        status = {
            "observedGeneration": manifest["metadata"]["generation"],
            "replicas": min(len(present), wanted) + len(older),
            "updatedReplicas": min(len(present), wanted),
            "readyReplicas": ready,
        }
        if manifest.get("status") != status:
            self.kube.edit("Deployment", namespace, name, lambda live: live.update(status=status))

    def _start_pod(self, namespace: str, owner: str, deployment: dict[str, Any]) -> dict[str, Any]:
        number = next(self._addresses)
        address, name = f"10.0.{number // 250}.{number % 250 + 1}", f"{owner}-{number}"
        template = deployment["spec"]["template"]
        owner_reference = {"kind": "Deployment", "name": owner, "uid": deployment["metadata"]["uid"]}
        pod = self.kube.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": namespace,
                    "labels": {**template["metadata"]["labels"]},
                    "annotations": {**template["metadata"].get("annotations", {})},
                    "ownerReferences": [owner_reference],
                },
                "spec": template["spec"],
                "status": {"phase": "Running", "podIP": address},
            }
        )
        if template["metadata"]["labels"][names.LABEL_COMPONENT] == names.COMPONENT_ENGINE:
            agent = self.agents.agent(address)
            if not self.pods_become_ready:
                agent.state = EngineState.STARTING
            agent.since = self.clock.time
        else:
            self.gateways.gateway(address)
        return pod

    def is_ready(self, pod: Mapping[str, Any]) -> bool:
        return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))

    def report(self) -> None:
        """What agents and gateways say reaches the store, and readiness reaches the pods."""
        for (kind, namespace, name), pod in list(self.kube.objects.items()):
            if kind != "Pod":
                continue
            address, uid = pod["status"].get("podIP", ""), pod["metadata"]["uid"]
            if address in self.agents.by_address:
                agent = self.agents.by_address[address]
                old = self.store.get(AgentFact, namespace, name)
                if not agent.deaf:
                    self.store.put(AgentFact, namespace, name, merge_report(old, agent.report(), pod_uid=uid))
                elif old is not None:
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
                if not gateway.deaf:
                    said = gateway.report()
                    fact = GatewayFact(uid, said.boot_id, said.stamp)
                    self.store.put(GatewayFact, namespace, name, fact)
                self._set_ready(pod, gateway.table is not None)

    def _set_ready(self, pod: Mapping[str, Any], ready: bool) -> None:
        if self.is_ready(pod) == ready:
            return
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        meta = pod["metadata"]
        self.kube.edit(
            "Pod", meta["namespace"], meta["name"], lambda live: live["status"].update(conditions=conditions)
        )

    # --- what a test asks ---

    def status(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.kube.objects[kind, NAMESPACE, name].get("status", {})
        return found

    def said(self, kind: str, name: str, about: str) -> tuple[str, str, str]:
        """(status, reason, message) of a condition; empty where it is absent."""
        known = parse(names.API_VERSION, kind, self.kube.objects[kind, NAMESPACE, name]).fact
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
            name: self.agents.by_address[pod["status"]["podIP"]]
            for (kind, _, name), pod in sorted(self.kube.objects.items())
            if kind == "Pod" and pod["metadata"]["labels"].get(names.LABEL_TIER) == tier
        }

    def doors(self) -> dict[str, FakeGateway]:
        return {
            name: self.gateways.by_address[pod["status"]["podIP"]]
            for (kind, _, name), pod in sorted(self.kube.objects.items())
            if kind == "Pod" and pod["status"]["podIP"] in self.gateways.by_address
        }

    def edit(self, kind: str, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        self.kube.edit(kind, NAMESPACE, name, change)

    def set_digest(self, adapter: str, value: str, tier: str = "gold") -> None:
        def change(manifest: dict[str, Any]) -> None:
            for variant in manifest["spec"]["variants"]:
                if variant["tier"] == tier:
                    variant["source"]["digest"] = value
                    variant["source"]["uri"] = f"s3://adapters/{adapter}/{value[7:15]}"

        self.edit(names.KIND_ADAPTER, adapter, change)
