"""The timed cluster on machines that get notices, lose them again and die, with everybody else in time, too: the
Deployments' controller, the scheduler, kubelets, whoever brings and takes machines, and lines that end when they end.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from npc_operator.api import names
from npc_operator.domain.conditions import rfc3339
from npc_operator.domain.facts import Pod
from npc_operator.ports import ObjectRef
from npc_runtime.wire import EngineState, RouteTable
from tests.component.operator.machines import NTH, SPOT, UNREACHABLE, Machines
from tests.component.operator.wires import TimedAgent, TimedGateway, TimedKube, TimedWorld
from tests.support.builders import NAMESPACE
from tests.support.fake_agents import FakeAgent

NOTICE_SECONDS = 120.0
"""What EC2 gives from a notice to the end."""
GRACE_SECONDS = 30.0
"""A pod that is being deleted is gone by then, whatever runs there."""


class LinedGateway(TimedGateway):
    """A gateway with lines that run on for a while where a table does not send new ones any more."""

    lingering = 0.7
    """How likely a line runs on a pod."""

    def take(self, table: RouteTable) -> None:
        before = set() if self.table is None else {one.uid for part in self.table.tiers for one in part.endpoints}
        after = {one.uid for part in table.tiers for one in part.endpoints}
        for uid in sorted(before - after):
            if self._wires.dice.random() < self.lingering:
                self.running[uid] = 1
                self._wires.at(self._wires.dice.uniform(0.1, 8.0), partial(self.end_lines, uid))
        super().take(table)

    def end_lines(self, uid: str) -> None:
        if self.running.pop(uid, 0):
            self.status.publish(self.report())


class TimedMachines(TimedWorld, Machines):
    """`spot_market`: whether spot machines are to be had."""

    def __init__(self, seed: int, **options: Any) -> None:
        self.spot_market = True
        self.start_seconds = (2.0, 20.0)
        """What engines take to start, between these."""
        self.dead: set[str] = set()
        """Machines that are no more, whoever knows it."""
        self.noticed: dict[str, float] = {}
        """Machines that are told to go, and since when."""
        self.agent_of: dict[str, TimedAgent] = {}
        """By pod uid."""
        self._bought = 0
        self._pods_of, self._pods_seen = -1, list[dict[str, Any]]()
        self._round_due = False
        self._polled: dict[str, Any] = {}
        super().__init__(seed, **options)

    async def go_on(self) -> None:
        await super().go_on()
        for agent in self.timed_agents.values():
            self._keep(agent)

    def _make_gateway(self, *args: Any) -> TimedGateway:
        return LinedGateway(*args)

    def _make_kube(self) -> TimedKube:
        return CountedKube(self)

    def _keep(self, agent: TimedAgent) -> None:
        self.agent_of[agent.pod_uid] = agent

    # --- leaders ---

    def forget(self) -> None:
        """Machines are listed again some time after pods are."""
        self.forget_heard()
        self.wires.at(self.wires.delay(), self.hear_nodes)

    # --- watches ---

    def _on_object(self, event: str, manifest: dict[str, Any]) -> None:
        super()._on_object(event, manifest)
        if self._is_timed and manifest["kind"] in ("Pod", "Deployment", "Node"):
            self._come_round()

    def _bring(self) -> None:
        super()._bring()
        self._follow_pods()

    def _follow_pods(self) -> None:
        """Polls of the pods that the operator knows."""
        known = {pod.uid: pod for pod in self.store.all(Pod) if pod.ip}
        for uid in [uid for uid in self._polled if uid not in known]:
            self._polled.pop(uid).ended = True
        for uid, pod in known.items():
            if uid not in self._polled:
                meta = {"name": pod.name, "namespace": pod.namespace, "uid": uid}
                self._polled[uid] = self._poll({"metadata": meta, "status": {"podIP": pod.ip}})
        self._polls = list(self._polled.values())

    def _begin_polls(self) -> None:
        self._polled.clear()
        self._follow_pods()

    # --- machines ---

    def notice(self, node: str) -> None:
        """EC2 takes it in two minutes, and the handler says so."""
        self.mark(node, NTH, added=self.clock.time)
        since = self.noticed[node] = self.clock.time

        def end() -> None:
            if self.noticed.get(node) == since:
                self.kill(node)

        self.wires.at(NOTICE_SECONDS, end)

    def withdraw(self, node: str) -> None:
        """It stays after all."""
        self.noticed.pop(node, None)
        self.mark(node)

    def kill(self, node: str) -> None:
        """It is gone; the cluster finds out."""
        if node in self.dead:
            return
        self.dead.add(node)
        for pod in self.pods_on(node):
            self.agent_of[pod["metadata"]["uid"]].die()
        missed = self.dice.uniform(5.0, 40.0)
        self.wires.at(missed, partial(self._miss, node))
        self.wires.at(missed + self.dice.uniform(1.0, 30.0), partial(self._clear, node))

    def _miss(self, node: str) -> None:
        """The node controller has heard nothing of it for too long."""
        if self.api.find("Node", "", node) is None:
            return
        self.api.set_status("Node", "", node, {"conditions": [{"type": "Ready", "status": "Unknown"}]})
        marks = [NTH] if node in self.noticed else []
        self.mark(node, *marks, UNREACHABLE, added=self.noticed.get(node))
        for pod in self.pods_on(node):
            self._set_ready(pod, False)

    def _clear(self, node: str) -> None:
        """The cloud's controller takes the Node away, and its pods with it."""
        if self.api.find("Node", "", node) is not None:
            self.api.remove("Node", "", node)
        self.wires.at(self.dice.uniform(0.1, 10.0), partial(self._collect, node))

    def _collect(self, node: str) -> None:
        for pod in self.pods_on(node):
            self.api.remove("Pod", NAMESPACE, pod["metadata"]["name"])

    def pods_on(self, node: str) -> list[dict[str, Any]]:
        return [pod for pod in self.engine_pods() if pod["spec"].get("nodeName") == node]

    # --- what everybody else does ---

    def _come_round(self) -> None:
        if not self._round_due:
            self._round_due = True
            self.wires.at(0.05 + self.wires.delay(), self._go_round)

    def _go_round(self) -> None:
        """Controllers and kubelets look at what there is."""
        self._round_due = False
        for slice_ in (names.SLICE_ON_DEMAND, names.SLICE_SPOT):
            self._keep_replicas(self.live("Deployment", f"gold-{slice_}"))
        for pod in self.engine_pods():
            self._look_after(pod)

    def _keep_replicas(self, deployment: dict[str, Any]) -> None:
        name, wanted = deployment["metadata"]["name"], deployment["spec"]["replicas"]
        mine = [pod for pod in self.engine_pods() if pod["metadata"]["ownerReferences"][0]["name"] == name]
        mine = [pod for pod in mine if "deletionTimestamp" not in pod["metadata"]]
        for pod in sorted(mine, key=self._rank)[: max(0, len(mine) - wanted)]:
            self.end(pod["metadata"]["name"])
        for _ in range(wanted - len(mine)):
            self._begin_pod(deployment)
        status = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": len(mine),
            "updatedReplicas": len(mine),
            "readyReplicas": sum(map(self.is_ready, mine)),
        }
        if deployment.get("status") != status:
            self.api.set_status("Deployment", NAMESPACE, name, status)

    def _rank(self, pod: Mapping[str, Any]) -> tuple[bool, bool, int, int]:
        """Who goes first (kube_controller, ActivePodsWithRanks): no machine, not ready, cheap, young."""
        cost = (pod["metadata"].get("annotations") or {}).get(names.ANNOTATION_DELETION_COST, "0")
        number = int(pod["metadata"]["name"].rpartition("-")[2])
        return bool(pod["spec"].get("nodeName")), self.is_ready(pod), int(cost), -number

    def _begin_pod(self, deployment: dict[str, Any]) -> None:
        """A pod that waits for a machine."""
        owner, number = deployment["metadata"], next(self._addresses)
        template = deployment["spec"]["template"]
        pod = self.api.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": f"{owner['name']}-{number}",
                    "namespace": NAMESPACE,
                    "labels": dict(template["metadata"]["labels"]),
                    "annotations": dict(template["metadata"].get("annotations", {})),
                    "ownerReferences": [{"kind": "Deployment", "name": owner["name"], "uid": owner["uid"]}],
                    "creationTimestamp": rfc3339(self.clock.time),
                },
                "spec": {**template["spec"], "nodeName": ""},
                "status": {"phase": "Pending"},
            }
        )
        address, uid = f"10.0.{number // 250}.{number % 250 + 1}", pod["metadata"]["uid"]
        fake = FakeAgent(address, pod_uid=uid, state=EngineState.STARTING)
        agent = self.timed_agents[address] = TimedAgent(self.wires, fake)
        self._keep(agent)

    def _look_after(self, pod: dict[str, Any]) -> None:
        name, uid, node = pod["metadata"]["name"], pod["metadata"]["uid"], pod["spec"].get("nodeName", "")
        agent = self.agent_of[uid]
        if node in self.dead:
            return
        if not node:
            self._schedule(name, uid, pod)
        elif "deletionTimestamp" in pod["metadata"]:
            if not agent.draining:
                agent.drain()
                self.wires.at(self.dice.uniform(0.5, 8.0), partial(self._try_to_end, uid, name, self.clock.time))
        else:
            wants = agent.wanted.keys() <= agent.loaded.keys()
            ready = agent.state is EngineState.READY and agent.stamp.epoch > 0
            self._set_ready(pod, ready and (wants or self.is_ready(pod)))
            if ready and not wants:
                self.wires.at(0.5, self._come_round)

    def _schedule(self, name: str, uid: str, pod: Mapping[str, Any]) -> None:
        slice_ = pod["metadata"]["labels"][names.LABEL_SLICE]
        node = self._find_machine(slice_)
        if node is None:
            waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}
            status = {"phase": "Pending", "conditions": [waits]}
            if pod["status"] != status:
                self.api.set_status("Pod", NAMESPACE, name, status)
            return
        agent = self.agent_of[uid]
        self.api.edit("Pod", NAMESPACE, name, lambda live: live["spec"].update(nodeName=node))
        self.api.set_status("Pod", NAMESPACE, name, {"phase": "Running", "podIP": agent.address})

        def start() -> None:
            agent.engine_ready(self.clock.time)
            self._come_round()

        if node in self.dead:
            agent.die()
        self.wires.at(self.dice.uniform(*self.start_seconds), start)

    def _find_machine(self, slice_: str) -> str | None:
        """The first that is free, or a new one where machines are to be had. One that is dead may be chosen as long as
        nobody knows; its pod never starts, and goes with it."""
        taken = {pod["spec"].get("nodeName") for pod in self.engine_pods()}
        for node in self.peek("Node"):
            name, spec = node["metadata"]["name"], node["spec"]
            if node["metadata"]["labels"]["slice"] == slice_ and not spec.get("taints") and name not in taken:
                return str(name)
        if slice_ == SPOT and not self.spot_market:
            return None
        self._bought += 1
        name = f"{'spot' if slice_ == SPOT else 'od'}-new-{self._bought}"
        self.put_node(name, slice_)
        return name

    def end(self, pod: str) -> None:
        """Somebody deletes a pod."""
        self.api.end_pod(NAMESPACE, pod, ends=rfc3339(self.clock.time + GRACE_SECONDS))

    def _try_to_end(self, uid: str, name: str, since: float) -> None:
        """The kubelet ends a pod when no line runs there any more, or its grace is over."""
        found = self.api.find("Pod", NAMESPACE, name)
        if found is None or found["metadata"]["uid"] != uid:
            return
        running = any(gateway.running.get(uid) for gateway in self.timed_gateways.values())
        if running and self.clock.time < since + GRACE_SECONDS:
            self.wires.at(0.5, partial(self._try_to_end, uid, name, since))
            return
        self.agent_of[uid].die()
        self.api.remove("Pod", NAMESPACE, name)

    # --- what is looked at after every event, without a copy ---

    def pods_now(self) -> list[dict[str, Any]]:
        """Engine pods."""
        if self._pods_of != self.api._version:
            self._pods_of, self._pods_seen = self.api._version, self.engine_pods()
        return self._pods_seen

    def asked_now(self, slice_: str) -> int:
        """Replicas that a slice is asked for."""
        return int(self.api._objects["Deployment", NAMESPACE, f"gold-{slice_}"]["spec"]["replicas"])

    def share_now(self) -> int:
        """Of the replicas above the base, the percentage that is wanted on demand."""
        spec = self.api._objects[names.KIND_TIER, NAMESPACE, "gold"]["spec"]
        return int(spec["capacity"].get("onDemandPercentageAboveBase", 0))

    # --- budgets and evictions ---

    def count_budget(self) -> None:
        """As the disruption controller would."""
        ready = sum("deletionTimestamp" not in pod["metadata"] and self.is_ready(pod) for pod in self.engine_pods())
        for budget in self.peek("PodDisruptionBudget"):
            least = budget["spec"].get("minAvailable")
            if least is not None:
                allowed = {"disruptionsAllowed": max(0, ready - least)}
                self.api.set_status("PodDisruptionBudget", NAMESPACE, budget["metadata"]["name"], allowed)

    def asks_for_eviction(self, uid: str) -> None:
        """Called as the operator asks for it; a test looks at what is so at that moment."""


class CountedKube(TimedKube):
    """Evictions are granted by budgets that were counted a moment ago."""

    def __init__(self, world: TimedMachines) -> None:
        super().__init__(world)
        self._world = world

    async def evict(self, ref: ObjectRef, *, resource_version: str) -> None:
        self._world.asks_for_eviction(ref.uid)

        async def evict() -> None:
            self._world.count_budget()
            await self._kube.evict(ref, resource_version=resource_version)

        await self._wires.call("evict", evict)
