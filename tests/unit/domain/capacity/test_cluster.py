"""Random events through the whole decision (pods to facts, decision, pace, status) and a cluster that carries it out as
ReplicaSets do: the floor is always asked for, maxReplicas holds what runs and starts, and nothing that serves is ended
while it is needed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from npc_operator.api import names
from npc_operator.api.capacity import Capacity, CapacityStatus
from npc_operator.domain.capacity import (
    CapacityFacts,
    SliceFact,
    decide_capacity,
    look_at_slice,
    pace,
    read_capacity,
    write_capacity,
)
from npc_operator.domain.conditions import rfc3339
from npc_operator.domain.engines import Engine
from npc_operator.domain.facts import Pod
from npc_operator.domain.replicas import Split, split_replicas
from tests.support.builders import pod_fact
from tests.unit.domain.capacity.test_properties import CAPACITIES
from tests.unit.domain.capacity.worlds import NOW

SLICES = (names.SLICE_ON_DEMAND, names.SLICE_SPOT)
NODE_SECONDS, ENGINE_SECONDS = 20.0, 45.0


@dataclass(slots=True)
class Cluster:
    """Pods of one tier, and the Deployments that make and end them."""

    capacity: Capacity
    wanted: int
    max_replicas: int
    time: float = NOW
    room: int = 1000
    """Spot nodes that are to be had."""
    pods: list[Pod] = field(default_factory=list)
    since: dict[str, float] = field(default_factory=dict)
    """When each pod got its node."""
    leaving: dict[str, float] = field(default_factory=dict)
    """Uids of pods whose node goes away, and when it does."""
    asked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SLICES, 0))
    interruptions: list[float] = field(default_factory=list)
    status: CapacityStatus = field(default_factory=CapacityStatus)
    old: set[str] = field(default_factory=set)
    """Uids of pods of an older template: Deployments replace them, one above the wanted number, none below."""
    count: int = 0

    def of(self, slice_: str) -> list[Pod]:
        return [pod for pod in self.pods if pod.slice == slice_]

    def serving(self) -> int:
        return sum(pod.ready for pod in self.pods)

    def running(self) -> int:
        """Pods that run or start, and stay."""
        return sum(bool(pod.node) and pod.uid not in self.leaving for pod in self.pods)

    def surging(self, slice_: str) -> int:
        """Pods that a Deployment may have above what it was asked for."""
        return int(any(pod.uid in self.old for pod in self.of(slice_)))

    def look(self) -> CapacityFacts:
        engines = [Engine(pod, None) for pod in self.pods]

        def slice_(name: str) -> SliceFact:
            return look_at_slice(engines, name, desired=self.asked[name], leaving=self.leaving)

        return CapacityFacts(
            wanted=self.wanted,
            max_replicas=self.max_replicas,
            capacity=self.capacity,
            spot=slice_(names.SLICE_SPOT),
            on_demand=slice_(names.SLICE_ON_DEMAND),
            interruptions=tuple(self.interruptions),
            state=read_capacity(self.status),
        )

    def act(self, split: Split) -> None:
        self.asked = {slice_: split.of(slice_) for slice_ in SLICES}
        self.follow()

    def follow(self) -> None:
        """What Deployments do: who has no node goes first, then who starts, then the youngest that serves. Of an older
        template one that does not serve goes at once, another when more serve than are wanted."""
        for slice_ in SLICES:
            mine = sorted(self.of(slice_), key=lambda pod: (bool(pod.node), pod.ready, -int(pod.uid)))
            most = self.asked[slice_] + self.surging(slice_)
            for pod in mine[: max(0, len(mine) - most)]:
                self.end(pod)
            for pod in [pod for pod in self.of(slice_) if pod.uid in self.old]:
                if not pod.ready or sum(one.ready for one in self.of(slice_)) > self.asked[slice_]:
                    self.end(pod)
            most = self.asked[slice_] + self.surging(slice_)
            for _ in range(most - len(self.of(slice_))):
                self.count += 1
                uid = str(self.count)
                fields = {"uid": uid, "slice": slice_, "node": "", "ip": "", "ready": False, "phase": "Pending"}
                self.pods.append(pod_fact(f"pod-{uid}", created=rfc3339(self.time), **fields))

    def end(self, pod: Pod) -> None:
        self.pods.remove(pod)
        self.leaving.pop(pod.uid, None)
        self.since.pop(pod.uid, None)
        self.old.discard(pod.uid)

    def change(self, pod: Pod, **fields: object) -> None:
        self.pods[self.pods.index(pod)] = replace(pod, **fields)  # type: ignore[arg-type]

    def pass_time(self, seconds: float) -> None:
        """Nodes come, engines start, and what was to go is gone."""
        self.time += seconds
        for uid, end in list(self.leaving.items()):
            if self.time >= end:
                self.end(next(pod for pod in self.pods if pod.uid == uid))
        self.follow()
        taken = sum(bool(pod.node) for pod in self.of(names.SLICE_SPOT))
        for pod in list(self.pods):
            if not pod.node and seconds >= NODE_SECONDS:
                if pod.slice == names.SLICE_SPOT and taken >= self.room:
                    continue
                taken += pod.slice == names.SLICE_SPOT
                self.since[pod.uid] = self.time
                self.change(pod, node=f"node-{pod.uid}", ip="10.0.0.1", phase="Running")
            elif pod.node and not pod.ready and self.time - self.since[pod.uid] >= ENGINE_SECONDS:
                self.change(pod, ready=True)

    def notice(self, slice_: str, count: int) -> None:
        """Nodes of pods that serve go away in two minutes."""
        for pod in [pod for pod in self.of(slice_) if pod.ready and pod.uid not in self.leaving][:count]:
            self.leaving[pod.uid] = self.time + 120
            if slice_ == names.SLICE_SPOT:
                self.interruptions.append(self.time)

    def lose(self, count: int) -> None:
        """Spot nodes are gone without a notice."""
        for pod in [pod for pod in self.of(names.SLICE_SPOT) if pod.node][:count]:
            self.interruptions.append(self.time)
            self.end(pod)
        self.follow()

    def roll(self) -> None:
        """Another template: every pod that is there is of an older one now."""
        self.old = {pod.uid for pod in self.pods}
        self.follow()

    def crash(self, count: int) -> None:
        """Engines end and start again."""
        for pod in [pod for pod in self.pods if pod.ready][:count]:
            self.since[pod.uid] = self.time
            self.change(pod, ready=False)


def happen(cluster: Cluster, chance: random.Random) -> None:
    """One event, mostly that time passes."""
    if chance.random() < 0.7:
        cluster.pass_time(chance.choice((1, 20, 31, 61, 61, 299, 700)))
        return
    match chance.choice(
        ("notice", "notice", "lose", "crash", "room", "wanted", "capacity", "on-demand notice", "roll")
    ):
        case "notice":
            cluster.notice(names.SLICE_SPOT, chance.randint(1, 6))
        case "lose":
            cluster.lose(chance.randint(1, 6))
        case "crash":
            cluster.crash(chance.randint(1, 3))
        case "room":
            cluster.room = chance.choice((0, 2, 5, 1000))
        case "wanted":
            cluster.wanted = chance.randint(0, cluster.max_replicas)
        case "roll":
            cluster.roll()
        case "on-demand notice":
            cluster.notice(names.SLICE_ON_DEMAND, 1)
        case _:
            base = chance.randint(0, 5)
            percent = chance.choice((0, 0, 25, 50))
            cluster.capacity = cluster.capacity.model_copy(
                update={"on_demand_base": base, "on_demand_percentage_above_base": percent}
            )
    cluster.time += 1


@given(capacity=CAPACITIES, wanted=st.integers(0, 12), room=st.integers(0, 8), seed=st.integers(0, 2**32))
def test_whatever_happens_the_floor_the_bound_and_what_serves_hold(
    capacity: Capacity, wanted: int, room: int, seed: int
) -> None:
    chance = random.Random(seed)
    cluster = Cluster(capacity, wanted, wanted + room)
    for _ in range(80):
        happen(cluster, chance)
        fate = chance.choice(("ok", "ok", "ok", "ok", "dies before", "dies after telling"))
        facts = cluster.look()
        decision = decide_capacity(facts, cluster.time)
        assert decision.split is not None
        split = pace(decision.split, facts)
        if fate == "dies before":
            continue
        cluster.status = write_capacity(decision)
        if fate == "dies after telling":
            continue
        check(cluster, facts, split)


def check(cluster: Cluster, facts: CapacityFacts, split: Split) -> None:
    floor, spot, on_demand = split_replicas(cluster.wanted, cluster.capacity), facts.spot, facts.on_demand
    assert spot is not None
    assert on_demand is not None
    asked = Split(split.on_demand - on_demand.leaving, split.spot - spot.leaving)
    assert asked.on_demand >= floor.on_demand
    more = cluster.capacity.overprovision_replicas if floor.spot else 0
    bound = max(cluster.max_replicas, cluster.wanted) + 1 + more
    # On-demand pods that wait for nodes may be stuck, and spot is asked instead.
    was = sum(cluster.asked.values()) - on_demand.leaving - spot.leaving
    assert asked.on_demand + asked.spot <= max(bound + on_demand.pending, was)
    before = cluster.serving()
    cluster.act(split)
    assert cluster.running() <= bound + sum(map(cluster.surging, SLICES))
    # Nobody who is needed is sent away, unless a higher floor leaves no room.
    least = min(before, cluster.wanted, on_demand.ready + max(0, bound - asked.on_demand))
    assert cluster.serving() >= least
