"""A region of one tier on machines that have names, marks and ends, and gateways that say where lines run.

Pods come to the emptiest machine of their slice that lets them, as the scheduler does it, or to a new one; one that is
being deleted is gone as soon as nobody has a line on it. Users' traffic is a number of lines for each pod that gateways
may ask.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from npc_operator.api import names
from npc_operator.domain.conditions import rfc3339
from npc_operator.domain.facts import AgentFact, GatewayFact, NodeFact
from npc_operator.domain.interruption.tier_view import TierInterruptions
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.loop.store import Change
from npc_operator.reconcilers.triggers import pick_lane, triggers
from npc_runtime.wire import served_name
from tests.component.operator.harness import CHILDREN, World
from tests.support.builders import NAMESPACE, at_once, digest, region, tier

SPOT, ON_DEMAND = names.SLICE_SPOT, names.SLICE_ON_DEMAND
KEY = Key(KeyKind.INTERRUPTIONS, NAMESPACE, "gold")
NTH = {"key": "aws-node-termination-handler/spot-itn", "value": "id", "effect": "NoSchedule"}
KARPENTER = {"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}
REBALANCE = {"key": "aws-node-termination-handler/rebalance-recommendation", "value": "id", "effect": "NoSchedule"}
UNREACHABLE = {"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}


class Machines(World):
    """`spot` and `on_demand`: how many machines each slice has; `lines`: the lines that run on each pod."""

    def __init__(
        self, *, wanted: int = 3, spot: int = 4, on_demand: int = 2, per_machine: int = 1, **spec: Any
    ) -> None:
        self.per_machine = per_machine
        self.lines = 0
        self.stuck: set[str] = set()
        """Pods on which lines run on, whatever routes say."""
        super().__init__()
        for number in range(on_demand):
            self.put_node(f"od-{number}", ON_DEMAND)
        for number in range(spot):
            self.put_node(f"spot-{number}", SPOT)
        self.put(region(tiers={"gold": 50 * wanted}, gateways=2))
        self.put(tier("gold", spec=spec))
        self.put(at_once("vampire"))
        self.put(at_once("zombie"))

    # --- machines ---

    def put_node(self, name: str, slice_: str) -> None:
        self.api.put(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": {"slice": slice_}},
                "spec": {"providerID": f"aws:///eu-west-1a/i-{name}"},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }
        )

    def mark(self, node: str, *taints: Mapping[str, str], added: float | None = None) -> None:
        """These taints, and no others."""
        at = {} if added is None else {"timeAdded": rfc3339(added)}

        def change(live: dict[str, Any]) -> None:
            live["spec"]["taints"] = [{**taint, **at} for taint in taints]

        self.api.edit("Node", "", node, change)

    def cordon(self, node: str) -> None:
        self.api.edit("Node", "", node, lambda live: live["spec"].update(unschedulable=True))

    def lose(self, node: str) -> None:
        """Nobody hears of it any more."""
        self.api.set_status("Node", "", node, {"conditions": [{"type": "Ready", "status": "Unknown"}]})
        self.mark(node, UNREACHABLE)

    # --- pods ---

    def engine_pods(self, slice_: str = "") -> list[dict[str, Any]]:
        return [
            pod
            for pod in self.peek("Pod")
            if pod["metadata"]["labels"].get(names.LABEL_TIER) == "gold"
            and slice_ in ("", pod["metadata"]["labels"][names.LABEL_SLICE])
        ]

    def pod_on(self, node: str) -> str:
        """The one pod that is on a machine and stays."""
        (found,) = (
            pod["metadata"]["name"]
            for pod in self.engine_pods()
            if pod["spec"].get("nodeName") == node and "deletionTimestamp" not in pod["metadata"]
        )
        return str(found)

    def node_of(self, pod: str) -> str:
        return str(self.live("Pod", pod)["spec"]["nodeName"])

    def spot_pod(self) -> str:
        return str(self.engine_pods(SPOT)[0]["metadata"]["name"])

    def note(self, pod: str) -> dict[str, Any]:
        """What is written at a pod of its interruption; empty for nothing."""
        text = (self.live("Pod", pod)["metadata"].get("annotations") or {}).get(names.ANNOTATION_INTERRUPTION, "")
        return dict(json.loads(text)) if text else {}

    def is_there(self, pod: str) -> bool:
        return self.api.find("Pod", NAMESPACE, pod) is not None

    def asked(self, slice_: str) -> int:
        return int(self.live("Deployment", f"gold-{slice_}")["spec"]["replicas"])

    def routed(self) -> set[str]:
        """Names of the pods that every gateway's table names."""
        tables = [gateway.table for gateway in self.doors().values()]
        assert all(table is not None for table in tables)
        found = [{one.pod for part in table.tiers for one in part.endpoints} for table in tables if table is not None]
        assert all(pods == found[0] for pods in found), found
        return found[0]

    def told(self) -> TierInterruptions:
        found = self.store.get(TierInterruptions, NAMESPACE, "gold")
        assert found is not None
        return found

    def interruptions(self) -> dict[str, Any]:
        return dict(self.status(names.KIND_TIER, "gold")["interruptions"])

    def residents(self, pod: str) -> set[str]:
        return set(self.pods("gold")[pod].resident)

    def hold_new_engines(self) -> None:
        """Pods that are made from now on do not become ready."""
        self.pods_become_ready = False

    # --- leaders ---

    def lead_elsewhere(self) -> None:
        """Another process leads: it knows what a list tells, and has heard nobody yet."""
        self.forget_heard()
        self.lead()

    def forget_heard(self) -> None:
        """What no process knows when it begins."""
        for kind in (AgentFact, GatewayFact, TierInterruptions, NodeFact):
            for namespace, name, _ in list(self.store.items(kind)):
                self.store.drop(kind, namespace, name)
        self.store.mark_unsynced()
        for kind in self.store.kinds():
            if kind is not NodeFact:
                self.store.mark_synced(kind)

    def hear_nodes(self) -> None:
        """Its first look at machines."""
        for manifest in self.peek("Node"):
            self._learn(manifest)
        self.store.mark_synced(NodeFact)

    def look_again(self) -> None:
        """Every object again, machines included."""
        for kind in (*names.PLURALS, *CHILDREN, "Pod", "Secret", "Node"):
            for manifest in self.peek(kind):
                self._learn(manifest)
        for fact_type in self.store.kinds():
            for namespace, name, fact in list(self.store.items(fact_type)):
                for key in triggers(self.store, Change(fact_type, namespace, name, None, fact)):
                    self.queue.add(key, pick_lane(self.store, key))

    # --- what everybody else does ---

    def _controllers(self) -> None:
        if self.controllers_run:
            for pod in self.engine_pods():
                name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
                if "deletionTimestamp" in pod["metadata"] and not self._has_lines(uid) and name not in self.stuck:
                    self.api.remove("Pod", NAMESPACE, name)
        super()._controllers()
        self._play()
        self.report()

    def _play(self) -> None:
        """Lines run on what gateways may ask, and end at once elsewhere."""
        uids = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in self.engine_pods()}
        for gateway in self.doors().values():
            named = {one.uid for part in gateway.table.tiers for one in part.endpoints} if gateway.table else set()
            held = {uids[name] for name in self.stuck if name in uids}
            gateway.running = dict.fromkeys(named, self.lines) | dict.fromkeys(held, 1)

    def _has_lines(self, uid: str) -> bool:
        return any(gateway.running.get(uid) for gateway in self.doors().values())

    def _start_pod(self, namespace: str, owner: str, deployment: dict[str, Any]) -> dict[str, Any]:
        pod = super()._start_pod(namespace, owner, deployment)
        slice_ = pod["metadata"]["labels"].get(names.LABEL_SLICE, "")
        if not slice_:
            return pod
        node = self._choose(slice_)
        return self.api.edit(
            "Pod", namespace, pod["metadata"]["name"], lambda live: live.update(spec={**live["spec"], "nodeName": node})
        )

    def _choose(self, slice_: str) -> str:
        taken = [pod["spec"].get("nodeName", "") for pod in self.engine_pods()]
        free = [
            (taken.count(node["metadata"]["name"]), node["metadata"]["name"])
            for node in self.peek("Node")
            if node["metadata"]["labels"]["slice"] == slice_
            and not node["spec"].get("unschedulable")
            and not node["spec"].get("taints")
            and taken.count(node["metadata"]["name"]) < self.per_machine
        ]
        if free:
            return str(min(free)[1])
        bought = f"{'spot' if slice_ == SPOT else 'od'}-{sum(1 for _ in self.peek('Node'))}"
        self.put_node(bought, slice_)  # somebody brings machines
        return bought


async def start(**options: object) -> Machines:
    """Engines that serve, each of them routed."""
    world = Machines(**options)  # type: ignore[arg-type]
    await world.settle(60)
    assert len(world.routed()) == len(world.engine_pods()) > 0
    return world


VAMPIRE, ZOMBIE = (served_name(name, digest(f"{name}-1")) for name in ("vampire", "zombie"))
