"""A region of one tier in a spot market: nodes that can be had or not, that are noticed and taken, and engines that
need a while.

Deployments make and end pods as their controllers do: what has no node goes first, then what starts, then the youngest
that serves. At every step it is looked at what no market may break.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from npc_operator.api import names
from npc_operator.api.gputier import GpuTierSpec
from npc_operator.domain.conditions import parse_rfc3339
from npc_operator.domain.facts import Pod
from npc_operator.domain.interruption.tier_view import TierInterruptions
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.domain.replicas import Split, split_replicas
from npc_operator.loop.queue import Lane
from npc_runtime.wire import EngineState
from tests.component.operator.harness import World
from tests.support.builders import NAMESPACE, adapter, region, tier
from tests.support.fake_agents import FakeAgent

TIER = Key(KeyKind.TIER, NAMESPACE, "gold")
ENGINE_SECONDS = 40.0
STEP_SECONDS = 30.0
OD, SPOT = names.SLICE_ON_DEMAND, names.SLICE_SPOT


class Notices:
    """What the operator is told of nodes that go away; the same whoever leads."""

    def __init__(self, world: SpotWorld) -> None:
        self._world = world
        self.recent: list[float] = []
        self.noticed: set[str] = set()

    def of_tier(self, _key: Key) -> TierInterruptions:
        pods = self._world.store.list(Pod, NAMESPACE).values()
        leaving = {pod.uid: pod.slice for pod in pods if pod.uid in self.noticed and not pod.deleting}
        slices = list(leaving.values())
        return TierInterruptions(
            recent=tuple(self.recent),
            replacing={slice_: slices.count(slice_) for slice_ in set(slices)},
            leaving=frozenset(leaving),
        )


class SpotWorld(World):
    """`spot_nodes`: how many there are to be had."""

    def __init__(self, *, wanted: int = 6, max_replicas: int = 12, **capacity: Any) -> None:
        self.notices = Notices(self)
        self.spot_nodes = 1000
        self.broken: list[str] = []
        """What was seen that may not be."""
        self._nodes = itertools.count(1)
        super().__init__()
        self.put(region(tiers={"gold": 50 * wanted}, gateways=1))
        self.put(tier("gold", spec={"maxReplicas": max_replicas, "capacity": capacity}))
        self.put(adapter("vampire"))

    def lead(self) -> None:
        super().lead()
        context = self.reconcilers._context
        self.reconcilers._context = dataclasses.replace(context, interruptions=self.notices)

    # --- the market ---

    async def run(self, seconds: float) -> None:
        """Time passes in steps, and after each one it is looked at what may never be."""
        end = self.clock.time + seconds
        while self.clock.time < end:
            await self.settle(min(STEP_SECONDS, end - self.clock.time))
            self.look()

    def interrupt(self, count: int = 1, *, slice_: str = SPOT) -> list[str]:
        """Notices for nodes of pods that serve; returns the pods."""
        ready = [
            pod
            for pod in self.engines(slice_)
            if self.is_ready(pod) and pod["metadata"]["uid"] not in self.notices.noticed
        ]
        told = ready[:count]
        self.notices.noticed |= {pod["metadata"]["uid"] for pod in told}
        if slice_ == SPOT:
            self.notices.recent += [self.clock.now()] * len(told)
        self.queue.add(TIER, Lane.INTERRUPT)
        return [pod["metadata"]["name"] for pod in told]

    def take(self, pods: Sequence[str]) -> None:
        """Their nodes are gone, and with them the room for as many."""
        for name in pods:
            if self.api.find("Pod", NAMESPACE, name) is not None:
                self.api.remove("Pod", NAMESPACE, name)

    def set_tier(self, **spec: Any) -> None:
        self.edit(names.KIND_TIER, "gold", lambda live: live["spec"].update(spec))

    # --- what it is now ---

    def engines(self, slice_: str) -> list[dict[str, Any]]:
        return [pod for pod in self.peek("Pod") if pod["metadata"]["labels"].get(names.LABEL_SLICE) == slice_]

    def ready(self, slice_: str) -> int:
        return sum(self.is_ready(pod) for pod in self.engines(slice_))

    def asked(self) -> Split:
        """Replicas of both Deployments."""
        return Split(
            *(self.live("Deployment", names.slice_deployment("gold", one))["spec"]["replicas"] for one in (OD, SPOT))
        )

    def capacity(self) -> dict[str, Any]:
        found: dict[str, Any] = self.status(names.KIND_TIER, "gold")["capacity"]
        return found

    def told(self) -> tuple[str, str]:
        return self.capacity()["mode"], self.capacity()["reason"]

    def spec(self) -> GpuTierSpec:
        return GpuTierSpec.model_validate(self.live(names.KIND_TIER, "gold")["spec"])

    def look(self) -> None:
        """The floor and the bound, as they are once the operator had its look."""
        spec, wanted = self.spec(), self.status(names.KIND_TIER, "gold")["wantedReplicas"]
        floor, asked = split_replicas(wanted, spec.capacity), self.asked()
        if asked.on_demand < floor.on_demand:
            self.broken.append(f"the floor is {floor.on_demand}, and {asked.on_demand} are asked for")
        leaving = self.notices.of_tier(TIER).leaving
        running = [
            pod
            for slice_ in (OD, SPOT)
            for pod in self.engines(slice_)
            if "podIP" in pod["status"] and pod["metadata"]["uid"] not in leaving
        ]
        beyond = 1 if asked != floor else 0
        more = spec.capacity.overprovision_replicas if floor.spot else 0
        if len(running) > max(spec.max_replicas, wanted) + beyond + more:
            self.broken.append(f"{len(running)} run or start, where {spec.max_replicas} may")

    # --- what controllers do ---

    def _controllers(self) -> None:
        for agent in self._starting():
            if self.clock.time >= agent.since + ENGINE_SECONDS:
                agent.engine_ready(self.clock.time)
        if self.controllers_run:
            for pod in [pod for slice_ in (OD, SPOT) for pod in self.engines(slice_) if "podIP" not in pod["status"]]:
                self._schedule(pod)
        super()._controllers()

    def _deployment(self, namespace: str, name: str, manifest: dict[str, Any]) -> None:
        if manifest["spec"]["template"]["metadata"]["labels"][names.LABEL_COMPONENT] != names.COMPONENT_ENGINE:
            super()._deployment(namespace, name, manifest)
            return
        wanted = manifest["spec"]["replicas"]
        mine = [pod for pod in self.peek("Pod") if pod["metadata"]["ownerReferences"][0]["name"] == name]
        before = self.ready(OD) + self.ready(SPOT)
        for pod in sorted(mine, key=self._rank)[: max(0, len(mine) - wanted)]:
            self.api.remove("Pod", namespace, pod["metadata"]["name"])
        after = self.ready(OD) + self.ready(SPOT)
        target = self.status(names.KIND_TIER, "gold").get("wantedReplicas", 0)
        if after < min(before, target):
            self.broken.append(f"{before} served, and {after} do after {name} was made smaller; {target} are wanted")
        for _ in range(wanted - len(mine)):
            self._schedule(self._start_pod(namespace, name, manifest))
        present = [pod for pod in self.peek("Pod") if pod["metadata"]["ownerReferences"][0]["name"] == name]
        ready = sum(self.is_ready(pod) for pod in present)
        generation = manifest["metadata"]["generation"]
        status = {
            "observedGeneration": generation,
            "replicas": len(present),
            "updatedReplicas": len(present),
            "readyReplicas": ready,
        }
        if manifest.get("status") != status:
            self.api.set_status("Deployment", namespace, name, status)

    def _rank(self, pod: dict[str, Any]) -> tuple[int, float]:
        """Who goes first: without a node, starting, serving; of those the youngest."""
        phase = 0 if "podIP" not in pod["status"] else 2 if self.is_ready(pod) else 1
        return phase, -(parse_rfc3339(pod["metadata"]["creationTimestamp"]) or 0.0)

    def _start_pod(self, namespace: str, owner: str, deployment: dict[str, Any]) -> dict[str, Any]:
        pod = super()._start_pod(namespace, owner, deployment)
        if pod["metadata"]["labels"][names.LABEL_COMPONENT] != names.COMPONENT_ENGINE:
            return pod
        name, address = pod["metadata"]["name"], pod["status"]["podIP"]
        self.agents.by_address[address].state = EngineState.STARTING
        self._address[name] = address
        self.api.edit("Pod", namespace, name, lambda live: live["spec"].update(nodeName=""))
        return self.api.set_status("Pod", namespace, name, {"phase": "Pending"})

    @property
    def _address(self) -> dict[str, str]:
        known: dict[str, str] = self.__dict__.setdefault("addresses", {})
        return known

    def _schedule(self, pod: dict[str, Any]) -> None:
        meta = pod["metadata"]
        spot = meta["labels"][names.LABEL_SLICE] == SPOT
        on_nodes = sum("podIP" in one["status"] for one in self.engines(SPOT))
        if spot and on_nodes >= self.spot_nodes:
            conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}]
            status = {"phase": "Pending", "conditions": conditions}
            if pod["status"] != status:
                self.api.set_status("Pod", NAMESPACE, meta["name"], status)
            return
        node = f"{'spot' if spot else 'on-demand'}-{next(self._nodes)}"
        self.api.edit("Pod", NAMESPACE, meta["name"], lambda live: live["spec"].update(nodeName=node))
        address = self._address[meta["name"]]
        self.agents.by_address[address].since = self.clock.time
        self.api.set_status("Pod", NAMESPACE, meta["name"], {"phase": "Running", "podIP": address})

    def _starting(self) -> list[FakeAgent]:
        agents = [
            self.agents.by_address.get(pod["status"].get("podIP", ""))
            for pod in (*self.engines(OD), *self.engines(SPOT))
        ]
        return [agent for agent in agents if agent is not None and agent.state is EngineState.STARTING]

    def _next_due(self) -> float | None:
        """Engines that become ready are something to wait for, too."""
        dues = [super()._next_due(), *(agent.since + ENGINE_SECONDS for agent in self._starting())]
        return min((due for due in dues if due is not None), default=None)
